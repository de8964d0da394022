
# Airflow's database as a copy has it. Beside what all tasks are given:
#   from      the copy's file
# shellcheck shell=sh disable=SC2034,SC2154,SC2317 # assigned before, or read by common.sh; phases are called by name

# A database without a schema says of no run, and has nothing to lose.
quiesce() { [ -z "$(revision)" ] || drain; }
# Nothing runs any more: to this, and to nothing older, a failure goes back.
save() {
    : >"$run/known"
    [ -n "$(revision)" ] || { echo 'there is no schema to copy'; return 0; }
    ask 'select dag_id from dag' >"$run/known" && backup
}
# What was paused by hand since the copy was made stays so; DAGs that only the copy knows are as they were then. Until the end
# all of them are paused.
take() {
    cp "$home/paused" "$run/paused.before" 2>/dev/null || : >"$run/paused.before"
    restore "$from" && ask 'select dag_id from dag where not is_paused' >"$run/in-copy" || return 1
    [ ! -e "${from%.dump}.unpaused" ] || cat "${from%.dump}.unpaused" >>"$run/in-copy"
    { cat "$run/paused.before" && grep -vxFf "$run/known" "$run/in-copy"; } | sort -u >"$run/paused.new" && mv "$run/paused.new" "$home/paused" &&
        ask 'update dag set is_paused = true'
}
put_back() { restore "$backup_path" && cp "$run/paused.before" "$home/paused"; }
revert() {
    phase stop stop_airflow
    serving=$old
    [ "$id" = "$old" ] || phase 'switch back' switch "$old" || finish failed
    if [ -n "$taken" ]; then
        [ -n "$backup_path" ] || finish failed
        phase 'put back' put_back || finish failed
    fi
    phase start start_airflow && phase verify truth 60 && phase resume resume && finish reverted
    finish failed
}
taken=

begin
if ! ours || [ ! -r "$from" ]; then finish refused; fi
phase images images || finish refused
phase databases start_databases || finish refused
phase drain quiesce || not_drained
phase stop stop_airflow || revert
phase backup save || revert
[ "$id" = "$old" ] || phase switch switch "$id" || revert
taken=yes
phase restore take || revert
phase init init || revert
phase start start_airflow || revert
phase verify truth 60 || revert
settle
phase resume resume || finish failed
finish 'done'
