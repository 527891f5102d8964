#!/usr/bin/env bash
# scripts/compose.sh WORDS...: `docker compose WORDS...` for docker-compose.gpu.yml, with the images of deploy/images.env, the
# digests of deploy/digests.env where scripts/resolve_digests.sh made them, the settings of .env, and secrets that are made when
# they are missing. A docker-compose.override.yml of your own is taken as well.
#   scripts/compose.sh up --detach --build --wait      starts the stack, or what of it has changed
#   scripts/compose.sh monitoring                      writes what Prometheus is told of engines and GPUs anew
#   STOKER_DEV=1 scripts/compose.sh up                 with docker-compose.dev.yml: code from this folder, reloaded
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

fail() {
  printf 'compose.sh: %s\n  what to do: %s\n' "$1" "$2" >&2
  exit 1
}

[[ $# -gt 0 ]] || fail "say what to do" "scripts/compose.sh up --detach --build --wait"

if [[ ! -e .env ]]; then
  (umask 077 && cp deploy/compose/env.example .env)
  echo "compose.sh: made .env out of deploy/compose/env.example: look at it" >&2
fi

if [[ "$1" == monitoring ]]; then
  [[ -x .stoker/envs/api/bin/python ]] || fail "the API side's environment is not here" "run ./stoker --help once, which makes it"
  config="$(sed -n 's/^STOKER_CONFIG_FILE=//p' .env | tail -n 1)"
  exec ./.stoker/envs/api/bin/python -m monitoring.write --only-installation --folder deploy/compose/monitoring \
    --config "${config:-deploy/compose/stoker.yaml}" --gpu dcgm-exporter:9400 --keeper keeper:9464 --worker worker:9464 \
    --receiver webhook "${@:2}"
fi

command -v docker >/dev/null || fail "there is no docker" "install Docker Engine with its compose plugin"
docker compose version >/dev/null 2>&1 || fail "docker has no compose plugin" "install docker-compose-plugin, version 2.24 or newer"
scripts/init_secrets.sh

files=(--file docker-compose.gpu.yml)
[[ ! -e docker-compose.override.yml ]] || files+=(--file docker-compose.override.yml)
[[ -z "${STOKER_DEV:-}" ]] || files+=(--file docker-compose.dev.yml)
environments=(--env-file deploy/images.env)
[[ ! -e deploy/digests.env ]] || environments+=(--env-file deploy/digests.env)
exec docker compose "${environments[@]}" --env-file .env "${files[@]}" "$@"
