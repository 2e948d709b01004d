#!/usr/bin/env bash
# Starts everything on this machine and shows a picture: two ingests that share an address, two relays, a broadcaster.
#
#   scripts/demo.sh [--dir DIR] [--seconds N] [--no-publish]
#
# DIR holds all state (keys, database, configuration, logs) and may be used again; without it a folder is made and
# removed at the end. Ends after N seconds, on Ctrl-C or on SIGTERM, with status 0; with 1 when something died.
# When every playlist lists a segment (with --no-publish: when every listener is ready) the addresses also stand in
# DIR/endpoints.json. Relays listen on 127.0.0.1, on the usual ports or, where those are taken, on free ones.
#
# As root the ingests are two hosts of their own (scripts/netns.sh) with a virtual address, which the broadcaster pushes
# to: kill either of them and watch. Without root there is one ingest on 127.0.0.1, and nothing to take over.
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
pids=() names=() may_die=() temporary=''

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
    net_down
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
        [[ " ${may_die[*]} " != *" ${names[index]} "* ]] || continue
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
quoted() { # TEXT … → the inside of a list, in JSON and TOML
    local list
    list=$(printf '"%s",' "$@")
    echo "${list%,}"
}
field() { # FILE KEY → the text of a flat JSON object's key
    sed -n 's/.*"'"$2"'" *: *"\([^"]*\)".*/\1/p' "$1"
}

# shellcheck source=scripts/netns.sh
. "$here/scripts/netns.sh"
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

# One ingest, or the pair: NAME RTMP ORIGIN ADMIN [LINES OF [pair]] [COMMAND THAT STARTS IT THERE …]
origins=() admins=()
ingest() {
    local name=$1 rtmp=$2 origin=$3 admin=$4 pair=$5
    shift 5
    printf 'name = "%s"\ndir = "%s"\nrtmp_listen = "%s"\norigin_listen = "%s"\nadmin_listen = "%s"\n%s' \
        "$name" "$dir" "$rtmp" "$origin" "$admin" "$pair" >"$dir/$name.toml"
    start "$name" "$@" "$bin/releve-ingest" --config "$dir/$name.toml" --ready-file "$dir/$name.ready.json"
    wait_for 20 "$name" test -s "$dir/$name.ready.json"
    origins+=("http://$(field "$dir/$name.ready.json" origin)")
    admins+=("http://$(field "$dir/$name.ready.json" admin)")
}
pair() { # NODE PEER OWN_ADDRESS PEER_ADDRESS
    cat <<TOML
[pair]
protect = "commit"
node = $1
peer = $2
link_listen = "$3:7400"
link_peer = "$4:7400"
paths = [{ local = "$3:7401", peer = "$4:7401" }]
witnesses = [{ id = 1, address = "$net_host:7411" }, { id = 2, address = "$net_host:7412" }]
addresses = [{ ip = "$net_vip", interface = "eth0" }]
peer_admin = "http://$4:8091"
TOML
}
witness=()
if ((EUID == 0)) && net_up; then
    ingest ingest-1 0.0.0.0:1935 "$net_ip_a:8090" "$net_ip_a:8091" "$(pair 1 2 "$net_ip_a" "$net_ip_b")" ip netns exec "$net_a"
    ingest ingest-2 0.0.0.0:1935 "$net_ip_b:8090" "$net_ip_b:8091" "$(pair 2 1 "$net_ip_b" "$net_ip_a")" ip netns exec "$net_b"
    may_die=(ingest-1 ingest-2)
    publish_at=$net_vip:1935
    witness=("$net_host:7411" "$net_host:7412")
else
    say "one ingest: a pair with a virtual address needs root and network namespaces"
    net_down
    ingest ingest-1 "$(listen 1935)" "$(listen 8090)" "$(listen 8091)" ''
    publish_at=$(field "$dir/ingest-1.ready.json" rtmp)
fi

relays=()
for number in 1 2; do
    cat >"$dir/relay-$number.toml" <<TOML
name = "relay-$number"
listen = "$(listen $((8079 + number)))"
admin_listen = "$(listen $((8091 + number)))"
origins = [$(quoted "${origins[@]}")]
keys_dir = "$dir/keys"
state = "$dir/state.db"
$([[ -z ${witness[*]} ]] || printf 'witness_id = %s\nwitness_listen = "%s"' "$number" "${witness[number - 1]}")
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

publish_url=rtmp://$publish_at/live/$(<"$dir/demo.key")
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
printf '{"publish_url":"%s","stream":"demo","watch_url":"%s","playlist_urls":[%s],"ingest":[%s],"relays":[%s],"admin_url":"%s"}\n' \
    "$publish_url" "$watch_url" "$(quoted "${urls[@]}")" "$(quoted "${origins[@]}")" "$(quoted "${relays[@]}")" \
    "${admins[0]}" >"$dir/endpoints.json.new"
mv "$dir/endpoints.json.new" "$dir/endpoints.json"

cat <<TEXT

  publish   $publish_url
  watch     $watch_url
  playlist  ${urls[0]}
  MPEG-TS   ${urls[0]/\/index.m3u8/\/ts.m3u8}
  state     $dir
TEXT
if ((${#may_die[@]} > 0)); then
    # The program that was started is the guardian; its child is the node.
    node() { pgrep -P "${pids[$1]}" -x releve-ingest; }
    cat <<TEXT
  takeover  $bin/relevectl --dir $dir failover
  crash     kill -9 $(node 0)  (ingest-1)  or  kill -9 $(node 1)  (ingest-2); relevectl status says who holds
TEXT
fi
echo
if ((seconds > 0)); then say "ends in $seconds s"; else say "Ctrl-C ends it"; fi

end=$((SECONDS + seconds))
while ((seconds == 0 || SECONDS < end)); do
    check_alive
    sleep 0.5 &
    wait $! || true # a signal ends the wait at once
done
