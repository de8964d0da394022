# shellcheck shell=sh
# What a machine is and has, a line each: a word, a space, the value. Changes nothing. $1: the stack's folder.
say() { printf '%s %s\n' "$1" "$2"; }
has() { command -v "$1" >/dev/null 2>&1; }
yes() { say "$1" yes; }
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

PRETTY_NAME="" ID="" ID_LIKE=""
# shellcheck disable=SC1091
[ ! -r /etc/os-release ] || . /etc/os-release
say system "${PRETTY_NAME:-$(uname -s)}"
say kind "$ID $ID_LIKE"
say architecture "$(uname -m)"
say clock "$(date +%s)"
say memory "$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo 2>/dev/null)"
say addresses "$(hostname -I 2>/dev/null)"
say user "$(id -un)"
say uid "$(id -u)"
[ "$(id -u)" != 0 ] || yes root
! has sudo || yes sudo
! sudo -n true 2>/dev/null || yes sudo-unasked
case " $(getent group docker 2>/dev/null | cut -d: -f4 | tr , ' ') " in *" $(id -un) "*) yes member ;; esac
[ ! -d /run/systemd/system ] || yes systemd
! has apt-get || yes apt
! has rsync || yes rsync
! has dockerd || yes dockerd
if has docker; then
    yes docker
    case "$(DOCKER_BUILDKIT=1 docker build --help 2>/dev/null)" in *--secret*) yes buildkit ;; esac
fi
if compose=$(docker compose version --short 2>/dev/null); then
    yes compose-plugin
else
    compose=$(docker-compose version --short 2>/dev/null) || compose=
fi
[ -z "$compose" ] || say compose "$compose"
if engine=$(docker version --format '{{.Server.Version}}' 2>/dev/null); then
    say engine "$engine"
else
    engine=
    case "$(docker version 2>&1 >/dev/null)" in *'permission denied'*) yes denied ;; esac
fi
folder=$1
[ ! -d "$folder" ] || say folder "$(stat -c '%U %a' "$folder")"
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
say free "$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')"
store=
[ -z "$engine" ] || store=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)
# The folder first: nothing is said where both are on one file system.
[ -z "$store" ] || df -Pk "$folder" "$store" 2>/dev/null |
    awk 'NR == 2 { on = $1 } NR == 3 && $1 != on { print "free-for-images", $4 }'
# Asking takes longer than all the rest; only what is missing has to be offered.
if has apt-cache && ! { has rsync && [ -n "$engine" ] && [ -n "$compose" ]; }; then
    LC_ALL=C apt-cache policy docker.io docker-cli docker-buildx docker-buildx-plugin docker-compose-v2 docker-compose rsync |
        awk '/^[^ ]/ { name = $1; sub(/:$/, "", name) } /^ *Candidate:/ && $2 != "(none)" { print "offered", name }'
fi
