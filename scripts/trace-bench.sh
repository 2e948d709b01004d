#!/usr/bin/env bash
# Measures how soon a leak is traced, and that nobody innocent is named: real ingest, relays, recordings, attacks, tracer.
#
#   scripts/trace-bench.sh [--short | --quality]
#
# Prints the tables of watermark/docs/marks.md. Exit 0 when no innocent viewer was named. --short is one row and the controls;
# --quality measures what the mark costs to look at instead, with VMAF of the ffmpeg in the Python package imageio-ffmpeg.
# RELEVE_TRACE_VIEWERS is how many leaks a row there are, each by viewers drawn at random (20), RELEVE_TRACE_ROWS which rows,
# from 0 (0,1,7); the controls come with row 0. Rows of one event share its recordings and one tracer; a row is printed when
# its leaks are through. Two runs of different events at once use both cores. A recording whose ingest was starved is an error.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$here/scripts/setup.sh" build demo >&2
if [[ ${1-} == --quality ]]; then
    package=imageio-ffmpeg==0.8.1
    venv=${XDG_CACHE_HOME:-$HOME/.cache}/releve/${package/==/-}
    if [[ ! -x $venv/bin/python || ! -f $venv/done ]]; then
        python3 -m venv "$venv" >&2
        "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$package" >&2
        touch "$venv/done"
    fi
    vmaf=$("$venv/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')
    mapfile -t clips < <("$here/scripts/clip.sh" wander dark flat)
    mapfile -t large < <("$here/scripts/clip.sh" 1080)
    cargo build --manifest-path "$here/Cargo.toml" --release --quiet --locked -p mark --example read_table >&2
    table=${CARGO_TARGET_DIR:-$here/target}/release/examples/read_table
    "$table" --quality "$vmaf" "${clips[@]}"
    "$table" --quality "$vmaf" --height 1080 "${large[@]}" | tail -n +3
    exit
fi
cargo build --manifest-path "$here/Cargo.toml" --release --quiet --locked \
    -p releve-ingest -p releve-relay -p releve-watermark -p tests >&2
"$here/scripts/clip.sh" wander >/dev/null
RELEVE_BIN_DIR=${CARGO_TARGET_DIR:-$here/target}/release
export RELEVE_BIN_DIR
exec "$RELEVE_BIN_DIR/bench" trace "$@"
