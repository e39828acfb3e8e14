#!/usr/bin/env bash
# Builds gmfs and walks through its main job with a region file in a temporary directory, which is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --locked --release --bin gmfs
PATH="$(realpath "${CARGO_TARGET_DIR:-target}/release"):$PATH"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

head -c 5M /dev/urandom >guest.mem
run gmfs mkfs region.img --size 1G --label demo
run gmfs mkdir region.img /vms
run gmfs put region.img guest.mem /vms/guest.mem
run gmfs create region.img /vms/second.mem --size 64M
run gmfs tree region.img
run gmfs map region.img /vms/guest.mem
run gmfs inspect region.img
run gmfs fsck -n region.img

# Overwrite the first two pages of the region. The copy at its end still has their contents.
run dd if=/dev/urandom of=region.img bs=4096 count=2 conv=notrunc status=none
run gmfs fsck -n region.img || true
run gmfs fsck -p region.img || true
run gmfs fsck -n region.img
gmfs cat region.img /vms/guest.mem | cmp - guest.mem
printf '\nThe guest has its memory back.\n'
