# What the host runs by itself, to its end, without ssh: whatever becomes of the machine that asked for it. Here is what all
# of it shares; what is to be done comes after. Before it stand, as quoted assignments:
#   host      its name in deploy.toml
#   home      the stack's folder
#   run       this task's own folder below it: what is written here is the journal, a log, and what was found
#   doing     what is done, for a person
#   way       the same in a word, for the audit log
#   id        the release that is to serve
#   old       the release to fall back to; empty where there is none
#   env       the name of its settings
#   mount     where containers see the code
#   project   Compose's project
#   databases names of services, with spaces between
#   wait      seconds to wait for a run that is active; now: whatever runs
#   who       for the audit log; JSON
# shellcheck shell=sh disable=SC2034,SC2154,SC2317 # assigned before or read after; phases are called by name
set -u
umask 022
code=$home/code
airflow='airflow-webserver airflow-scheduler'
serving=$id

now() { date -u +%Y-%m-%dT%H:%M:%S.%6NZ; }
millis() { date +%s%3N; }
# $1 the phase, $2 how it stands, $3 milliseconds
note() { printf '{"at":"%s","phase":"%s","state":"%s","ms":%s}\n' "$(now)" "$1" "$2" "${3:-0}" >>"$run/journal"; }
# $1 the phase, then what is to be done
phase() {
    phase=$1 begun=$(millis)
    shift
    note "$phase" begun
    # Nothing that is started here may keep the lock.
    "$@" >>"$run/log" 2>&1 9>&-
    status=$?
    if [ "$status" = 0 ]; then
        note "$phase" 'done' $(($(millis) - begun))
    else
        note "$phase" failed $(($(millis) - begun))
        # What is done next to mend it has words of its own.
        [ -e "$run/failed" ] || tail --lines 30 "$run/log" >"$run/failed"
        # Where it failed because the engine is being restarted, what comes next shall find it again.
        await_engine
    fi
    return "$status"
}
await_engine() {
    tries=0
    until docker version >/dev/null 2>&1 || [ "$tries" = 300 ]; do
        tries=$((tries + 1))
        sleep 1
    done
}
finish() {
    printf '{"at":"%s","release":"%s","from":"%s","way":"%s","wait":"%s","end":"%s","who":%s}\n' \
        "$(now)" "$id" "$old" "$way" "$wait" "$1" "$who" >>"$home/audit.jsonl"
    rm -f "$home/busy"
    note end "$1"
    exit 0
}

compose() { sh "$code/releases/$serving/.release/compose" "$@"; }
container() { docker ps --all --quiet --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False --filter "label=com.docker.compose.service=$1"; }
# What the code of the new release asks of Airflow's database. A scheduler that runs is the quickest to ask; one that is started
# again and again, or that has a password of before, is of no use, and so is each where passwords change.
metadata() {
    asked=$1
    set -- python "$mount/releases/$id/airflow/release/metadata.py" "$@"
    scheduler=$(docker ps --quiet --filter status=running --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False --filter label=com.docker.compose.service=airflow-scheduler)
    if [ -n "$scheduler" ] && [ "$way" != rotate ]; then
        docker exec "$scheduler" "$@" && return 0
        # 4: a run is active.
        code_of_exec=$?
        case "$way $asked $code_of_exec" in 'code '* | *' live '* | *' reparse '* | *' 4') return "$code_of_exec" ;; esac
    fi
    compose run --rm --no-deps -T airflow-init "$@"
}

# Airflow as it would be with the new code.
with_new_code() {
    new=$mount/releases/$id
    set -- -e "PROJECT_ROOT=$new" -e "AIRFLOW__CORE__DAGS_FOLDER=$new/airflow/dags" \
        -e "AIRFLOW__CORE__PLUGINS_FOLDER=$new/airflow/plugins" -e "PYTHONPATH=$new/etl_pipeline" \
        -e "DBT_PROJECT_DIR=$new/dbt_dental_models" -e "DBT_PROFILES_DIR=$new/dbt_dental_models" "$@"
    if [ "$way" = code ]; then
        docker exec "$@"
    else
        compose run --rm --no-deps -T "$@"
    fi
}
# What has to hold before a release serves; dags are the ids of DAGs that have to be there, with spaces between.
gate() {
    where=airflow-init skip=
    # Settings and the source are what they were: a clinic's server that sleeps by day stops no change of code.
    [ "$way" != code ] || where=$(container airflow-scheduler) skip=fernet,source,analytics
    with_new_code "$where" python "$mount/releases/$id/airflow/release/gate.py" --dags "$(echo "$dags" | tr ' ' ,)" \
        --skip "$skip" --serve-as "$mount/releases/$id=$mount/current" --dbt-manifest >"$run/gate" || return 1
    own=$code/releases/$id/.release
    head --lines 1 "$run/gate" >"$own/gate.json" && tail --lines +2 "$run/gate" >"$own/manifest.json" && rm "$run/gate"
}

