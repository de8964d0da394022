# shellcheck shell=sh
# All that the stack has on this machine, a line each: a word, a space, what it is. $1: the stack's folder, $2: Compose's project.
all() { docker "$@" --filter "label=com.docker.compose.project=$project"; }
home=$1 project=$2
if [ -n "$project" ]; then
    all ps --all --format 'container {{.Names}}'
    all network ls --format 'network {{.Name}}'
    all volume ls --format 'volume {{.Name}}'
    sed -n 's/^export [A-Z]*_IMAGE=/image /p' "$home"/code/releases/*/.release/compose 2>/dev/null | sort -u
fi
for path in "$home"/code/releases/* "$home"/env/*.env "$home/run" "$home/build" "$home/airflow" "$home/deploys" "$home/good" "$home/paused"; do
    [ ! -e "$path" ] || echo "file $path"
done
for path in "$home"/backups/*.dump "$home/audit.jsonl"; do
    [ ! -e "$path" ] || echo "kept $path"
done
