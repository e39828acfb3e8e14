#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/ under libFuzzer, guided by coverage. Stable Rust will do; libFuzzer itself is C++.
#
#   scripts/fuzz.sh SECONDS [TARGET...]    runs each target for SECONDS (all targets), as many at once as there are CPUs
#   scripts/fuzz.sh seeds DIRECTORY        only writes the seeds, as DIRECTORY/TARGET/NAME
#
# Inputs that reach new code are kept in GMFS_FUZZ_CORPUS/TARGET (fuzz/corpus), and the next run starts from them and
# the seeds. An input that fails is kept in fuzz/artifacts/TARGET. The exit status is 1 if a target failed.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    echo "usage: scripts/fuzz.sh SECONDS [TARGET...] | scripts/fuzz.sh seeds DIRECTORY" >&2
    exit 2
}

case ${1:-} in
seeds)
    [ $# = 2 ] || usage
    ;;
'' | 0 | *[!0-9]*) usage ;;
esac

if ! command -v c++ >/dev/null; then
    echo "cannot fuzz: libFuzzer takes a C++ compiler, and there is no c++ (Debian: apt-get install g++)" >&2
    exit 1
fi

# The same instrumentation as cargo-fuzz uses, but no sanitizer, which only nightly Rust has. With --target, build
# scripts and macros stay as they are.
host=$(rustc -vV | sed -n 's/^host: //p')
build=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
export binaries="$build/$host/release"
build() {
    RUSTFLAGS="$coverage" CARGO_TARGET_DIR=$build cargo build --quiet --locked --manifest-path fuzz/Cargo.toml --release \
        --target "$host" "${@/#/--bin=}"
}

if [ "$1" = seeds ]; then
    build seeds
    exec "$binaries/seeds" "$2"
fi
seconds=$1
shift

all=()
for source in fuzz/fuzz_targets/*.rs; do
    all+=("$(basename "$source" .rs)")
done
targets=("$@")
[ $# != 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
    if [ ! -f "fuzz/fuzz_targets/$target.rs" ]; then
        echo "no fuzz target is called $target; there are ${all[*]}" >&2
        exit 2
    fi
done

build seeds "${targets[@]}"
corpus=${GMFS_FUZZ_CORPUS:-fuzz/corpus}
"$binaries/seeds" "$corpus"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
export seconds corpus logs
# One input may take 25 seconds and 2 GiB. More is a failure, like a panic.
fuzz_one() {
    local target=$1 log=$logs/$1 end=0
    mkdir -p "fuzz/artifacts/$target"
    "$binaries/$target" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target/" "$corpus/$target" >"$log" 2>&1 || end=$?
    if [ $end = 0 ]; then
        awk -v target="$target" '/^stat::number_of_executed_units/ { runs = $2 } /^stat::new_units_added/ { new = $2 }
            END { printf "fuzz %s: %d inputs, %d of them reached something new\n", target, runs, new }' "$log"
    else
        # One printf writes the whole message, because other targets print at the same time.
        printf 'fuzz %s: FAILED with status %s\n%s\nagain: %s FILE, which is in fuzz/artifacts/%s\n' "$target" "$end" \
            "$(tail -n 40 "$log")" "$binaries/$target" "$target"
    fi
    return $end
}
export -f fuzz_one
# shellcheck disable=SC2016 # It is expanded there.
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I '{}' bash -c 'fuzz_one "$1"' _ '{}' || exit 1
