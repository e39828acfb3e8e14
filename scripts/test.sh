#!/usr/bin/env bash
# Checks the tree and runs the tests, including those on a real kernel. It needs Rust, gcc and, for what it installs,
# root on Debian 12.
#
#   scripts/test.sh            what a change must pass: form, lints, documentation, dependencies, short fuzzing, tests
#   scripts/test.sh full       that, and then what takes many hours: before a release, or before an issue is called resolved
#   scripts/test.sh ARGS...    only the tests, with ARGS for cargo test
#
# With GMFS_SKIP_INSTALL=1 nothing is installed; tests that then lack something say so and are skipped.
# GMFS_FUZZ_SECONDS is the time for each fuzz target (2; full: 600), GMFS_ORACLE_SECONDS that of the oracle (60; full:
# 1200). At the end, the script lists how long each part took. The exit status is 1 if a part failed.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=short
case ${1:-} in
'') ;;
full)
    mode=full
    shift
    if [ $# != 0 ]; then
        echo "usage: scripts/test.sh [full | ARGS...]" >&2
        exit 2
    fi
    ;;
*) mode=tests ;;
esac

# --- parts, their times, and the sum ---------------------------------------------------------------------------------

work=$(mktemp -d)
log=$work/log
: >"$log"
names=() ends=()
failed=no

finish() {
    local status=$? index
    trap - EXIT
    printf '\n'
    for index in "${!names[@]}"; do
        printf '%-22s %s\n' "${names[$index]}" "${ends[$index]:-not finished after $((SECONDS - began)) s}"
    done
    printf '%-22s %d s\n' "all" "$SECONDS"
    # Cargo counts the tests of each test binary; this adds them up.
    awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 }
         END { printf "\ntests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
    rm -rf "$work"
    [ $failed = no ] || status=1
    exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# part NAME WHAT COMMAND...: runs a command, and continues if it fails; `end` is its status. A command that was skipped
# ends with 77. Do not call `part` in a condition, because bash then ignores `set -e` in the command as well.
part() {
    local name=$1 what=$2
    shift 2
    echo "== $name: $what"
    began=$SECONDS
    names+=("$name")
    set +e
    (
        set -e
        "$@"
    )
    end=$?
    set -e
    case $end in
    0) ends+=("$((SECONDS - began)) s") ;;
    77) ends+=("skipped") ;;
    *)
        ends+=("FAILED after $((SECONDS - began)) s")
        failed=yes
        echo "== $name: FAILED with status $end" >&2
        ;;
    esac
}

skip() {
    echo "skipped: $*" >&2
    exit 77
}

# --- what the tests need ---------------------------------------------------------------------------------------------

packages=(linux-image-cloud-amd64 qemu-system-x86 busybox-static kexec-tools makedumpfile e2fsprogs g++ shellcheck python3
    strace valgrind util-linux mandoc zsh fish file lintian rpm python3-jsonschema)

# The browser that shows the pages of reports, and the server that scrapes metrics.
[ $mode != full ] || packages+=(chromium prometheus)

