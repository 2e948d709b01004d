#!/usr/bin/env bash
# Two ingest nodes that share an address, real ffmpeg, and what may go wrong: nobody may notice.
#
#   scripts/takeover-lab.sh [SCENARIO …] [--protect commit|handover] [--count N] [--short]
#
#   handover   relevectl failover, 20 times on one connection      kill      kill -9 of the holder
#   power      both wires of the holder cut, then killed           pause     SIGSTOP of the holder for 0.3 s (pause-long: 30 s)
#   cut        the private wire cut for a second                   standby   kill -9 of the standby
#   lag        power, with 30 ms of delay between the nodes        flap      kill -9 of the standby, three times
#   control    kill without the packet hold: the publisher must notice, or the others show nothing
#
# Makes network namespaces of its own and removes them, also on failure. Prints a JSON line for each scenario; exit 0 when
# all is well, 1 when not, 77 (skipped) without root, iproute2 or ffmpeg. RELEVE_BIN_DIR names programs that are built already.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
skip() { echo "takeover-lab.sh: skipped: $*" >&2 && exit 77; }
((EUID == 0)) || skip "needs root"
for tool in ip tc ffmpeg; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done
if [[ -z ${RELEVE_BIN_DIR:-} ]]; then
    cargo build --manifest-path "$here/Cargo.toml" --release --quiet --locked -p releve-ingest -p releve-relay -p tests >&2
    RELEVE_BIN_DIR=${CARGO_TARGET_DIR:-$here/target}/release
fi
export RELEVE_BIN_DIR
"$here/scripts/clip.sh" 720 >/dev/null

prefix=rlv$$
ip netns add "${prefix}c" 2>/dev/null || skip "network namespaces are not allowed here"
leave() {
    local name pid
    for name in c a b r s; do
        # Whatever still runs in our own namespaces was started by this run.
        for pid in $(ip netns pids "$prefix$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
        ip netns delete "$prefix$name" 2>/dev/null || true
    done
}
trap leave EXIT
ip netns exec "${prefix}c" "$RELEVE_BIN_DIR/takeover-lab" "$prefix" "$@"
