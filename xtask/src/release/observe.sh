
# shellcheck shell=sh
# What of the stack is there. $1: the stack's folder, $2: where containers see the code, $3: Compose's project, or nothing for
# that of the release that serves; then names of images.
home=$1 mount=$2 code=$1/code
project=${3:-$(sed -n 's/^exec .* --project-name \([^ ]*\) .*/\1/p' "$code/current/.release/compose" 2>/dev/null)}
shift 3
[ ! -L "$code/current" ] || say current "$(basename "$(readlink "$code/current")")"
[ ! -r "$home/good" ] || say good "$(cat "$home/good")"
[ ! -s "$home/paused" ] || say paused "$(tr '\n' ' ' <"$home/paused")"
for release in "$code"/releases/*/.release/release.json; do
    [ -r "$release" ] || continue
    own=${release%/release.json}
    say release "$(cat "$release")"
    [ ! -e "$own/good" ] || say passed "$(basename "${own%/.release}") $(cat "$own/revision" 2>/dev/null)"
done
if [ -e "$home/lock" ] && ! flock --nonblock "$home/lock" true; then say busy "$(cat "$home/busy" 2>/dev/null || echo somebody)"; fi
[ -n "$engine" ] || exit 0
for name; do
    format='{"Id":{{json .Id}},"RootFS":{{json .RootFS}},"Config":{"Labels":{ {{with .Config.Labels}}{{with index . "dental.image.inputs"}}"dental.image.inputs":{{json .}}{{end}}{{end}} }}}'
    ! found=$(docker image inspect --format "$format" "$name" 2>/dev/null) || say image "$name $found"
done
labels='{{index .Config.Labels "com.docker.compose.service"}} {{index .Config.Labels "com.docker.compose.oneoff"}}'
docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$project" | xargs -r docker inspect --format \
    "container $labels {{.Id}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}} {{.Config.Image}} {{.Image}}"
scheduler=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.service=airflow-scheduler --filter label=com.docker.compose.oneoff=False)
[ -z "$scheduler" ] || say state "$(docker exec "$scheduler" python "$mount/current/airflow/release/metadata.py" state 2>/dev/null)"
