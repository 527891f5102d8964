#!/usr/bin/env bash
# scripts/smoke_test.sh URL KEY: whether a running Stoker does what it is for: health, models, chat, a stream, embeddings, a document
# that is ingested, found and cited, metrics. Says of each what it saw; exits with the number of those that failed.
#   SMOKE_MODEL=NAME    the chat model; unset: the first one listed that does not embed. SMOKE_MODEL=none: there is none
#   SMOKE_EMBEDDER=NAME the embedding model; unset: all-minilm-l6-v2
#   SMOKE_METRICS=URL   where /metrics is, which the front refuses; unset: URL/metrics, and 404 there is right
#   SMOKE_CA=FILE       the authority of a certificate that this machine does not trust
# Leaves nothing behind: its collection is deleted.
set -uo pipefail

if [[ $# -ne 2 || "$1" != http* || -z "$2" ]]; then
  echo "usage: scripts/smoke_test.sh URL KEY" >&2
  exit 64
fi
for program in curl python3; do
  command -v "$program" >/dev/null || { echo "smoke_test.sh: install $program" >&2; exit 64; }
done

url="${1%/}"
folder="$(mktemp -d)"
collection="smoke-$$-$RANDOM"
failed=0
# The key reaches curl in a file: on a command line others of this machine could read it.
(umask 077 && printf 'header = "Authorization: Bearer %s"\n' "$2" >"$folder/key")

leave() {
  ask DELETE "/v1/collections/$collection" >/dev/null 2>&1
  rm -rf "$folder"
}
trap leave EXIT

# ask METHOD PATH [JSON]: the answer's body; fails for any status but 2xx, with status and body on standard error.
ask() {
  local status data=()
  [[ $# -lt 3 ]] || data=(--header "Content-Type: application/json" --data-binary "$3")
  status="$(curl --silent --show-error --no-buffer --max-time 180 ${SMOKE_CA:+--cacert "$SMOKE_CA"} --config "$folder/key" \
    --request "$1" "${data[@]}" --output "$folder/body" --write-out '%{http_code}' "$url$2")" || return 1
  if [[ "$status" != 2* ]]; then
    echo "$1 $2 answered $status: $(head -c 300 "$folder/body")" >&2
    return 1
  fi
  cat "$folder/body"
}

# found EXPRESSION: of the JSON on standard input (`it`); fails where it is empty or false.
found() {
  python3 -c '
import json, sys
it = json.load(sys.stdin)
value = eval(sys.argv[1], {"it": it, "any": any, "len": len, "str": str, "next": next})
if not value: sys.exit("not so: " + sys.argv[1] + " of " + json.dumps(it)[:300])
print(value)' "$1"
}

step() { # NAME COMMAND...
  local name="$1" said
  shift
  if said="$("$@" 2>"$folder/error")"; then
    printf 'ok      %-12s %s\n' "$name" "$(head -n 1 <<<"$said" | head -c 100)"
  else
    printf 'FAILED  %-12s %s\n' "$name" "$(tail -n 1 "$folder/error" | head -c 400)"
    failed=$((failed + 1))
  fi
}

health() { ask GET /health/ready | found 'it["status"] == "ok" and "ready"'; }

models() { ask GET /v1/models | found '", ".join(one["id"] for one in it["data"])'; }

chat() {
  ask POST /v1/chat/completions \
    '{"model": "'"$model"'", "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]}' \
    | found 'it["choices"][0]["message"]["content"] and it["usage"]["completion_tokens"] and "answered by " + it["model"]'
}

stream() {
  ask POST /v1/chat/completions \
    '{"model": "'"$model"'", "max_tokens": 16, "stream": true, "messages": [{"role": "user", "content": "Count to five."}]}' \
    >"$folder/stream" || return 1
  local frames
  frames="$(grep -c '^data: {' "$folder/stream")"
  if [[ "$frames" -lt 2 ]] || ! grep -q '^data: \[DONE\]' "$folder/stream"; then
    echo "the stream had $frames frames and ended with: $(tail -c 200 "$folder/stream")" >&2
    return 1
  fi
  echo "$frames frames"
}

embeddings() {
  ask POST /v1/embeddings '{"model": "'"$embedder"'", "input": ["a smoke test"]}' \
    | found 'str(len(it["data"][0]["embedding"])) + " dimensions"'
}

ingest() {
  ask POST /v1/collections '{"name": "'"$collection"'"}' >/dev/null || return 1
  local job status=queued
  job="$(ask POST /v1/ingest '{"collection": "'"$collection"'", "documents": [{"title": "smoke",
    "content": "The lighthouse of Varrow was built in 1847. Its keeper, Ilsa Brandt, painted it green."}]}' \
    | found 'it["job_id"]')" || return 1
  for _ in $(seq 120); do
    status="$(ask GET "/v1/jobs/$job" | found 'it["status"]')" || return 1
    case "$status" in
      succeeded) echo "$status" && return ;;
      failed | cancelled) ask GET "/v1/jobs/$job" | head -c 300 >&2; return 1 ;;
    esac
    sleep 1
  done
  echo "job $job is still $status after two minutes: does the ingestion worker run?" >&2
  return 1
}

query() {
  ask POST /v1/query '{"query": "When was the lighthouse of Varrow built?", "collection": "'"$collection"'", "use_cache": false}' \
    | found 'next((one["quote"] for one in it["citations"] if "1847" in one["quote"]), None)'
}

metrics() {
  local status
  if [[ -n "${SMOKE_METRICS:-}" ]]; then
    curl --silent --show-error --fail --max-time 30 "$SMOKE_METRICS" >"$folder/metrics" 2>"$folder/why" || {
      cat "$folder/why" >&2
      return 1
    }
    grep -c '^stoker_' "$folder/metrics" | grep -v '^0$' || { echo "it tells of nothing of ours" >&2; return 1; }
    return
  fi
  status="$(curl --silent --max-time 30 ${SMOKE_CA:+--cacert "$SMOKE_CA"} --output "$folder/metrics" --write-out '%{http_code}' "$url/metrics")"
  case "$status" in
    200) grep -q '^stoker_' "$folder/metrics" && echo "served" ;;
    404) echo "kept inside" ;;
    *) echo "/metrics answered $status" >&2 && return 1 ;;
  esac
}

step health health
step models models
embedder="${SMOKE_EMBEDDER:-all-minilm-l6-v2}"
first='next((one["id"] for one in it["data"] if "'"$embedder"'" not in one["id"]), None)'
model="${SMOKE_MODEL:-$(ask GET /v1/models 2>/dev/null | found "$first" 2>/dev/null)}"
if [[ "$model" != none ]]; then
  step chat chat
  step stream stream
fi
step embeddings embeddings
step ingest ingest
step query query
step metrics metrics

[[ $failed -eq 0 ]] && echo "all is well at $url" || echo "$failed failed at $url" >&2
exit "$failed"
