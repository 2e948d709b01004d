#!/usr/bin/env bash
# Measures how soon a leak is traced, and that nobody innocent is named: real ingest, relays, recordings, attacks, tracer.
#
#   scripts/trace-bench.sh [--short]
#
# Prints the table of watermark/docs/marks.md. Exit 0 when no innocent viewer was named. --short is one row and the controls;
# RELEVE_TRACE_VIEWERS is how many viewers are drawn a row (20), RELEVE_TRACE_ROWS which rows, from 0 (0,1,7).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$here/scripts/setup.sh" build demo >&2
cargo build --manifest-path "$here/Cargo.toml" --release --quiet --locked \
    -p releve-ingest -p releve-relay -p releve-watermark -p tests >&2
"$here/scripts/clip.sh" wander >/dev/null
RELEVE_BIN_DIR=${CARGO_TARGET_DIR:-$here/target}/release
export RELEVE_BIN_DIR
exec "$RELEVE_BIN_DIR/bench" trace "$@"
