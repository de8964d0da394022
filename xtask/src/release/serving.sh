# shellcheck shell=sh
# What serves, and with what settings. $1: the stack's folder.
say() { printf '%s %s\n' "$1" "$2"; }
own=$1/code/current/.release
[ -r "$own/release.json" ] || exit 0
say release "$(basename "$(readlink "$1/code/current")")"
env=$(sed -n 's/^exec .* --env-file \([^ ]*\) .*/\1/p' "$own/compose")
[ ! -r "$env" ] || sed 's/^/env /' "$env"
project=$(sed -n 's/^exec .* --project-name \([^ ]*\) .*/\1/p' "$own/compose")
labels='{{index .Config.Labels "com.docker.compose.service"}} {{index .Config.Labels "com.docker.compose.oneoff"}}'
docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$project" | xargs -r docker inspect --format \
    "container $labels {{.Id}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}} {{.Config.Image}} {{.Image}}"
webserver=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.service=airflow-webserver)
[ -z "$webserver" ] || say web "$(docker port "$webserver" 8080/tcp | awk 'NR == 1 || /^127\./ { found = $0 } END { print found }')"
