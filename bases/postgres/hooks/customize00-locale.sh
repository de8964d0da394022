#!/bin/sh
# mmdebstrap hook ($1 is the root file system, after the packages are installed): upstream's default locale, and not the
# 17 MB of sources of all the others.
set -eu
chroot "$1" localedef -i en_US -f UTF-8 en_US.UTF-8
rm -r "$1/usr/share/i18n"
