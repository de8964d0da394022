#!/usr/bin/env bash
# Runs once, on an empty volume: the account by which the pipeline reads, with
# SELECT and no more, as on a clinic's server.
set -euo pipefail

# Doubles quotes and backslashes, as a MariaDB string literal wants it.
literal() {
    local text=${1//\\/\\\\}
    printf "'%s'" "${text//\'/\'\'}"
}

MYSQL_PWD=$MYSQL_ROOT_PASSWORD mariadb --protocol=socket --user=root <<SQL
create user $(literal "$OPENDENTAL_SOURCE_USER")@'%' identified by $(literal "$OPENDENTAL_SOURCE_PASSWORD");
grant select on \`${OPENDENTAL_SOURCE_DB}\`.* to $(literal "$OPENDENTAL_SOURCE_USER")@'%';
SQL
