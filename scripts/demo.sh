#!/usr/bin/env bash
# Starts everything on this machine and shows a picture: one ingest, two relays, a broadcaster, addresses to open.
#
#   scripts/demo.sh [--dir DIR] [--seconds N] [--no-publish]
#
# DIR holds all state (keys, database, configuration, logs) and may be used again; without it a folder is made and
# removed at the end. Ends after N seconds, on Ctrl-C or on SIGTERM, with status 0; with 1 when something died.
# When every playlist lists a segment (with --no-publish: when every listener is ready) the addresses also stand in
# DIR/endpoints.json. Everything listens on 127.0.0.1, on the usual ports or, where those are taken, on free ones.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir='' seconds=0 publish=1
usage() {
    echo "usage: scripts/demo.sh [--dir DIR] [--seconds N] [--no-publish]" >&2
    exit 2
}
while (($# > 0)); do
    case $1 in
    --dir) dir=${2:?--dir needs a folder} && shift 2 ;;
    --seconds) seconds=${2:?--seconds needs a number} && shift 2 ;;
    --no-publish) publish=0 && shift ;;
    *) usage ;;
    esac
done
[[ $seconds =~ ^[0-9]+$ ]] || usage

say() { echo "demo.sh: $*" >&2; }
pids=() names=() temporary=''

# Ends the programs of this script, last started first, each by its own id.
stop_all() {
    local index pid
    for ((index = ${#pids[@]} - 1; index >= 0; index--)); do
        pid=${pids[index]}
        kill -TERM "$pid" 2>/dev/null || continue
        for _ in {1..100}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    pids=()
}
leave() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    stop_all
    [[ -z $temporary ]] || rm -rf "$temporary"
    exit "$status"
}
trap leave EXIT
trap 'exit 0' INT TERM HUP

# A child may not outlive this script by catching the terminal's Ctrl-C first: it is told by stop_all.
start() { # NAME COMMAND …
    local name=$1
    shift
    setsid "$@" >"$dir/$name.log" 2>&1 </dev/null &
    pids+=($!) names+=("$name")
}
check_alive() {
    local index
    for index in "${!pids[@]}"; do
        kill -0 "${pids[index]}" 2>/dev/null && continue
        say "${names[index]} has ended; the end of its log ($dir/${names[index]}.log):"
        tail -n 20 "$dir/${names[index]}.log" >&2
        exit 1
    done
}
wait_for() { # SECONDS WHAT COMMAND …
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        check_alive
        if ((SECONDS >= end)); then
            say "no $what in time; logs are in $dir"
            exit 1
        fi
        sleep 0.1
    done
}
listen() { # PORT → an address of this machine with that port, or 0 ("any free one") when it is taken
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then echo 127.0.0.1:0; else echo "127.0.0.1:$1"; fi
}
field() { # FILE KEY → the text of a flat JSON object's key
    sed -n 's/.*"'"$2"'" *: *"\([^"]*\)".*/\1/p' "$1"
}

"$here/scripts/setup.sh" build demo
say "building"
cargo build --manifest-path "$here/Cargo.toml" --release --quiet \
    -p releve-ingest -p releve-relay -p releve-watermark &
wait $! # so that a signal need not wait for the build
bin=${CARGO_TARGET_DIR:-$here/target}/release
if [[ -z $dir ]]; then
    temporary=$(mktemp -d)
    dir=$temporary
fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
rm -f "$dir/endpoints.json" "$dir"/*.ready.json
umask 077

ctl() { "$bin/relevectl" --dir "$dir" "$@"; }
ctl init >"$dir/relevectl.log"
if [[ ! -s $dir/demo.key ]]; then
    if ctl stream list | grep -qw demo; then
        ctl stream rotate-key demo >"$dir/demo.key" 2>>"$dir/relevectl.log"
    else
        ctl stream add demo >"$dir/demo.key" 2>>"$dir/relevectl.log"
    fi
fi

cat >"$dir/ingest.toml" <<TOML
name = "ingest-1"
dir = "$dir"
rtmp_listen = "$(listen 1935)"
origin_listen = "$(listen 8090)"
admin_listen = "$(listen 8091)"
TOML
start ingest "$bin/releve-ingest" --config "$dir/ingest.toml" --ready-file "$dir/ingest.ready.json"
wait_for 20 "ingest" test -s "$dir/ingest.ready.json"
origin=http://$(field "$dir/ingest.ready.json" origin)

relays=()
for number in 1 2; do
    cat >"$dir/relay-$number.toml" <<TOML
name = "relay-$number"
listen = "$(listen $((8079 + number)))"
admin_listen = "$(listen $((8091 + number)))"
origins = ["$origin"]
keys_dir = "$dir/keys"
state = "$dir/state.db"
TOML
    start "relay-$number" "$bin/releve-relay" --config "$dir/relay-$number.toml" --ready-file "$dir/relay-$number.ready.json"
    wait_for 20 "relay $number" test -s "$dir/relay-$number.ready.json"
    relays+=("http://$(field "$dir/relay-$number.ready.json" listen)")
done

# One playlist URL a relay of this run; the state may remember relays of earlier runs on other ports.
playlists() {
    local urls relay
    urls=$(ctl token mint --stream demo --viewer demo-viewer --ttl 43200)
    for relay in "${relays[@]}"; do grep -F "$relay/" <<<"$urls"; done
}
all_announced() { [[ $(playlists 2>/dev/null | wc -l) == "${#relays[@]}" ]]; }
wait_for 20 "announcement of every relay" all_announced

publish_url=rtmp://$(field "$dir/ingest.ready.json" rtmp)/live/$(<"$dir/demo.key")
lists_a_segment() { # URL
    local at
    at=$(curl -fsL --max-time 5 -o /dev/null -w '%{url_effective}' "$1") || return 1
    curl -fs --max-time 5 "${at%/*}/video.m3u8" | grep -q '^#EXTINF'
}
feed='' publisher=''
if ((publish)); then
    feed=$("$here/scripts/clip.sh" 720)
    setsid ffmpeg -nostdin -v warning -re -stream_loop -1 -i "$feed" -c copy -f flv "$publish_url" \
        >"$dir/publisher.log" 2>&1 </dev/null &
    publisher=$!
    pids+=("$publisher") names+=(publisher)
    while read -r url; do wait_for 30 "segment" lists_a_segment "$url"; done < <(playlists)
fi

mapfile -t urls < <(playlists)
watch_url=${urls[0]/\/live\//\/watch\/}
watch_url=${watch_url/\/index.m3u8/}
quoted() { # TEXT … → a JSON list's inside
    local list
    list=$(printf '"%s",' "$@")
    echo "${list%,}"
}
printf '{"publish_url":"%s","stream":"demo","watch_url":"%s","playlist_urls":[%s],"ingest":["%s"],"relays":[%s],"admin_url":"%s"}\n' \
    "$publish_url" "$watch_url" "$(quoted "${urls[@]}")" "$origin" "$(quoted "${relays[@]}")" \
    "http://$(field "$dir/ingest.ready.json" admin)" >"$dir/endpoints.json.new"
mv "$dir/endpoints.json.new" "$dir/endpoints.json"

cat <<TEXT

  publish   $publish_url
  watch     $watch_url
  playlist  ${urls[0]}
  state     $dir

TEXT
if ((seconds > 0)); then say "ends in $seconds s"; else say "Ctrl-C ends it"; fi

end=$((SECONDS + seconds))
while ((seconds == 0 || SECONDS < end)); do
    check_alive
    sleep 0.5 &
    wait $! || true # a signal ends the wait at once
done
