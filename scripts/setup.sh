#!/usr/bin/env bash
# Installs the Debian packages that a task needs and that are missing; says nothing when there is nothing to do.
#
#   scripts/setup.sh build|demo|test|watch|libav|bench …
#
# In: group names. Out: installed packages. Touches the system's package list only, as root or through sudo.
# Services that a package brings are not started.
set -euo pipefail

# One entry a package: PACKAGE=COMMAND where a command of any origin will do, PACKAGE where it must be Debian's.
packages_of() {
    case $1 in
    # the C codec and SQLite (gcc, g++, make), its fast paths (nasm), the watch page (node, npm)
    build) echo gcc=cc g++=c++ make=make nasm=nasm nodejs=node npm=npm libc6-dev ca-certificates ;;
    # a publisher with a frame counter, and something to ask the relays with
    demo) echo ffmpeg=ffmpeg fonts-dejavu-core curl=curl ;;
    # players, OBS with a display to draw on, network namespaces for the takeover's lab, PyJWT as another maker of tokens, edges
    test)
        echo chromium=chromium vlc-bin=cvlc vlc-plugin-base \
            gstreamer1.0-tools=gst-launch-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
            gstreamer1.0-plugins-bad gstreamer1.0-libav util-linux=setpriv shellcheck=shellcheck \
            obs-studio=obs xvfb=Xvfb libgl1-mesa-dri iproute2=ip nftables=nft \
            python3-jwt python3-cryptography nginx=nginx varnish=varnishd
        ;;
    # players that only the takeover's lab needs
    watch) echo mpv=mpv streamlink=streamlink ;;
    # the feature `libav`: HEVC and 10 bits for the normaliser, x264
    libav) echo libavcodec-dev libavformat-dev libavutil-dev libswresample-dev libswscale-dev pkg-config=pkg-config ;;
    # yardsticks
    bench) echo nginx=nginx libnginx-mod-rtmp keepalived=keepalived ;;
    *)
        echo "setup.sh: '$1' is no group; there are build, demo, test, watch, libav and bench" >&2
        return 2
        ;;
    esac
}

is_there() { # PACKAGE[=COMMAND]
    local package=${1%%=*} command=${1#*=}
    if [[ $1 == *=* ]]; then
        PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null
    else
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]]
    fi
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        echo "setup.sh: needs root to install packages: run it as root, or install sudo" >&2
        return 1
    fi
}

(($# > 0)) || set -- build
missing=()
for group in "$@"; do
    wanted=$(packages_of "$group")
    for entry in $wanted; do
        is_there "$entry" || missing+=("${entry%%=*}")
    done
done
((${#missing[@]} > 0)) || exit 0

echo "setup.sh: installing ${missing[*]}" >&2
policy=/usr/sbin/policy-rc.d # Debian asks this file whether a fresh service may start
if [[ ! -e $policy ]]; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
fi
log=$(mktemp)
apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1; }
if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; }; then
    tail -n 20 "$log" >&2
    echo "setup.sh: apt-get could not install ${missing[*]}; the whole log is in $log" >&2
    exit 1
fi
rm -f "$log"
