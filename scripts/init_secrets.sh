#!/usr/bin/env bash
# scripts/init_secrets.sh [FOLDER]: makes the secrets of docker-compose.gpu.yml that are not there yet, in deploy/secrets.
# What is there stays as it is, so it may be run again. Compose gives a file to a container with the permissions that it has
# here, and each image has a user of its own: the files are readable, and the folder is closed to all but its owner.
set -euo pipefail

main() {
  root="$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
  folder="${1:-$root/deploy/secrets}"
  umask 077
  mkdir -p "$folder/tls"
  chmod 700 "$folder"

  keep admin_key "sk-stoker-$(random 'abcdefghijkmnpqrstuvwxyz23456789' 32)"
  keep postgres_password "$(random 'A-Za-z0-9' 40)"
  keep redis_password "$(random 'A-Za-z0-9' 40)"
  keep minio_password "$(random 'A-Za-z0-9' 40)"
  keep grafana_password "$(random 'A-Za-z0-9' 24)"
  keep grafana_sql_password "$(random 'A-Za-z0-9' 40)"
  keep database_url "postgresql+asyncpg://stoker:$(cat "$folder/postgres_password")@postgres:5432/stoker"
  keep redis_url "redis://:$(cat "$folder/redis_password")@valkey:6379/0"
  keep milvus_user.yaml "minio: {accessKeyID: milvus, secretAccessKey: $(cat "$folder/minio_password")}"
  keep alert_webhook "http://127.0.0.1:9/" # nobody: write the address of who is told of alerts
  [[ -e "$folder/hf_token" ]] || publish hf_token "" # a token for gated models; empty: none
  chmod 755 "$folder/tls"
}

keep() { # NAME TEXT
  [[ -s "$folder/$1" ]] || publish "$1" "$2"
}

publish() { # NAME TEXT: it appears whole, or not at all
  printf '%s\n' "$2" >"$folder/.$1.new"
  chmod 444 "$folder/.$1.new"
  mv "$folder/.$1.new" "$folder/$1"
  echo "made $folder/$1" >&2
}

random() { # SIGNS COUNT
  local text
  text="$(LC_ALL=C tr -dc "$1" < <(head -c 65536 /dev/urandom))"
  [[ ${#text} -ge $2 ]] || { echo "init_secrets.sh: /dev/urandom gave too little: run it again" >&2; exit 1; }
  printf '%s' "${text:0:$2}"
}

main "$@"
