#!/bin/bash
# Upstream's health check by name and arguments. --connect: somebody can log in over TCP (the first, temporary server has
# no port); --innodb_initialized: and InnoDB has started. The account and its file are made at initialisation.
set -euo pipefail

answer() {
    mariadb --defaults-extra-file=/var/lib/mysql/.my-healthcheck.cnf --protocol=tcp --host=127.0.0.1 \
        --skip-column-names --batch --execute "$1"
}

[[ $# -gt 0 ]] || set -- --connect
for check; do
    case ${check} in
        --connect) [[ $(answer 'select 1') == 1 ]] ;;
        --innodb_initialized)
            [[ $(answer "select 1 from information_schema.engines where engine = 'innodb' and support in ('YES', 'DEFAULT')") == 1 ]]
            ;;
        *)
            echo "error: ${check} works with the upstream image only, not with this local equivalent" >&2
            exit 1
            ;;
    esac
done
