#!/usr/bin/env bash
# Fuzzes everything that reads bytes of strangers, one target after the other.
#
#   scripts/fuzz.sh [--seconds N] [TARGET …]     60 seconds each, all targets
#
# A finding stops it with status 1 and leaves its input under fuzz/artifacts; put it into the corpus, so that
# the tests replay it, before mending. New inputs are thrown away unless they are findings.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=60
if [[ ${1:-} == --seconds ]]; then
    seconds=${2:?--seconds needs a number}
    shift 2
fi
command -v cargo-fuzz >/dev/null || cargo install --locked --quiet cargo-fuzz@0.13.2
# libFuzzer needs flags that a stable compiler takes only so.
export RUSTC_BOOTSTRAP=1
targets=("$@")
((${#targets[@]} > 0)) || mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
    echo "== $target, $seconds s"
    # New inputs go to a folder of their own: the kept corpus changes by hand only.
    found=$(mktemp -d)
    cargo fuzz run "$target" "$found" "fuzz/corpus/$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 >"$found.log" 2>&1 || {
        tail -n 40 "$found.log"
        echo "fuzz.sh: $target has a finding" >&2
        exit 1
    }
    grep -E '^(Done|stat::number_of_executed_units)' "$found.log"
    rm -rf "$found" "$found.log"
done
