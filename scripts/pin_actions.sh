#!/usr/bin/env bash
# scripts/pin_actions.sh [FOLDER]: replaces each action's tag in .github/workflows by the commit that it names now, with the tag
# behind it as a comment: `uses: actions/checkout@COMMIT # v7`. What has a commit already stays.
set -euo pipefail
folder="${1:-.github/workflows}"

for file in "$folder"/*.yml; do
  while read -r action; do
    name="${action%@*}" tag="${action#*@}"
    [[ ! "$tag" =~ ^[0-9a-f]{40}$ ]] || continue
    repository="$(cut -d/ -f1,2 <<<"$name")"
    # An annotated tag is listed twice; the one behind ^{} is the commit.
    commit="$(git ls-remote "https://github.com/$repository" "refs/tags/$tag" "refs/tags/$tag^{}" | sort -k2 | tail -n 1 | cut -f1)"
    [[ "$commit" =~ ^[0-9a-f]{40}$ ]] || { echo "pin_actions.sh: $repository has no tag $tag" >&2; exit 1; }
    sed -i "s|uses: $action\$|uses: $name@$commit # $tag|" "$file"
  done < <(sed -n 's/^ *-\{0,1\} *uses: *\([^ ./][^ ]*\).*/\1/p' "$file" | sort -u)
done
