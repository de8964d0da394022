
# All that the stack has here goes, but copies of its metadata database and the audit log. Beside what all tasks are given:
#   copy      yes where the metadata database is copied before
# shellcheck shell=sh disable=SC2154,SC2317 # assigned before; phases are called by name

# A database without a schema says of no run; one on another server stays, and so do its DAGs.
quiesce() { ! ours || [ -z "$(revision)" ] || drain; }
all() { docker "$@" --quiet --filter "label=com.docker.compose.project=$project"; }
containers() {
    all ps --all | xargs -r docker stop && all ps --all | xargs -r docker rm --force --volumes
}
networks() { all network ls | xargs -r docker network rm; }
volumes() { all volume ls | xargs -r docker volume rm; }
# Those that another container was made of stay: the engine refuses.
unneeded_images() {
    sed -n 's/^export [A-Z]*_IMAGE=//p' "$code"/releases/*/.release/compose | sort -u | while read -r name; do
        docker image rm "$name"
    done
    return 0
}
# Last, for it is the releases that say which containers are theirs.
files() {
    rm -rf "$home/env" "$home/run" "$home/build" "$home/airflow" "$home/good" "$home/paused" "$code" || return 1
    find "$home/deploys" -mindepth 1 -maxdepth 1 ! -path "$run" -exec rm -rf {} +
}

begin
if [ "$copy" = yes ] || [ "$wait" != now ]; then
    phase databases start_databases || finish refused
    phase drain quiesce || not_drained
fi
if [ "$copy" = yes ]; then
    phase backup backup || { phase resume resume; finish refused; }
fi
phase containers containers || finish failed
phase networks networks || finish failed
phase volumes volumes || finish failed
phase images unneeded_images
phase files files || finish failed
finish 'done'
