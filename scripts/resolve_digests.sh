#!/usr/bin/env bash
# scripts/resolve_digests.sh: asks the registries which digest each tag of deploy/images.env has now, and writes them to
# deploy/digests.env, which scripts/compose.sh then uses: what was tried is what runs, whatever a tag is moved to. Our own images
# are built here and are left out. Run it on staging, and carry the file to production.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

digest_of() { # IMAGE
  if command -v skopeo >/dev/null; then
    skopeo inspect --format '{{.Digest}}' "docker://$(full "$1")"
  else
    docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$1"
  fi
}

full() { # skopeo wants the registry's name
  case "${1%%/*}" in
    *.*) echo "$1" ;;
    "$1") echo "docker.io/library/$1" ;;
    *) echo "docker.io/$1" ;;
  esac
}

command -v skopeo >/dev/null || command -v docker >/dev/null || {
  echo "resolve_digests.sh: install skopeo, or Docker with buildx" >&2
  exit 1
}
new="$(mktemp deploy/.digests.XXXXXX)"
trap 'rm -f "$new"' EXIT
while IFS='=' read -r name image; do
  [[ "$name" =~ ^[A-Z_]+$ && "$name" != STOKER_* ]] || continue
  digest="$(digest_of "$image")" || {
    echo "resolve_digests.sh: $name: no registry knows $image: mend deploy/images.env, or log in" >&2
    exit 1
  }
  [[ "$digest" =~ ^sha256:[0-9a-f]{64}$ ]] || {
    echo "resolve_digests.sh: $name: $digest is no digest" >&2
    exit 1
  }
  echo "$name=$image@$digest"
done <deploy/images.env >"$new"
[[ -s "$new" ]] || { echo "resolve_digests.sh: deploy/images.env names no image" >&2; exit 1; }
chmod 644 "$new"
mv "$new" deploy/digests.env
echo "wrote deploy/digests.env" >&2
