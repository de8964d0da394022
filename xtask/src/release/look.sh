# shellcheck shell=sh
# What a copy of the metadata database holds, and what the database holds now; a line of JSON each. The copy is restored beside
# it for that, and removed again. $1: the stack's folder, $2: Compose's project, $3: the copy's name.
postgres=$(docker ps --quiet --filter "label=com.docker.compose.project=$2" --filter label=com.docker.compose.oneoff=False --filter label=com.docker.compose.service=postgres)
[ -n "$postgres" ] || exit 9
query="select json_build_object(
    'revision', (select version_num from alembic_version),
    'until', (select max(latest_heartbeat) from job),
    'runs', (select coalesce(json_agg(json_build_object('dag', dag_id, 'id', run_id, 'state', state,
        'at', coalesce(start_date, queued_at, execution_date)) order by coalesce(start_date, queued_at, execution_date)), '[]') from dag_run))"
# shellcheck disable=SC2016 # expanded in the container
docker exec -i "$postgres" sh -c '
    export PGUSER="$POSTGRES_USER"
    look=${AIRFLOW_DB_NAME}_look_$$
    trap "dropdb --if-exists \"$look\"" EXIT
    createdb "$look" && pg_restore --exit-on-error --dbname "$look" || exit 8
    echo "copy $(psql -d "$look" -Atc "$1")"
    echo "live $(psql -d "$AIRFLOW_DB_NAME" -Atc "$1" 2>/dev/null)"' look "$query" <"$1/backups/$3" || {
    code=$?
    # What was brought for this and is no copy does not stay among them.
    case $code,$3 in 8,given-*) rm -f "$1/backups/$3" ;; esac
    exit "$code"
}
