#!/usr/bin/env bash
# Passes every test: style, lints, unit tests, then the programs themselves with real feeds and real players.
#
#   scripts/test.sh            everything
#   scripts/test.sh quick      without the end-to-end tests
#
# One profile and one selection of packages for all of it, so that nothing is compiled twice: `ci` of Cargo.toml, which is `release`
# without what makes linking 70 programs slow.
# With RELEVE_REQUIRE_TOOLS=1 (CI sets it) a missing player fails its test; without, the test says what it skipped.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
step() { echo "== $* ($((SECONDS - started)) s)"; }
tests() { cargo test --profile ci --locked "$@"; }
lints() { cargo clippy --profile ci --locked --quiet "$@" -- -D warnings; }

scripts/setup.sh build demo test libav

step style
cargo fmt --all --check
shellcheck scripts/*.sh .ci/run

step build
tests --workspace --no-run

step lints
lints --workspace --all-targets
lints --workspace --test e2e --test players # no targets of "all"

# What it changes, and no more. Before the unit tests, which leave the programs as everybody builds them in the target folder: they are
# what is tested from here on. A whole node with it: ingest/docs/normalise.md.
step libavcodec
lints --package codec --package mark --features codec/libav,mark/libav --all-targets
tests --package codec --package mark --features codec/libav,mark/libav --lib --test streams --test pool -- \
    libav x264 normalise foreign worker

# Many of them wait for a clock more than for a processor: a few more at once than cores.
step "unit tests"
tests --workspace -- --test-threads 5
tests --workspace --features mark/cpu-mask --test cpu_features

[[ ${1:-} != quick ]] || exit 0

step feeds
scripts/clip.sh 720 1080 360 baseline interlaced open wander
npm ci --silent --no-audit --no-fund --prefix tests/browser

export RELEVE_BIN_DIR=${CARGO_TARGET_DIR:-target}/ci

# Each test has a cluster of its own; most of their time is the feed's own, so that more of them than cores go well. The two that
# take longest begin first.
step "end to end"
tests --workspace --test e2e --no-run
longest=$(mktemp)
trap 'rm -f "$longest"' EXIT
tests --workspace --test e2e -- --test-threads 2 trace:: ladder:: >"$longest" 2>&1 &
others=0
tests --workspace --test e2e -- --test-threads 4 --skip trace:: --skip ladder:: || others=$?
wait $! || others=$?
cat "$longest"
((others == 0)) || exit "$others"

# Players decode in real time: who must not wait plays alone, so that a stall is the programs' and not the machine's.
step "players that must not wait"
steady=(chromium_ hls_js_notices pathways:: tracks:: events::hls_js)
tests --workspace --test players -- --test-threads 1 "${steady[@]}"
step "other players"
tests --workspace --test players -- --test-threads 2 "${steady[@]/#/--skip=}"
