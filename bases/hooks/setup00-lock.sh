#!/bin/sh
# mmdebstrap hook ($1 is the root file system, before anything is fetched): apt prefers exactly the locked versions. One
# that the archive no longer has is simply not found, and apt takes the current one of the release instead.
set -eu
if [ -n "${PACKAGES_LOCK:-}" ]; then
    mkdir -p "$1/etc/apt/preferences.d"
    sed -E 's/^([^=]+)=(.+)$/Package: \1\nPin: version \2\nPin-Priority: 1001\n/' "$PACKAGES_LOCK" \
        >"$1/etc/apt/preferences.d/packages-lock"
fi
