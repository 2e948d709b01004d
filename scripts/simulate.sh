#!/usr/bin/env bash
# Runs the election in a seeded world, many times over: no seed may break a promise.
#
#   scripts/simulate.sh [SEEDS]
#
# SEEDS is 100000 unless given (CI runs 500). What happens in a seed and what is checked: ingest/failover/tests/simulation/.
# Prints the sums and the time; a seed that breaks a promise is named, and RELEVE_SIM_SEED=n runs it again with its trace.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
started=$SECONDS
RELEVE_SIM_SEEDS=${1:-100000} cargo test --manifest-path "$here/Cargo.toml" --release --quiet --locked -p failover \
    --test simulation -- --exact no_seed_breaks_a_promise --nocapture
echo "$((SECONDS - started)) s, building included"
