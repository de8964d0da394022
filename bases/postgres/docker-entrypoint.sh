#!/bin/bash
# The contract of the upstream postgres image that the stack relies on (bases/README.md): on an empty PGDATA make the
# cluster, its superuser and database, and run /docker-entrypoint-initdb.d; then become the server.
set -euo pipefail

log() { printf 'entrypoint: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# NAME, else the content of the file that NAME_FILE names, else a default; exported for the init scripts.
from_env() {
    local name=$1 file="${1}_FILE" default=${2:-}
    if [[ -n ${!name:-} && -n ${!file:-} ]]; then
        die "both ${name} and ${file} are set"
    elif [[ -n ${!file:-} ]]; then
        export "${name}=$(<"${!file}")"
    else
        export "${name}=${!name:-${default}}"
    fi
    unset "${file}"
}

run_init_scripts() {
    local script
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
                sql --file "${script}"
                ;;
            *.sql.gz)
                log "running ${script}"
                gzip -dc "${script}" | sql
                ;;
            */\*) ;;
            *) log "ignoring ${script}" ;;
        esac
    done
}

# psql as the superuser, in the new database, over the socket, stopping at the first error.
sql() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER}" --no-password \
        --dbname "${POSTGRES_DB}" "$@"
}

initialise() {
    from_env POSTGRES_PASSWORD
    from_env POSTGRES_USER postgres
    from_env POSTGRES_DB "${POSTGRES_USER}"
    from_env POSTGRES_INITDB_ARGS
    local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [[ -z ${POSTGRES_PASSWORD} && ${method} != trust ]]; then
        die "POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE) is not set, and the database is empty"
    fi

    local options=()
    read -r -a options <<<"${POSTGRES_INITDB_ARGS}"
    if [[ -n ${POSTGRES_PASSWORD} ]]; then
        # By a file descriptor: neither on argv nor on disk.
        initdb --username "${POSTGRES_USER}" --pwfile <(printf '%s\n' "${POSTGRES_PASSWORD}") "${options[@]}"
    else
        initdb --username "${POSTGRES_USER}" "${options[@]}"
    fi
    printf '\nhost all all all %s\n' "${method}" >>"${PGDATA}/pg_hba.conf"

    # The first server listens on the socket alone, so that nobody takes it for ready.
    shift # "postgres"
    PGUSER=${POSTGRES_USER} pg_ctl --silent --wait start \
        -o "$(printf '%q ' "$@" -c listen_addresses='' -p "${PGPORT:-5432}")"
    if [[ ${POSTGRES_DB} != postgres ]]; then
        psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set db="${POSTGRES_DB}" --username "${POSTGRES_USER}" \
            --no-password --dbname postgres <<<'create database :"db";'
    fi
    run_init_scripts
    PGUSER=${POSTGRES_USER} pg_ctl --silent --wait --mode fast stop
    unset POSTGRES_PASSWORD
    log "initialised; starting"
}

[[ ${1:-} == -* ]] && set -- postgres "$@"

if [[ ${1:-} == postgres ]]; then
    if [[ $(id -u) == 0 ]]; then
        install -d -o postgres -g postgres -m 0700 "${PGDATA}"
        find "${PGDATA}" ! -user postgres -exec chown postgres {} +
        install -d -o postgres -g postgres -m 3777 /var/run/postgresql
        exec setpriv --reuid postgres --regid postgres --init-groups -- "$0" "$@"
    fi
    if [[ ! -s ${PGDATA}/PG_VERSION ]]; then
        initialise "$@"
    else
        log "database found in ${PGDATA}; not initialising"
    fi
fi
exec "$@"
