#!/usr/bin/env bash
# Passes every test: style, lints, unit tests, then the programs themselves with real feeds and real players.
#
#   scripts/test.sh            everything
#   scripts/test.sh quick      without the end-to-end tests
#
# One profile and one selection of packages for all of it, so that nothing is compiled twice.
# With RELEVE_REQUIRE_TOOLS=1 (CI sets it) a missing player fails its test; without, the test says what it skipped.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
started=$SECONDS
step() { echo "== $* ($((SECONDS - started)) s)"; }

scripts/setup.sh build demo test libav

step style
cargo fmt --all --check
shellcheck scripts/*.sh .ci/run

step build
cargo test --release --locked --workspace --no-run

step lints
cargo clippy --release --locked --workspace --all-targets --quiet -- -D warnings
cargo clippy --release --locked --workspace --test e2e --test players --quiet -- -D warnings # no targets of "all"

# What it changes, and no more. Before the unit tests, which leave the programs as everybody builds them in the target folder: they are
# what is tested from here on. A whole node with it: ingest/docs/normalise.md.
step libavcodec
cargo clippy --release --locked --package codec --package mark --features codec/libav,mark/libav --all-targets --quiet -- -D warnings
cargo test --release --locked --package codec --package mark --features codec/libav,mark/libav --lib --test streams --test pool -- \
    libav x264 normalise foreign worker

step "unit tests"
cargo test --release --locked --workspace
cargo test --release --locked --workspace --features mark/cpu-mask --test cpu_features

[[ ${1:-} != quick ]] || exit 0

step feeds
scripts/clip.sh 720 1080 360 baseline interlaced open wander
npm ci --silent --no-audit --no-fund --prefix tests/browser

# Each test has a cluster of its own; most of their time is the feed's own, so that more of them than cores go well.
step "end to end"
RELEVE_BIN_DIR=${CARGO_TARGET_DIR:-target}/release cargo test --release --locked --workspace --test e2e -- --test-threads 6

# Players decode in real time: alone, so that a stall is the programs' and not the machine's.
step players
RELEVE_BIN_DIR=${CARGO_TARGET_DIR:-target}/release cargo test --release --locked --workspace --test players -- --test-threads 1
