# The part of a deploy that must not end half-way. It runs on the host, to its end, without ssh: whatever becomes of the
# machine that asked for it. Before it stand, as quoted assignments:
#   home      the stack's folder
#   run       this deploy's own folder below it: what is written here is the journal, a log, and what was found
#   id        the release that is to serve
#   old       the release to fall back to; empty where there is none
#   way       first, restart or code
#   gated     yes where the release passed its gate before
#   mount     where containers see the code
#   project   Compose's project
#   databases, dags   names of services and of DAGs, with spaces between
#   wait      seconds to wait for a run that is active; now: whatever runs
#   keep      how many releases stay
#   who       for the audit log; JSON
# shellcheck shell=sh disable=SC2154,SC2317 # assigned before; phases are called by name
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
    fi
    return "$status"
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
# What the code of the new release asks of Airflow's database.
metadata() {
    set -- python "$mount/releases/$id/airflow/release/metadata.py" "$@"
    scheduler=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=False --filter label=com.docker.compose.service=airflow-scheduler)
    if [ -n "$scheduler" ]; then
        docker exec "$scheduler" "$@"
    else
        compose run --rm --no-deps -T airflow-init "$@"
    fi
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
gate() {
    where=airflow-init skip=
    # Settings and the source are what they were: a clinic's server that sleeps by day stops no change of code.
    [ "$way" != code ] || where=$(container airflow-scheduler) skip=fernet,source,analytics
    with_new_code "$where" python "$mount/releases/$id/airflow/release/gate.py" --dags "$(echo "$dags" | tr ' ' ,)" \
        --skip "$skip" --serve-as "$mount/releases/$id=$mount/current" >"$run/gate.json" &&
        cp "$run/gate.json" "$code/releases/$id/.release/gate.json"
}

# Waits until services run and are healthy; $1 seconds, then their names.
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
                exited* | dead* | restarting* | *' '[1-9]*)
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
seed() { compose run --rm --no-deps -T demo-seed; }

# 4: a run is active. Every DAG that is not paused is noted before it is paused, and only then: nothing is lost wherever this ends.
drain() {
    metadata unpaused >"$run/unpaused" || return 1
    [ ! -e "$home/paused" ] || cat "$home/paused" >>"$run/unpaused"
    sort -u "$run/unpaused" >"$run/paused.new" && mv "$run/paused.new" "$home/paused"
    [ "$wait" != now ] || return 0
    metadata pause --wait "$wait"
}
resume() {
    [ -e "$home/paused" ] || return 0
    # shellcheck disable=SC2046 # ids of DAGs
    [ ! -s "$home/paused" ] || metadata unpause $(cat "$home/paused") || return 1
    rm -f "$home/paused"
}

backup_path=$home/backups/$(basename "$run").dump
in_postgres() { docker exec -i "$(container postgres)" sh -c "$1"; }
# A copy that was not restored once is no backup.
backup() {
    case " $databases " in *' postgres '*) ;; *) echo 'the metadata database is not ours to copy'; return 0 ;; esac
    mkdir -p "$home/backups" && chmod 700 "$home/backups" || return 1
    # shellcheck disable=SC2016 # expanded in the container
    (umask 077 && in_postgres 'pg_dump -U "$POSTGRES_USER" --format custom "$AIRFLOW_DB_NAME"' >"$backup_path") || return 1
    # shellcheck disable=SC2016 # expanded in the container
    in_postgres 'createdb -U "$POSTGRES_USER" "$AIRFLOW_DB_NAME"_proof && pg_restore -U "$POSTGRES_USER" --exit-on-error --dbname "$AIRFLOW_DB_NAME"_proof
        code=$?; dropdb -U "$POSTGRES_USER" --if-exists "$AIRFLOW_DB_NAME"_proof; exit $code' <"$backup_path"
}
# The database as it was when everything was paused. Nothing has run since.
restore() {
    # shellcheck disable=SC2016 # expanded in the container
    in_postgres 'dropdb -U "$POSTGRES_USER" --force "$AIRFLOW_DB_NAME" && createdb -U "$POSTGRES_USER" --owner "$AIRFLOW_DB_USER" "$AIRFLOW_DB_NAME" &&
        pg_restore -U "$POSTGRES_USER" --exit-on-error --dbname "$AIRFLOW_DB_NAME"' <"$backup_path"
}
revision() {
    # shellcheck disable=SC2016 # expanded in the container
    in_postgres 'psql -U "$POSTGRES_USER" -d "$AIRFLOW_DB_NAME" -Atc "select version_num from alembic_version"' 2>/dev/null
}

