# shellcheck shell=sh
# What a closer look tells, changing nothing. $1: the stack's folder, then ports.
folder=$1
shift
for file in "$folder"/env/*.env "$folder/.env"; do
    [ ! -e "$file" ] || printf 'settings %s %s\n' "$(stat -c '%a %U' "$file")" "$file"
done
for port; do
    holder=$(docker ps --filter "publish=$port" --format '{{.Label "com.docker.compose.project"}} {{.Names}}' 2>/dev/null | head -n 1)
    if [ -n "$holder" ]; then
        printf 'port %s %s\n' "$port" "$holder"
    elif cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port="$(printf ':%04X' "$port")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }'; then
        printf 'port %s - -\n' "$port"
    else
        printf 'port %s\n' "$port"
    fi
done
