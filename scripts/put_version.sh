#!/usr/bin/env bash
# scripts/put_version.sh FOLDER VERSION | --before: has the compose stack in FOLDER run a version's images, and waits until all
# is healthy. FOLDER/.env names the images; the version before is kept in FOLDER/.version.before. `--before` puts it back.
# Going back leaves the schema as it is: where CHANGELOG.md says that a version's schema is none for the one before, restore the
# backup of the database as well.
set -euo pipefail

fail() {
  printf 'put_version.sh: %s\n  what to do: %s\n' "$1" "$2" >&2
  exit 1
}

[[ $# -eq 2 ]] || fail "say where and what" "scripts/put_version.sh /srv/stoker v1.2.3"
folder="$1" version="$2"
[[ -e "$folder/.env" ]] || fail "$folder has no .env" "set the stack up there first: docs/deploy/gpu-host.md"
registry="$(sed -n 's/^STOKER_REGISTRY=//p' "$folder/.env" | tail -n 1)"
[[ -n "$registry" ]] || fail "$folder/.env names no STOKER_REGISTRY" "write STOKER_REGISTRY=ghcr.io/OWNER there"

now="$(sed -n 's|^STOKER_API_IMAGE=.*:||p' "$folder/.env" | tail -n 1)"
if [[ "$version" == --before ]]; then
  [[ -s "$folder/.version.before" ]] || fail "no version before is known" "name one"
  version="$(<"$folder/.version.before")"
elif [[ -n "$now" && "$now" != "$version" ]]; then
  printf '%s\n' "$now" >"$folder/.version.before"
fi
[[ "$version" =~ ^v[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "$version is no version" "name one such as v1.2.3"

new="$(mktemp "$folder/.env.XXXXXX")"
trap 'rm -f "$new"' EXIT
grep -vE '^STOKER_(API|INFERENCE|INFERENCE_CPU)_IMAGE=' "$folder/.env" >"$new" || true
{
  echo "STOKER_API_IMAGE=$registry/stoker-api:$version"
  echo "STOKER_INFERENCE_IMAGE=$registry/stoker-inference:$version"
} >>"$new"
mv "$new" "$folder/.env"
if [[ -d "$folder/.git" ]]; then git -C "$folder" fetch --quiet --tags && git -C "$folder" checkout --quiet "$version"; fi
cd -- "$folder"
scripts/compose.sh pull --quiet
scripts/compose.sh up --detach --no-build --wait --wait-timeout 2400
echo "$folder runs $version" >&2
