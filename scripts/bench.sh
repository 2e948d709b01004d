#!/usr/bin/env bash
# Measures the programs beside a yardstick in the same run.
#
#   scripts/bench.sh NAME [--short] [--json]
#
#   ingest   processor time and memory per publisher, passed through and marked, beside nginx-rtmp on the same feed, and how
#            long marking holds a GOP back; RELEVE_BENCH_PUBLISHERS sets how many there are (4),
#            RELEVE_BENCH_APART=1 has them begin at different moments of a GOP;
#            throughput of the RTMP parser and the segment writer beside a plain copy
#   late     how much later a viewer is told of a part because its stream is marked, beside the same streams passed through;
#            RELEVE_BENCH_PUBLISHERS and RELEVE_BENCH_APART as in ingest
#   relay    processor time per GB, latency and memory of a relay under viewers of a live stream at 1 Mb/s, each with a
#            session and marked slices, beside nginx with the same bytes as plain files, without a check and with its own
#            (secure_link); RELEVE_BENCH_VIEWERS sets how many, here and in what follows down to reload
#   https    the same through TLS 1.3 (AES-128-GCM), beside nginx with TLS and the same bytes; a sample of viewers opens what it
#            gets, of all others the records are counted
#   many     the same with more viewers at 250 kb/s, by several relays where one may not have so many files open
#   parts    the same at the rate of low latency: each viewer takes a playlist and a part of a third of a second by turns
#   idle     memory of a connection that has asked once and waits, beside nginx's
#   burst    how long the next request takes when all connections have come within 2 s, beside nginx
#   reload   time from the first to the last answer when all viewers have a blocking reload waiting for the same segment
#   closed   as many requests as a processor takes, 64 connections that ask again at once: playlists of about 1 KB a
#            processor-second, each request checked, and GB of 1 MB segments, each viewer's own slices; beside nginx with the
#            same bytes as plain files
#   flat     the load of relay with 100, 1,000, 5,000 and 20,000 viewers of one relay (or as many as it may have files open;
#            RELEVE_BENCH_VIEWERS sets the last): processor time a request and a GB, beside nginx
#   first    time from a publisher's first frame to the first playlist that a player can play and to its first media; GOPs of
#            2 s, parts of a third of a second
#   hostile  1,000,000 attacks on every kind of resource over both versions of HTTP, 1,000,000 segments for many viewers, each compared
#            with what the tracer says, and 1,000 revocations: counts what anybody got who should not; no yardstick but the
#            project's own bars. RELEVE_BENCH_SEED draws other attacks
#   takeover how long a publisher waits after a planned takeover, kill -9 and the loss of power, beside keepalived with
#            nginx-rtmp; as root, in network namespaces of its own
#   hold     what the packet hold costs publishers of 6 Mb/s each: protect = "commit" beside "handover"; as root, in network
#            namespaces of its own; RELEVE_BENCH_PUBLISHERS sets how many
#   tls      processor time per GB through TLS beside plain HTTP and beside nginx, and new connections a second beside paced
#            viewers, with full handshakes and resumed ones
#   all      those that the project has set itself bars for (many, relay, parts, closed, tls, idle, reload, burst, ingest, first),
#            and the table of those bars, half an hour; RELEVE_BENCH_VIEWERS is best not set
#
# Prints a table, unless told --json, and as its last line {"name","ours":{…},"yardstick":{…},"ratio","errors"}.
# Exit 0 without errors. --short is for seeing that it works. RELEVE_BIN_DIR names programs that are built already.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
(($# > 0)) || set -- help
"$here/scripts/setup.sh" build demo bench >&2
if [[ $1 == tls ]]; then # knows the relay from inside: its threads are counted one by one
    exec cargo bench --manifest-path "$here/Cargo.toml" --quiet --locked -p releve-relay --bench tls_load -- "${@:2}"
fi
if [[ -z ${RELEVE_BIN_DIR:-} ]]; then
    cargo build --manifest-path "$here/Cargo.toml" --release --quiet --locked \
        -p releve-ingest -p releve-relay -p releve-watermark -p tests >&2
    RELEVE_BIN_DIR=${CARGO_TARGET_DIR:-$here/target}/release
fi
export RELEVE_BIN_DIR
if [[ $1 == all ]]; then
    reports=$(mktemp)
    trap 'rm -f "$reports"' EXIT
    failed=
    for name in many relay parts closed tls idle reload burst ingest first; do
        "${BASH_SOURCE[0]}" "$name" "${@:2}" --json | tail -n 1 | tee -a "$reports" || failed+=" $name"
    done
    "$RELEVE_BIN_DIR/bench" table <"$reports"
    [[ -z $failed ]] || { echo "bench.sh: not without errors:$failed" >&2 && exit 1; }
    exit 0
fi
[[ $1 == takeover || $1 == hold ]] || exec "$RELEVE_BIN_DIR/bench" "$@"

"$here/scripts/clip.sh" 720 1080 >/dev/null
# shellcheck source=scripts/netns.sh
. "$here/scripts/netns.sh"
trap lab_down EXIT
lab_up || { echo "bench.sh: $1 needs root and network namespaces" >&2 && exit 1; }
RELEVE_LAB_PREFIX=$lab_prefix ip netns exec "${lab_prefix}c" "$RELEVE_BIN_DIR/bench" "$@"