# Waits until services run and are healthy; $1 seconds, then their names. One may have ended once: a scheduler of 2.7 can
# lose its first connection to the child that answers health checks, which inherits it; started again, it has not.
healthy() {
    until=$(($(date +%s) + $1))
    shift
    for service; do
        while :; do
            name=$(container "$service")
            [ -n "$name" ] || { echo "error: $service is not there"; return 1; }
            stands=$(docker inspect --format '{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}} {{.RestartCount}}' "$name")
            case $stands in
                'running healthy '*) break ;;
                exited* | dead* | *' '[2-9] | *' '[1-9][0-9]*)
                    echo "error: $service: $stands; its last lines:"
                    docker logs --tail 30 "$name" 2>&1
                    return 1
                    ;;
            esac
            if [ "$(date +%s)" -gt "$until" ]; then
                echo "error: $service is still $stands; its last lines:"
                docker logs --tail 30 "$name" 2>&1
                return 1
            fi
            sleep 0.3
        done
    done
}
# Nothing is fetched from anywhere: what is to run is here before anything stops.
images() {
    sed -n 's/^export [A-Z]*_IMAGE=//p' "$code/releases/$id/.release/compose" | while read -r name; do
        docker image inspect --format "{{.Id}} $name" "$name" || exit 1
    done
}
start_databases() {
    [ -n "$databases" ] || return 0
    # shellcheck disable=SC2086 # names of services
    compose up --detach --no-deps --no-build $databases && healthy 180 $databases
}

# 4: a run is active. Every DAG that is not paused is noted before it is paused, and only then: nothing is lost wherever this ends.
drain() {
    metadata unpaused >"$run/unpaused" || return 1
    [ ! -e "$home/paused" ] || cat "$home/paused" >>"$run/unpaused"
    # On the disk, not only in the machine's memory, before the database has it.
    sort -u "$run/unpaused" >"$run/paused.new" && sync "$run/paused.new" && mv "$run/paused.new" "$home/paused" && sync "$home" || return 1
    [ "$wait" != now ] || return 0
    metadata pause --wait "$wait"
}
resume() {
    [ -e "$home/paused" ] || return 0
    # shellcheck disable=SC2046 # ids of DAGs
    [ ! -s "$home/paused" ] || metadata unpause $(cat "$home/paused") || return 1
    rm -f "$home/paused"
}

in_postgres() { docker exec -i "$(container postgres)" sh -c "$1"; }
# Of the release that is to serve; the metadata database may be on another server though Postgres is a service here.
ours() {
    case " $databases " in *' postgres '*) ;; *) return 1 ;; esac
    grep -q '^AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=.*@postgres[:/]' "$home/env/$env.env"
}
# A copy of the metadata database; its name is the time and Airflow's revision. One that was not restored once is no copy.
backup() {
    ours || { echo 'the metadata database is not ours to copy'; return 0; }
    mkdir -p "$home/backups" && chmod 700 "$home/backups" || return 1
    held=$(revision)
    name=$(date -u +%Y%m%dT%H%M%SZ)-${held:-none}.dump
    # shellcheck disable=SC2016 # expanded in the container
    if ! (umask 077 && in_postgres 'pg_dump -U "$POSTGRES_USER" --format custom "$AIRFLOW_DB_NAME"' >"$home/backups/$name.part") ||
        ! proof "$home/backups/$name.part"; then
        rm -f "$home/backups/$name.part"
        return 1
    fi
    # In it they are paused.
    [ ! -s "$home/paused" ] || (umask 077 && cat "$home/paused" >"$home/backups/${name%.dump}.unpaused") || return 1
    mv "$home/backups/$name.part" "$home/backups/$name" || return 1
    backup_path=$home/backups/$name
    printf %s "$name" >"$run/backup"
}
backup_path=
proof() {
    # shellcheck disable=SC2016 # expanded in the container
    in_postgres 'dropdb -U "$POSTGRES_USER" --if-exists "$AIRFLOW_DB_NAME"_proof && createdb -U "$POSTGRES_USER" "$AIRFLOW_DB_NAME"_proof &&
        pg_restore -U "$POSTGRES_USER" --exit-on-error --dbname "$AIRFLOW_DB_NAME"_proof
        code=$?; dropdb -U "$POSTGRES_USER" --if-exists "$AIRFLOW_DB_NAME"_proof; exit $code' <"$1"
}
# The database as a copy has it. It takes the other's place in one transaction, once it is whole.
restore() { in_postgres "$in_its_place" <"$1"; }
in_its_place=$(
    cat <<'END'
set -e
export PGUSER="$POSTGRES_USER" PGDATABASE=postgres
next=${AIRFLOW_DB_NAME}_next before=${AIRFLOW_DB_NAME}_before
dropdb --if-exists "$next"
createdb --owner "$AIRFLOW_DB_USER" "$next"
pg_restore --exit-on-error --dbname "$next"
dropdb --if-exists --force "$before"
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set db="$AIRFLOW_DB_NAME" --set next="$next" --set before="$before" <<'SQL'
revoke connect on database :"next" from public;
select exists (select from pg_database where datname = :'db') as there \gset
select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = :'db' \g /dev/null
begin;
\if :there
alter database :"db" rename to :"before";
\endif
alter database :"next" rename to :"db";
commit;
SQL
dropdb --if-exists --force "$before"
END
)
# $1: what to ask the metadata database
ask() {
    # shellcheck disable=SC2016 # expanded in the container
    docker exec -i "$(container postgres)" sh -c 'psql -U "$POSTGRES_USER" -d "$AIRFLOW_DB_NAME" -Atc "$1"' ask "$1"
}
revision() {
    if ours; then ask 'select version_num from alembic_version' 2>/dev/null; else metadata revision 2>/dev/null; fi
}

