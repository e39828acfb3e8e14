#!/usr/bin/env bash
# Runs the lints and every test, those on a real kernel included. Needs Rust, gcc and, for what it installs, root on Debian 12.
# GMFS_SKIP_INSTALL=1 installs nothing: tests that then lack something say so and are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(linux-image-cloud-amd64 qemu-system-x86 busybox-static kexec-tools makedumpfile e2fsprogs shellcheck python3
    strace util-linux mandoc zsh fish)

missing() {
    local package
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || return 0
    done
    return 1
}

install_packages() {
    if [ "$(id -u)" != 0 ]; then
        echo "not root: the tests on a real kernel need ${packages[*]}" >&2
        return 0
    fi
    apt-get update -qq
    # No initramfs is wanted of the kernel: the tests make their own.
    INITRD=No DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

if [ -z "${GMFS_SKIP_INSTALL:-}" ] && command -v apt-get >/dev/null && missing; then
    install_packages
fi

# A component of Rust that is not installed is told, and not missed otherwise.
lint() {
    if cargo "$1" --version >/dev/null 2>&1; then
        cargo "$@"
    else
        echo "skipped: cargo $1 is not installed" >&2
    fi
}

if [ $# = 0 ]; then
    echo "checking the form and the lints"
    lint fmt --all --check
    lint clippy --quiet --locked --workspace --all-targets -- -D warnings
fi

target=$(rustc -vV | sed -n 's/^host: //p')
echo "building the static binary for $target"
RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --locked --release --target "$target" --bin gmfs
GMFS_STATIC="${CARGO_TARGET_DIR:-target}/$target/release/gmfs"
GMFS_STATIC=$(realpath "$GMFS_STATIC")
export GMFS_STATIC

echo "running the tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --quiet --locked --workspace "$@" 2>&1 | tee "$log"
if [ $# = 0 ]; then
    echo "attacking the program from outside"
    GMFS=$GMFS_STATIC scripts/attack.sh "${GMFS_ATTACK_SEED:-20261126}" "${GMFS_ATTACK_TRIALS:-80}"
    echo "running the tests of the codecs once more, without the C libraries"
    cargo test --quiet --locked -p gmfs-image --lib -- kdump fuzzing 2>&1 | tee -a "$log"
fi

# Cargo sums up each test binary by itself; this is the sum of all.
awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 }
     END { printf "\ntests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$log"
