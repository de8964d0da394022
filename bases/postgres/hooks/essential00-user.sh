#!/bin/sh
# mmdebstrap hook ($1 is the root file system, before the packages are installed): the user with upstream's uid, so that
# a data volume can move between the two images; and no cluster made at installation, the entry point makes it.
set -eu
echo 'postgres:x:999:' >>"$1/etc/group"
echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>"$1/etc/passwd"
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