install_packages() {
    local package missing=()
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then
        echo "all packages are installed: ${packages[*]}"
        return
    fi
    [ "$(id -u)" = 0 ] || skip "only root can install ${missing[*]}; tests that need them say so and are skipped"
    echo "installing ${missing[*]}"
    apt-get update -qq
    # The kernel package need not make an initramfs: the tests make their own.
    INITRD=No DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# --- checks ----------------------------------------------------------------------------------------------------------

needs_cargo() {
    cargo "$1" --version >/dev/null 2>&1 || skip "cargo $1 is not installed"
}

formatting() {
    needs_cargo fmt
    cargo fmt --all --check
}

lints() {
    needs_cargo clippy
    cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
}

documentation() {
    # The program and the library gmfs have the same name, so their pages go to the same folder and must not be made at
    # the same time.
    RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --workspace --exclude gmfs-cli --no-deps
    RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked -p gmfs-cli --no-deps
}

dependencies() {
    needs_cargo deny
    cargo deny --log-level error check --hide-inclusion-graph bans licenses sources
    # Advisories come from a database on the network.
    if timeout 60 cargo deny --log-level off fetch db >/dev/null 2>&1; then
        cargo deny --log-level error check --hide-inclusion-graph advisories
    else
        echo "skipped: the database of advisories cannot be fetched" >&2
    fi
}

crates() {
    cargo package --quiet --locked --workspace --no-verify --allow-dirty --exclude-lockfile
}

# The first part of a version: 1.89 of 1.89.0-x86_64-unknown-linux-gnu.
minor() { sed -n 's/^\([0-9]*\.[0-9]*\).*/\1/p'; }

oldest_rust() {
    local oldest running toolchain
    oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    running=$(rustc --version | cut -d' ' -f2)
    if [ "$(minor <<<"$running")" = "$(minor <<<"$oldest")" ]; then
        echo "Rust $running runs all of this"
        return
    fi
    # shellcheck disable=SC2016 # $1 is awk's.
    toolchain=$(rustup toolchain list 2>/dev/null | awk '{ print $1 }' | grep -m 1 "^${oldest//./\\.}[.-]" || true)
    [ -n "$toolchain" ] || skip "Rust $oldest is not installed; Clippy has compared the functions of std with it"
    rustup run "$toolchain" cargo check --quiet --locked --workspace --all-targets
}

fuzzing() {
    command -v c++ >/dev/null || skip "libFuzzer takes a C++ compiler, and c++ is not installed"
    # Building the targets takes longer than running them, so they are optimised less.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 GMFS_FUZZ_CORPUS=$work/corpus scripts/fuzz.sh "${GMFS_FUZZ_SECONDS:-2}"
}

# --- tests -----------------------------------------------------------------------------------------------------------

target=$(rustc -vV | sed -n 's/^host: //p')
GMFS_STATIC=$(realpath -m "${CARGO_TARGET_DIR:-target}/$target/release/gmfs")
export GMFS_STATIC

static_binary() {
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --locked --release --target "$target" --bin gmfs
}

newer_qemu() {
    scripts/newer-qemu.sh "${CARGO_TARGET_DIR:-target}/newer-qemu" >"$work/qemu"
    cat "$work/qemu"
}

tests() {
    cargo test --quiet --locked --no-fail-fast --workspace "$@" 2>&1 | tee -a "$log"
}

attack() {
    GMFS=$GMFS_STATIC scripts/attack.sh "${GMFS_ATTACK_SEED:-20261126}" "${GMFS_ATTACK_TRIALS:-50}"
}

oracle() {
    command -v python3 >/dev/null || skip "python3 is not installed"
    python3 -m py_compile tests/oracle/*.py
    tests/oracle/run.py --gmfs "$GMFS_STATIC" --self-test
    local seed=${GMFS_ORACLE_SEED:-${2:-}}
    tests/oracle/run.py --gmfs "$GMFS_STATIC" --seconds "${GMFS_ORACLE_SECONDS:-$1}" ${seed:+--seed "$seed"}
}

codecs() {
    cargo test --quiet --locked -p gmfs-dump --lib -- kdump fuzzing 2>&1 | tee -a "$log"
}

packages() {
    needs_cargo deb
    needs_cargo generate-rpm
    scripts/package.sh --binary "$GMFS_STATIC" "$work/packages"
    scripts/try-packages.sh "$work/packages"
}

pages() {
    command -v chromium >/dev/null || skip "chromium is not installed"
    cargo test --quiet --locked -p gmfs-cli --test it -- --ignored report:: 2>&1 | tee -a "$log"
}

# --- what takes hours ------------------------------------------------------------------------------------------------

more_attacks() {
    local seed
    for seed in {1..20}; do
        GMFS=$GMFS_STATIC scripts/attack.sh "$seed" 20
    done
}

more_cases() {
    {
        GMFS_DAMAGE_CASES=12000 cargo test --quiet --release --locked -p gmfs-check --test it damage::
        GMFS_CRASH_CASES=4 cargo test --quiet --release --locked -p gmfs-volume --test it
        GMFS_CODEC_CASES=1000000 cargo test --quiet --release --locked -p gmfs-dump --lib --features deflate-c,zstd-c -- codec
    } 2>&1 | tee -a "$log"
}

product() {
    GMFS_PRODUCT=all cargo test --release --locked -p gmfs-check --test product --test pkernfs_repair -- --nocapture 2>&1 | tee -a "$log"
}

# The reader decides which mutations matter. Each must have been tried, and the unchanged tree must break no law.
mutants() {
    scripts/mutants.sh "$work/mutants" | tee "$work/mutants.log"
    if grep -q 'did not run' "$work/mutants.log" || grep '^none' "$work/mutants.log" | grep -qv ' 0 violations'; then
        echo "a mutation did not run, or the tree without one breaks a law" >&2
        exit 1
    fi
}

long_fuzzing() {
    command -v c++ >/dev/null || skip "libFuzzer takes a C++ compiler, and c++ is not installed"
    scripts/fuzz.sh "${GMFS_FUZZ_SECONDS:-600}"
}

# --- the run ---------------------------------------------------------------------------------------------------------

if [ -z "${GMFS_SKIP_INSTALL:-}" ] && command -v apt-get >/dev/null; then
    part packages "what the tests use" install_packages
    [ $failed = no ] || exit 1
fi

if [ $mode != tests ]; then
    part formatting "cargo fmt" formatting
    part lints "cargo clippy, warnings are errors" lints
    part documentation "cargo doc, warnings are errors" documentation
    part dependencies "licences, sources and advisories, by cargo deny" dependencies
    part crates "cargo package" crates
    part "oldest Rust" "the rust-version of Cargo.toml" oldest_rust
    if [ $mode = short ]; then
        part fuzzing "${GMFS_FUZZ_SECONDS:-2} seconds for each target" fuzzing
    fi
fi
part "static binary" "for $target, as it is released" static_binary
[ "$end" = 0 ] || exit 1
if [ -z "${GMFS_QEMU:-}" ]; then
    part "newer QEMU" "for the tests of gmfs vm, unpacked from Debian's backports" newer_qemu
    if [ "$end" = 0 ]; then
        GMFS_QEMU=$(cat "$work/qemu")
        export GMFS_QEMU
    fi
fi
part tests "cargo test --workspace $*" tests "$@"
if [ $mode != tests ]; then
    part attack "the program from outside" attack
    if [ $mode = short ]; then
        part oracle "what the program says of made hand-overs" oracle 60 1
    fi
    part codecs "their tests once more, without the C libraries" codecs
fi
if [ $mode = full ]; then
    part "deb and rpm" "built, installed into an empty root, tried, removed" packages
    part "pages" "reports in a browser" pages
    part "more attacks" "seeds 1 to 20" more_attacks
    part oracle "what the program says of made hand-overs, for longer" oracle 1200
    part "more random cases" "damage, crashes, codecs" more_cases
    part "long fuzzing" "${GMFS_FUZZ_SECONDS:-600} seconds for each target" long_fuzzing
    part mutants "laws of repair broken on purpose (hours)" mutants
    part "whole product" "every page in every state (hours)" product
fi
