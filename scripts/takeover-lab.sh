#!/usr/bin/env bash
# Two ingest nodes that share an address, real ffmpeg and steady publishers, and what may go wrong: nobody may notice.
#
#   scripts/takeover-lab.sh [--scenario NAME …] [--count N] [--publishers P] [--protect commit|handover] [--backup] [--short] [--json]
#   scripts/takeover-lab.sh long [FILE]     1,000 handovers, 100 kills, 100 power cuts: about 40 minutes. Each batch is a
#                                           line of FILE (target/takeover-long.jsonl); batches that are there are not repeated
#   scripts/takeover-lab.sh players [PLAYER …] [--count N] [--short]
#   scripts/takeover-lab.sh leak [--count N]    a viewer's copy across takeovers is traced by either node's archive: 2 minutes
#   scripts/takeover-lab.sh leak --anew         the same of a publisher with GOPs of 8.3 s, whom both nodes code anew
#
# Scenarios; without a name all of them, one after the other:
#
#   planned      relevectl failover, again and again on the same connections
#   kill         kill -9 of the holder                    power       both wires of the holder cut in one step, then killed
#   pause-short  SIGSTOP of the holder for 0.3 s          pause-long  for 30 s
#   replication-cut  the private wire cut for a second    one-way     for a second one node is deaf to the other, by turns
#   loss         handovers with 1, 3, 5 % of frames lost  hogs        eight busy loops for half a minute a run
#   lag-on       power, with 30 ms between the nodes      lag-off     the same past the packet hold: bytes must be lost, or
#                                                                     lag-on shows nothing; the run is ok when they are
#   standby      kill -9 of the standby                   flap        three times, as soon as it is back
#   clients      without SACK, timestamps, window scaling wrap        sequence numbers pass 2^32 amid handovers
#   commit-proof on the wire: no ACK leaves beyond what the standby has confirmed
#   early        publishers between SYN and first picture when the holder hands over or is killed
#   beats        among replayed and forged heartbeats     control     kill without the hold: ok when the publisher notices
#
# A scenario's last line is JSON: {"scenario","count","skipped","runs":[{"ok","blackout_ms","bytes_lost","reconnects","syn",
# "rst","fin","sequence_errors","hash_mismatches","epoch",…}],"jitter_ms":{…},…}. blackout_ms is, for planned, the longest
# time from the freeze of a connection to its first word at the other node; for whatever ends the holder, from then until the first
# publisher hears of a new byte; else the longest time in which it heard of none. --publishers is ffmpeg and our own (2).
#
# --backup, with planned, kill, power or standby: ffmpeg pushes one feed twice, its primary to the one node's own address, its
# backup to the other's. The push through a node that dies begins anew when that is back; the other one must not notice, nor
# may viewers. blackout_ms is relevectl's then, or the survivor's own: from its decision until packets may leave again.
#
# players has real players look on across a handover, kill -9 and the loss of power: hls.js, shaka, video.js, chromium (its own
# player), ffmpeg, streamlink, mpv, gstreamer, vlc; a JSON line for each player and event. `scripts/setup.sh test watch`
# installs them; what is missing is said.
#
# Makes network namespaces of its own and removes them, also on failure. Exit 0 when all is well, 1 when not, 77 (skipped)
# without root, iproute2, nftables or ffmpeg. RELEVE_BIN_DIR names programs that are built already, RELEVE_LAB_LOG the nodes'
# log filter, RELEVE_LAB_KEEP=1 keeps the folder of each scenario.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
asked="$*"
skip() {
    echo "takeover-lab.sh: skipped: $*" >&2
    local name=""
    [[ $asked =~ --scenario\ ([a-z-]+) ]] && name=${BASH_REMATCH[1]}
    echo "{\"scenario\":\"$name\",\"count\":0,\"skipped\":1,\"runs\":[],\"jitter_ms\":{}}"
    exit 77
}
((EUID == 0)) || skip "needs root"
for tool in ip nft ffmpeg; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
if [[ -z ${RELEVE_BIN_DIR:-} ]]; then
    cargo build --manifest-path "$here/Cargo.toml" --release --quiet --locked -p releve-ingest -p releve-relay -p releve-watermark -p tests >&2
    RELEVE_BIN_DIR=${CARGO_TARGET_DIR:-$here/target}/release
fi
export RELEVE_BIN_DIR
"$here/scripts/clip.sh" 720 1080 baseline wander wander-8s >/dev/null
if [[ ${1:-} == players ]] && command -v npm >/dev/null && [[ ! -d $here/tests/browser/node_modules/hls.js ]]; then
    npm ci --silent --no-audit --no-fund --prefix "$here/tests/browser"
fi

# shellcheck source=scripts/netns.sh
. "$here/scripts/netns.sh"
trap lab_down EXIT
lab_up || skip "network namespaces are not allowed here"
lab() { ip netns exec "${lab_prefix}c" "$RELEVE_BIN_DIR/takeover-lab" "$lab_prefix" "$@"; }

if [[ ${1:-} != long ]]; then
    lab "$@"
    exit
fi

file=${2:-${CARGO_TARGET_DIR:-$here/target}/takeover-long.jsonl}
touch "$file"
batch() { # SCENARIO COUNT BATCHES
    local have
    have=$(grep -c "\"scenario\":\"$1\"" "$file" || true)
    for ((; have < $3; have++)); do
        echo "takeover-lab.sh: $1, batch $((have + 1)) of $3" >&2
        # A batch that fails stays in the file, and in the sum.
        lab --scenario "$1" --count "$2" --json >>"$file" || true
    done
}
batch planned 100 10
batch kill 20 5
batch power 20 5
lab sum "$file"
