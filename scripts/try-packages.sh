#!/usr/bin/env bash
# Tries the packages that scripts/package.sh has built: runs lintian, installs each package into an empty root, runs
# scripts/packaging-test.sh with the installed program, and removes the package again. Steps whose tools are missing are
# skipped, with a message. It needs root.
#
#   scripts/try-packages.sh [DIRECTORY]      DIRECTORY: where the packages are (target/packages)
set -euo pipefail
cd "$(dirname "$0")/.."
packages=$(realpath "${1:-target/packages}")
deb=("$packages"/gmfs_*.deb) rpm=("$packages"/gmfs-*.rpm)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Tests the main job with the program that was installed in a root.
installed() {
    local root=$1 name
    for name in mkfs.gmfs fsck.gmfs mkfs.guestmemfs fsck.guestmemfs mount.gmfs mount.fuse.gmfs; do
        [ -x "$root/usr/sbin/$name" ] || { echo "FAILED: $root has no $name" >&2; exit 1; }
    done
    GMFS=$root/usr/bin/gmfs "$root/usr/share/gmfs/packaging-test.sh"
}

# Checks that nothing of the package is left.
removed() {
    local left
    left=$(find "$1" -ipath '*gmfs*' ! -path "$1/var/lib/*" ! -type d; find "$1" -name '*.guestmemfs')
    [ -z "$left" ] || { echo "FAILED: left after the package was removed:" "$left" >&2; exit 1; }
}

if command -v lintian >/dev/null; then
    LC_ALL=C.UTF-8 lintian --allow-root --fail-on error,warning "${deb[@]}"
    echo "== lintian finds nothing wrong"
else
    echo "skipped: lintian is not installed" >&2
fi
if [ "$(id -u)" != 0 ]; then
    echo "skipped: only root can install packages into an empty root" >&2
    exit
fi

if command -v dpkg >/dev/null; then
    root=$work/deb
    mkdir -p "$root"/var/lib/dpkg/{info,updates}
    touch "$root"/var/lib/dpkg/{status,available}
    dpkg --root="$root" --log=/dev/null --install "${deb[@]}"
    installed "$root"
    dpkg --root="$root" --log=/dev/null --purge gmfs
    removed "$root"
    echo "== the .deb was installed, tried and removed"
else
    echo "skipped: dpkg is not installed" >&2
fi

if command -v rpm >/dev/null; then
    root=$work/rpm
    mkdir -p "$root"
    rpm --root "$root" --initdb
    rpm --root "$root" --nosignature --install "${rpm[@]}"
    installed "$root"
    rpm --root "$root" --erase gmfs
    removed "$root"
    echo "== the .rpm was installed, tried and removed"
else
    echo "skipped: rpm is not installed" >&2
fi
