
# A deploy: the part that must not end half-way. Beside what all tasks are given:
#   way       first, restart or code
#   gated     yes where the release passed its gate before
#   dags      as for the gate
#   keep      how many releases stay
# shellcheck shell=sh disable=SC2034,SC2154,SC2317 # assigned before, or read by common.sh; phases are called by name
seed() { compose run --rm --no-deps -T demo-seed; }
reread() { metadata reparse && now >"$run/since" && truth 30; }

# The schema that the release to fall back to was made for: it cannot serve with another. $after: the one that is there
take_back() {
    case $backup_path in *"-$made_for.dump") restore "$backup_path"; return ;; esac
    newest=$(find "$home/backups" -name "*-$made_for.dump" 2>/dev/null | sort | tail -n 1)
    if [ -z "$backup_path" ]; then
        echo "error: the metadata database is on another server, which alone has copies of it; it was migrated from $made_for to $after"
        echo "hint: put its copy of before back there and deploy the commit of $old; or mend what failed, and deploy forward"
    else
        echo "error: the metadata database was migrated from $made_for to $after by a deploy before this one"
        echo "hint: mend what failed, and deploy forward; or: cargo xtask restore --host $host --release $old --from $(basename "${newest:-COPY}")"
    fi >"$run/failed"
    cat "$run/failed"
    return 1
}

# What a failed deploy leaves is what was there before it.
revert() {
    case $way in
        code)
            serving=$old
            phase 'switch back' switch "$old" && phase 'read again' reread && phase resume resume && finish reverted
            ;;
        restart)
            phase stop stop_airflow
            serving=$old
            phase 'switch back' switch "$old" || finish failed
            phase databases start_databases || finish failed
            made_for=$(cat "$code/releases/$old/.release/revision" 2>/dev/null) after=$(revision)
            : "${made_for:=${before:-}}"
            [ -n "$after" ] || [ -z "$made_for" ] || finish failed
            if [ -n "$made_for" ] && [ "$after" != "$made_for" ]; then
                # With --now nothing was paused: the copy may lack what ran since. A person decides.
                [ "$wait" != now ] || finish failed
                phase 'restore the backup' take_back || finish failed
            fi
            phase start start_airflow && phase verify truth 60 && phase resume resume && finish reverted
            ;;
        first)
            phase 'clean up' clean && finish reverted
            ;;
    esac
    finish failed
}
# One that is stopped, or was never started after it was made anew, answers no gate.
databases_run() {
    for service in $databases; do
        [ "$(docker inspect --format '{{.State.Running}}' "$(container "$service")" 2>/dev/null)" = true ] || return 1
    done
}
# Nothing was changed. A release that served before stays.
refuse() {
    [ "$gated" = yes ] || rm -rf "$code/releases/$id"
    finish refused
}
clean() {
    volumes=--volumes
    [ ! -e "$run/volumes" ] || volumes=
    # shellcheck disable=SC2086 # nothing, or a flag
    compose down $volumes --remove-orphans --timeout 20
    rm -rf "$code/current" "$code/releases/$id"
}
# The newest copies stay however old they are, and the newest of each revision that a release that is kept was made for.
old_copies() {
    needed=$(cat "$code"/releases/*/.release/revision 2>/dev/null)
    # By their age: those that were brought here are named otherwise.
    find "$home/backups" -name "*.dump" -printf '%T@ %p\n' 2>/dev/null | sort -rn | cut -d ' ' -f 2- | while read -r copy; do
        of=${copy##*-} n=$((${n:-0} + 1))
        of=${of%.dump}
        case " ${seen:-} " in *" $of "*) newest= ;; *) newest=yes seen="${seen:-} $of" ;; esac
        [ "$n" -gt "$keep" ] || continue
        [ -z "$newest" ] || ! echo "$needed" | grep -qxF "$of" || continue
        find "$copy" "${copy%.dump}.unpaused" -mtime +30 2>/dev/null
    done
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
    # Left by an engine that was restarted.
    docker ps --all --quiet --filter "label=com.docker.compose.project=$project" --filter label=com.docker.compose.oneoff=True \
        --filter status=exited | xargs -r docker rm
    find "$home/deploys" -mindepth 1 -maxdepth 1 -mtime +90 -exec rm -rf {} +
    old_copies | xargs -r -d '\n' rm -f
    return 0
}

begin
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
if [ "$way" = restart ] && ! databases_run; then
    serving=$old
    phase databases start_databases || finish refused
    serving=$id
fi
if [ "$gated" != yes ]; then
    phase gate gate || {
        [ "$way" = first ] && revert
        refuse
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
        phase backup backup || {
            phase resume resume || finish failed
            refuse
        }
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
settle
phase resume resume || finish failed
phase prune prune
finish 'done'
