
# New passwords and keys: the release is the one that serves, with other settings. Beside what all tasks are given:
#   env_old   the name of the settings that serve
#   rotated   the names that have new values, with spaces between
#   resumed   yes where a rotation with these values was cut short: databases may have taken either
#   mysql     yes where the demo source is of this stack
#   dags      as for the gate
# shellcheck shell=sh disable=SC2034,SC2154,SC2317 # assigned before, or read by common.sh; phases are called by name

# $1: a name, $2: the settings. Nothing that is read so stands on a command line.
value() { sed -n "s/^$1=//p" "$home/env/$2.env" | sed "s/^'\(.*\)'\$/\1/"; }
# $1: the settings whose passwords the databases take. A role that is not there, or not ours, is nobody's.
roles() {
    superuser=$(value POSTGRES_PASSWORD "$1") metadata=$(value AIRFLOW_DB_PASSWORD "$1") analytics=$(value POSTGRES_ANALYTICS_PASSWORD "$1")
    export superuser metadata analytics
    # shellcheck disable=SC2016 # expanded in the container
    docker exec -i -e superuser -e metadata -e analytics "$(container postgres)" sh -c 'psql --no-psqlrc --quiet -U "$POSTGRES_USER" -d postgres --set ON_ERROR_STOP=1' <<'SQL' || return 1
\getenv user_1 POSTGRES_USER
\getenv password_1 superuser
\getenv user_2 AIRFLOW_DB_USER
\getenv password_2 metadata
\getenv user_3 POSTGRES_ANALYTICS_USER
\getenv password_3 analytics
begin;
select format('alter role %I password %L', role, password)
from (values (:'user_1', :'password_1'), (:'user_2', :'password_2'), (:'user_3', :'password_3')) as wanted (role, password)
join pg_roles on rolname = role \gexec
commit;
SQL
    [ "$mysql" = yes ] || return 0
    # By the old password of root or by the new one: where this ended half-way, nobody can tell.
    root_old=$(value MYSQL_ROOT_PASSWORD "$env_old") root_new=$(value MYSQL_ROOT_PASSWORD "$env")
    root=$(value MYSQL_ROOT_PASSWORD "$1") demo=$(value DEMO_SOURCE_PASSWORD "$1") reader=$(value OPENDENTAL_SOURCE_PASSWORD "$1")
    export root_old root_new root demo reader
    # shellcheck disable=SC2016 # expanded in the container
    docker exec -i -e root_old -e root_new -e root -e demo -e reader "$(container mysql)" bash -s <<'END'
set -euo pipefail
literal() {
    local text=${1//\\/\\\\}
    printf "'%s'" "${text//\'/\'\'}"
}
as_root() { MYSQL_PWD=$1 mariadb --protocol=socket --user=root --batch --skip-column-names; }
now=$root_old
echo 'select 1' | as_root "$now" >/dev/null 2>&1 || now=$root_new
{
    echo "alter user $(literal "$MYSQL_USER")@'%' identified by $(literal "$demo");"
    echo "alter user $(literal "$OPENDENTAL_SOURCE_USER")@'%' identified by $(literal "$reader");"
    echo "select host from mysql.global_priv where user = 'root'" | as_root "$now" | while read -r host; do
        echo "alter user 'root'@$(literal "$host") identified by $(literal "$root");"
    done
} | as_root "$now"
END
}
# What one key wrote is written anew by another. $1: the settings of the one, $2: of the other
fernet() {
    old_key=$(value AIRFLOW_FERNET_KEY "$1") new_key=$(value AIRFLOW_FERNET_KEY "$2")
    [ "$old_key" != "$new_key" ] || { echo 'the key stays'; return 0; }
    AIRFLOW__CORE__FERNET_KEY="$new_key,$old_key" compose run --rm --no-deps -T -e AIRFLOW__CORE__FERNET_KEY airflow-init airflow rotate-fernet-key
}
# A release that is kept shall be able to serve again: its settings take the new values too, under a name of their own.
carry_over() {
    for file in "$home"/env/*.env; do
        was=$(basename "$file" .env)
        [ "$was" != "$env" ] || continue
        is=${was%%-*}-${run##*/}
        (
            umask 077
            awk -v "names=$rotated" '
                BEGIN { count = split(names, list, " "); for (n = 1; n <= count; n++) wanted[list[n]] }
                { name = $0; sub(/=.*/, "", name) }
                NR == FNR { if (name in wanted) value[name] = $0; next }
                { print (name in value) ? value[name] : $0 }' "$home/env/$env.env" "$file" >"$home/env/$is.env"
        ) && sync "$home/env/$is.env" || return 1
        # Just this name: one that this was cut short at begins with it.
        sed -i "s,/$was\.env,/$is.env,g" "$code"/releases/*/.release/compose &&
            sed -i "s/\"env\":\"$was\"/\"env\":\"$is\"/" "$code"/releases/*/.release/release.json &&
            sync "$code"/releases/*/.release/compose "$code"/releases/*/.release/release.json && rm "$file" || return 1
    done
}
revert() {
    phase stop stop_airflow
    serving=$old
    phase 'switch back' switch "$old" || finish failed
    phase databases start_databases || finish failed
    phase 'old passwords' roles "$env_old" || finish failed
    if [ -n "$backup_path" ]; then
        phase 'put back' restore "$backup_path" || finish failed
    fi
    # What the copy holds of accounts may be of a rotation that was cut short.
    [ "$resumed" = no ] || phase init init || finish failed
    { phase start start_airflow && phase verify truth 60 && phase resume resume; } || finish failed
    # It serves, but nobody can tell which key wrote what: the new one is not to be forgotten.
    [ "$mixed" = no ] || finish failed
    finish reverted
}
mixed=$resumed

begin
ours || finish refused
phase images images || finish refused
# It may have been cut short after it served.
if [ "$(cat "$home/good")" != "$id" ]; then
    serving=$old
    phase databases start_databases || finish refused
    # Whichever the database has taken: a run that is active goes on with it.
    [ "$resumed" = no ] || metadata revision >>"$run/log" 2>&1 9>&- || serving=$id
    phase drain drain || not_drained
    phase stop stop_airflow || revert
    serving=$old
    if [ "$resumed" = yes ]; then
        phase 'old passwords' roles "$env_old" || revert
        phase 'old key' fernet "$env" "$env_old" || revert
    fi
    mixed=no
    phase backup backup || revert
    phase passwords roles "$env" || revert
    serving=$id
    phase switch switch "$id" || revert
    phase databases start_databases || revert
    phase fernet fernet "$env_old" "$env" || revert
    phase init init || revert
    phase gate gate || revert
    phase start start_airflow || revert
    phase verify truth 60 || revert
    settle
fi
phase 'kept releases' carry_over
carried=$?
# Those of before want the old key.
phase 'copy after' backup
phase resume resume || finish failed
# The next one goes on here.
[ "$carried" = 0 ] || finish failed
finish 'done'
