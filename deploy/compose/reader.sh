#!/bin/sh
# Makes the database user that Grafana's dashboard Tenants asks by, who may read three tables and nothing else. Runs at every
# start, after the migrations: the tables are there, and a new password counts.
set -eu
PGPASSWORD="$(cat "${SECRETS:-/run/secrets}/postgres_password")"
export PGPASSWORD
reader_password="$(cat "${SECRETS:-/run/secrets}/grafana_sql_password")"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set password="$reader_password" <<'SQL'
SELECT 'CREATE ROLE grafana' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana') \gexec
ALTER ROLE grafana LOGIN PASSWORD :'password' CONNECTION LIMIT 10;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
GRANT SELECT ON ledger, tenants, budget_alerts TO grafana;
SQL
