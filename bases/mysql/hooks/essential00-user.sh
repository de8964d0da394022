#!/bin/sh
# mmdebstrap hook ($1 is the root file system, before the packages are installed): the user with upstream's uid, so that
# a data volume can move between the two images.
set -eu
echo 'mysql:x:999:' >>"$1/etc/group"
echo 'mysql:x:999:999::/var/lib/mysql:/bin/sh' >>"$1/etc/passwd"
