#!/bin/bash
# The contract of the upstream mariadb image that the stack relies on (bases/README.md): on an empty data directory make
# the system tables, root, a database with its user, and run /docker-entrypoint-initdb.d; then become the server.
set -euo pipefail

data=/var/lib/mysql
socket=/run/mysqld/mysqld.sock

log() { printf 'entrypoint: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# MARIADB_x, else MYSQL_x, else the content of the file that MARIADB_x_FILE or MYSQL_x_FILE names, else a default.
# Both names are exported for the init scripts.
from_env() {
    local suffix=$1 value="" name file found=""
    for name in "MARIADB_${suffix}" "MYSQL_${suffix}"; do
        file="${name}_FILE"
        if [[ -n ${!name:-} && -n ${!file:-} ]]; then
            die "both ${name} and ${file} are set"
        elif [[ -z ${found} && -n ${!name:-} ]]; then
            value=${!name} found=yes
        elif [[ -z ${found} && -n ${!file:-} ]]; then
            value=$(<"${!file}") found=yes
        fi
        unset "${file}"
    done
    value=${value:-${2:-}}
    export "MARIADB_${suffix}=${value}" "MYSQL_${suffix}=${value}"
}

# A value as an SQL string literal, a name as an SQL identifier.
literal() {
    local value=${1//\\/\\\\}
    printf "'%s'" "${value//\'/\'\'}"
}
identifier() { printf '\x60%s\x60' "${1//\`/\`\`}"; }
random() { head -c 24 /dev/urandom | base64 -w 0; }

# The client as root over the socket. The password goes by the environment, never by argv.
sql() {
    MYSQL_PWD=${root_password:-} mariadb --no-defaults --protocol=socket --socket="${socket}" --user=root "$@"
}

run_init_scripts() {
    local script database=()
    [[ -n ${MARIADB_DATABASE} ]] && database=(--database="${MARIADB_DATABASE}")
    for script in /docker-entrypoint-initdb.d/*; do
        case ${script} in
            *.sh)
                log "running ${script}"
                if [[ -x ${script} ]]; then
                    "${script}"
                else
                    # shellcheck source=/dev/null
                    . "${script}"
                fi
                ;;
            *.sql)
                log "running ${script}"
                sql "${database[@]}" <"${script}"
                ;;
            *.sql.gz)
                log "running ${script}"
                gzip -dc "${script}" | sql "${database[@]}"
                ;;
            */\*) ;;
            *) log "ignoring ${script}" ;;
        esac
    done
}

accounts() {
    local host password
    # mariadb-install-db also makes root@127.0.0.1, root@::1 and root@<host>, all without a password.
    cat <<'SQL'
delete from mysql.global_priv where host <> 'localhost' or user not in ('root', 'mariadb.sys');
delete from mysql.proxies_priv where host <> 'localhost';
flush privileges;
SQL
    # For healthcheck.sh: may log in from here, and do nothing.
    password=$(random)
    for host in localhost 127.0.0.1 ::1; do
        printf 'create user healthcheck@%s identified by %s;\n' "$(literal "${host}")" "$(literal "${password}")"
    done
    (umask 077 && printf '[client]\nuser=healthcheck\npassword="%s"\n' "${password}" >"${data}/.my-healthcheck.cnf")
    if [[ -n ${MARIADB_ROOT_PASSWORD} ]]; then
        printf 'alter user root@localhost identified by %s;\n' "$(literal "${MARIADB_ROOT_PASSWORD}")"
    fi
    if [[ -n ${MARIADB_ROOT_HOST} && ${MARIADB_ROOT_HOST} != localhost ]]; then
        host=$(literal "${MARIADB_ROOT_HOST}")
        printf 'create user root@%s identified by %s;\n' "${host}" "$(literal "${MARIADB_ROOT_PASSWORD}")"
        printf 'grant all on *.* to root@%s with grant option;\n' "${host}"
    fi
    if [[ -n ${MARIADB_DATABASE} ]]; then
        printf 'create database if not exists %s;\n' "$(identifier "${MARIADB_DATABASE}")"
    fi
    if [[ -n ${MARIADB_USER} && -n ${MARIADB_PASSWORD} ]]; then
        printf 'create user %s@%s identified by %s;\n' \
            "$(literal "${MARIADB_USER}")" "'%'" "$(literal "${MARIADB_PASSWORD}")"
        if [[ -n ${MARIADB_DATABASE} ]]; then
            # In a grant, _ and % of a database name are wildcards.
            host=${MARIADB_DATABASE//_/\\_}
            printf 'grant all on %s.* to %s@%s;\n' \
                "$(identifier "${host//%/\\%}")" "$(literal "${MARIADB_USER}")" "'%'"
        fi
    fi
}

initialise() {
    local tries server
    from_env ROOT_PASSWORD
    from_env ROOT_HOST %
    from_env DATABASE
    from_env USER
    from_env PASSWORD
    from_env RANDOM_ROOT_PASSWORD
    from_env ALLOW_EMPTY_ROOT_PASSWORD "${MYSQL_ALLOW_EMPTY_PASSWORD:-}"
    if [[ -n ${MARIADB_RANDOM_ROOT_PASSWORD} ]]; then
        # Upstream prints it to the log; a secret does not belong there, so nobody knows it but the init scripts.
        MARIADB_ROOT_PASSWORD=$(random)
        export MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD=${MARIADB_ROOT_PASSWORD}
    elif [[ -z ${MARIADB_ROOT_PASSWORD}${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD} ]]; then
        die "the data directory is empty: set MARIADB_ROOT_PASSWORD (or _FILE) or MARIADB_RANDOM_ROOT_PASSWORD"
    fi

    log "making the system tables"
    mariadb-install-db --datadir="${data}" --auth-root-authentication-method=normal --skip-test-db \
        --skip-log-bin --default-time-zone=SYSTEM >/dev/null

    # The first server has no port, so that nobody takes it for ready.
    "$@" --skip-networking --socket="${socket}" --default-time-zone=SYSTEM --skip-log-bin &
    server=$!
    root_password=""
    for ((tries = 60; tries > 0; tries--)); do
        sql --database=mysql --execute 'select 1' >/dev/null 2>&1 && break
        kill -0 "${server}" 2>/dev/null || die "the server stopped while starting for the first time"
        sleep 0.5
    done
    ((tries > 0)) || die "the server did not answer within 30 seconds"
    if [[ -z ${MARIADB_INITDB_SKIP_TZINFO:-${MYSQL_INITDB_SKIP_TZINFO:-}} ]]; then
        mariadb-tzinfo-to-sql --skip-write-binlog /usr/share/zoneinfo 2>/dev/null | sql --database=mysql
    fi
    accounts | sql
    root_password=${MARIADB_ROOT_PASSWORD}
    run_init_scripts
    kill "${server}"
    wait "${server}"
    log "initialised; starting"
}

[[ ${1:-} == -* ]] && set -- mariadbd "$@"
[[ ${1:-} == mysqld ]] && set -- mariadbd "${@:2}"

if [[ ${1:-} == mariadbd ]]; then
    if [[ $(id -u) == 0 ]]; then
        install -d -o mysql -g mysql "${data}" "${socket%/*}"
        find "${data}" ! -user mysql -exec chown mysql: {} +
        exec setpriv --reuid mysql --regid mysql --init-groups -- "$0" "$@"
    fi
    if [[ ! -d ${data}/mysql ]]; then
        initialise "$@"
    else
        log "database found in ${data}; not initialising"
    fi
    unset MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD MARIADB_PASSWORD MYSQL_PASSWORD
fi
exec "$@"