# shellcheck disable=SC2086 # names of services
stop_airflow() { compose stop $airflow; }
init() { compose run --rm --no-deps -T airflow-init; }
switch() { ln -sfn "releases/$1" "$code/.next" && mv -T "$code/.next" "$code/current"; }
start_airflow() {
    now >"$run/since"
    # shellcheck disable=SC2086 # names of services
    compose up --detach --no-deps --no-build --force-recreate $airflow && healthy 480 $airflow
}
# What runs is what was asked for, and Airflow has read just the DAGs that the gate has read.
truth() {
    wanted=$(sed -n 's/^export AIRFLOW_IMAGE=//p' "$code/releases/$serving/.release/compose")
    for service in $airflow; do
        runs=$(docker inspect --format '{{.Config.Image}} {{.Image}}' "$(container "$service")")
        [ "$runs" = "$wanted $(docker image inspect --format '{{.Id}}' "$wanted")" ] ||
            { echo "error: $service runs $runs, not $wanted"; return 1; }
    done
    metadata live --since "$(cat "$run/since")" --expect "$(cat "$code/releases/$serving/.release/gate.json")" --limit "$1"
}
reread() { metadata reparse && now >"$run/since" && truth 30; }

not_drained() {
    code_of_drain=$status
    phase resume resume || finish failed
    [ "$code_of_drain" = 4 ] && finish active
    finish refused
}

# What a failed deploy leaves is what was there before it.
revert() {
    case $way in
        code)
            serving=$old
            phase 'switch back' switch "$old" && phase 'read again' reread && phase resume resume && finish reverted
            ;;
        restart)
            # By the new image, which knows the new schema.
            after=$(revision)
            phase stop stop_airflow
            serving=$old
            phase 'switch back' switch "$old" || finish failed
            if [ -n "${before:-}" ] && [ -n "$after" ] && [ "$after" != "$before" ]; then
                # With --now nothing was paused: the copy may lack what ran since. A person decides.
                [ "$wait" != now ] || finish failed
                phase 'restore the backup' restore || finish failed
            fi
            phase start start_airflow && phase verify truth 60 && phase resume resume && finish reverted
            ;;
        first)
            phase 'clean up' clean && finish reverted
            ;;
    esac
    finish failed
}
clean() {
    volumes=--volumes
    [ ! -e "$run/volumes" ] || volumes=
    # shellcheck disable=SC2086 # nothing, or a flag
    compose down $volumes --remove-orphans --timeout 20
    rm -rf "$code/current" "$code/releases/$id"
}
prune() {
    # The newest, what serves and what served before stay.
    kept=$(find "$code/releases" -mindepth 3 -maxdepth 3 -path '*/.release/good' | sed 's,/.release/good$,,; s,.*/,,' | sort -r | head -n "$keep")
    # Images that only these releases named: others on this machine are somebody else's.
    gone=
    for folder in "$code"/releases/*; do
        case " $(echo "$kept" | tr '\n' ' ') $id $old " in
            *" $(basename "$folder") "*) ;;
            *)
                gone="$gone $(sed -n 's/^export [A-Z]*_IMAGE=//p' "$folder/.release/compose" | tr '\n' ' ')"
                rm -rf "$folder"
                ;;
        esac
    done
    used=$(sed -n 's/^export [A-Z]*_IMAGE=//p' "$code"/releases/*/.release/compose | sort -u)
    for name in $gone; do
        echo "$used" | grep -qxF "$name" || docker image rm "$name"
    done
    for file in "$home"/env/*.env; do
        grep -qF "$(basename "$file")" "$code"/releases/*/.release/compose || rm -f "$file"
    done
    find "$home/deploys" -mindepth 1 -maxdepth 1 -mtime +90 -exec rm -rf {} +
    find "$home/backups" -name '*.dump' -mtime +30 -delete 2>/dev/null
    return 0
}

exec 9>>"$home/lock"
if ! flock --nonblock 9; then
    note lock failed
    note end busy
    exit 0
fi
printf '%s, deploy of %s' "$(now)" "$id" >"$home/busy"

[ "$way" = code ] || phase images images || finish refused
if [ "$way" = first ]; then
    # Data that was there before is never removed; where nobody can tell, nothing begins.
    volumes=$(docker volume ls --quiet --filter "label=com.docker.compose.project=$project") || finish refused
    [ -z "$volumes" ] || : >"$run/volumes"
    # Nothing serves yet, and the databases read their first scripts through the link.
    phase switch switch "$id" || revert
    phase databases start_databases || revert
    case " $databases " in *' mysql '*) phase 'demo source' seed || revert ;; esac
fi
if [ "$gated" != yes ]; then
    phase gate gate || {
        [ "$way" = first ] && revert
        rm -rf "$code/releases/$id"
        finish refused
    }
fi
case $way in
    code)
        phase drain drain || not_drained
        phase switch switch "$id" || revert
        phase live reread || revert
        ;;
    restart)
        phase drain drain || not_drained
        before=$(revision)
        phase backup backup || { phase resume resume; finish failed; }
        phase databases start_databases || revert
        phase stop stop_airflow || revert
        phase switch switch "$id" || revert
        phase init init || revert
        phase start start_airflow || revert
        phase verify truth 60 || revert
        ;;
    first)
        phase init init || revert
        phase start start_airflow || revert
        phase verify truth 60 || revert
        ;;
esac
revision >"$code/releases/$id/.release/revision"
: >"$code/releases/$id/.release/good"
printf %s "$id" >"$home/good.new" && mv "$home/good.new" "$home/good"
phase resume resume || finish failed
phase prune prune
finish 'done'