alone() { docker ps --all --quiet --filter "label=com.docker.compose.project=$project" --filter 'name=-alone$'; }
# What was started without Compose goes: the engine would start it again beside the other, after a reboot.
stop_airflow() {
    # shellcheck disable=SC2086 # names of services
    compose stop $airflow && alone | xargs -r docker stop && alone | xargs -r docker rm
}
init() { compose run --rm --no-deps -T airflow-init; }
switch() { ln -sfn "releases/$1" "$code/.next" && mv -T "$code/.next" "$code/current"; }
start_airflow() {
    now >"$run/since"
    # shellcheck disable=SC2086 # names of services
    compose up --detach --no-deps --no-build --force-recreate $airflow && healthy 480 $airflow
}
# A container that ends soon after its start does not serve, though it was healthy for a moment. It may do so once, as above.
steady() {
    for service in $airflow; do
        name=$(container "$service")
        while :; do
            state=$(docker inspect --format '{{.State.Status}} {{.RestartCount}} {{.State.StartedAt}}' "$name") || return 1
            case $state in
                'running '[01]' '*) [ $(($(date +%s) - $(date --date "${state##* }" +%s))) -lt 15 ] || break ;;
                'restarting '[01]' '*) ;;
                *)
                    echo "error: $service ended soon after its start; its last lines:"
                    docker logs --tail 30 "$name" 2>&1
                    return 1
                    ;;
            esac
            sleep 0.5
        done
    done
}
# What runs is what was asked for, and Airflow has read just the DAGs that the gate has read. $1: seconds
truth() {
    wanted=$(sed -n 's/^export AIRFLOW_IMAGE=//p' "$code/releases/$serving/.release/compose")
    for service in $airflow; do
        runs=$(docker inspect --format '{{.Config.Image}} {{.Image}}' "$(container "$service")")
        [ "$runs" = "$wanted $(docker image inspect --format '{{.Id}}' "$wanted")" ] ||
            { echo "error: $service runs $runs, not $wanted"; return 1; }
    done
    # A switch of code starts nothing; what a container did long ago is not its concern.
    # shellcheck disable=SC2086 # names of services
    [ "$way" = code ] || { steady && healthy 480 $airflow; } || return 1
    limit=$1
    # One that was started without Compose has passed no gate: then any DAGs do that can be read.
    set -- "$(cat "$code/releases/$serving/.release/gate.json" 2>/dev/null)"
    metadata live --since "$(cat "$run/since")" --limit "$limit" ${1:+--expect "$1"} || return 1
    # What ended while the scheduler was asked does not serve either.
    [ "$way" = code ] || steady
}
# It has served well.
settle() {
    revision >"$code/releases/$id/.release/revision"
    : >"$code/releases/$id/.release/good"
    printf %s "$id" >"$home/good.new" && mv "$home/good.new" "$home/good"
}

not_drained() {
    code_of_drain=$status
    phase resume resume || finish failed
    [ "$code_of_drain" = 4 ] && finish active
    finish refused
}

# One at a time. The lock is the kernel's: it ends with this script, however that ends.
begin() {
    exec 9>>"$home/lock"
    if ! flock --nonblock 9; then
        note lock failed
        note end busy
        exit 0
    fi
    printf '%s, %s' "$(now)" "$doing" >"$home/busy"
}
