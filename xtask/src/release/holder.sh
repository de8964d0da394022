# shellcheck shell=sh
# Who holds the lock, a line each: a word, a space, the value. $1: the stack's folder, $2: end, to end it.
home=$1 end=${2:-}
say() { printf '%s %s\n' "$1" "$2"; }
held() { [ -e "$home/lock" ] && ! flock --nonblock "$home/lock" true; }
if ! held; then
    # Left by a script that did not come to its end.
    [ ! -e "$home/busy" ] || { say left "$(cat "$home/busy")"; rm -f "$home/busy"; }
    exit 0
fi
say held "$(cat "$home/busy" 2>/dev/null || echo 'somebody')"
for file in "$home"/deploys/*/pid; do
    [ -s "$file" ] || continue
    run=${file%/pid} pid=$(cat "$file")
    # A number is given again: it has to be that script.
    tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF "$run/run" || continue
    # Ended, with a parent that never asks.
    [ "$(sed 's/.*) //; s/ .*//' "/proc/$pid/stat")" != Z ] || continue
    # Turned away, and about to end.
    ! tail -n 1 "$run/journal" | grep -qF '"phase":"end"' || continue
    say run "$(basename "$run")"
    say pid "$pid"
    say event "$(tail -n 1 "$run/journal")"
    say silent "$(($(date +%s) - $(stat -c %Y "$run/journal" "$run/log" | sort -n | tail -n 1)))"
    break
done
[ "$end" = end ] && [ -n "${pid:-}" ] && [ -n "${run:-}" ] || exit 0
kill -s TERM -- "-$pid"
n=0
while held && [ "$n" -lt 100 ]; do sleep 0.1 && n=$((n + 1)); done
if held; then
    kill -s KILL -- "-$pid"
    say killed yes
    n=0
    while held && [ "$n" -lt 50 ]; do sleep 0.1 && n=$((n + 1)); done
fi
# What it had started by Compose goes on without it.
project=$(sed -n "s/^project=//p" "$run/run")
[ -z "$project" ] || docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=True | xargs -r docker stop >/dev/null
held || { rm -f "$home/busy"; say ended yes; }
