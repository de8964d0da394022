#!/bin/sh
# mmdebstrap hook ($1 is the root file system, complete): what only this build or this machine needed does not stay.
set -eu
rm -f "$1/etc/apt/preferences.d/packages-lock" "$1/etc/hostname" "$1/var/cache/ldconfig/aux-cache"
# Builders mount these two. Where they are missing, some make the mount points, and leave the time of the build on /etc
# in every layer above.
: >"$1/etc/resolv.conf"
: >"$1/etc/hosts"
find "$1/var/log" -type f -delete
