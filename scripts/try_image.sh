#!/usr/bin/env bash
# scripts/try_image.sh IMAGE MEGABYTES: whether an image of the API side is within its size, and starts read-only, without
# capabilities, as its own user; for CI, where there is an engine.
set -euo pipefail
image="$1" bound="$2"

bytes="$(docker image inspect --format '{{.Size}}' "$image")"
echo "$image: $((bytes / 1000000)) MB"
((bytes < bound * 1000000)) || { echo "try_image.sh: $image has more than $bound MB" >&2; exit 1; }

run=(docker run --read-only --cap-drop ALL --security-opt no-new-privileges
  --tmpfs /tmp --tmpfs "/run/stoker/metrics:uid=10001,gid=10001" --tmpfs "/var/lib/stoker:uid=10001,gid=10001,mode=0700")
name="try-image-$$"
trap 'docker rm --force "$name" >/dev/null 2>&1 || true' EXIT
"${run[@]}" --name "$name" --detach --entrypoint sh "$image" -c 'python -m storage.migrate && exec python -m api' >/dev/null
for _ in $(seq 60); do
  if docker exec "$name" python -m monitoring.probe http://127.0.0.1:8080/health/live 2>/dev/null; then
    [[ "$(docker exec "$name" id -u)" == 10001 ]] || { echo "try_image.sh: it runs as another user" >&2; exit 1; }
    echo "$image starts"
    exit 0
  fi
  sleep 1
done
docker logs "$name" >&2
echo "try_image.sh: $image did not answer within a minute" >&2
exit 1
