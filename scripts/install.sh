#!/usr/bin/env bash
# Installs gmfs from this checkout: the program, its other names, manual pages, completions, the kdump hooks, documents.
#
#   scripts/install.sh [--prefix P] [--destdir D] [--binary FILE]
#
# P is /usr/local by default. D is put before each path that is written, as packages need it. FILE is the program. By
# default it is the static one that `cargo build --release --target` made, or otherwise that of `cargo build --release`.
# An existing /etc/gmfs/kdump.conf is kept. The script prints the paths of the files that it has written.
set -euo pipefail

prefix=/usr/local destdir='' binary=''
usage() {
    echo "usage: scripts/install.sh [--prefix P] [--destdir D] [--binary FILE]" >&2
    exit 2
}
while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
    --prefix) prefix=${2%/} ;;
    --destdir) destdir=${2%/} ;;
    --binary) binary=$(realpath -m -- "$2") ;;
    *) usage ;;
    esac
    shift 2
done
case $prefix in
/* | '') ;;
*)
    echo "install.sh: the prefix $prefix is not an absolute path" >&2
    exit 2
    ;;
esac
case $destdir in
/* | '') ;;
*) destdir=$PWD/$destdir ;;
esac
cd "$(dirname "$0")/.."

if [ -z "$binary" ]; then
    for binary in "${CARGO_TARGET_DIR:-target}"/*-linux-*/release/gmfs "${CARGO_TARGET_DIR:-target}/release/gmfs"; do
        [ ! -x "$binary" ] || break
    done
fi
if [ ! -x "$binary" ]; then
    echo "install.sh: there is no program at $binary; build it first: cargo build --release --bin gmfs" >&2
    exit 1
fi

umask 022
put() { # MODE SOURCE DESTINATION
    install -D -m "$1" -- "$2" "$destdir$3"
    echo "$destdir$3"
}
link() { # TARGET DESTINATION
    mkdir -p -- "$destdir${2%/*}"
    ln -sfn -- "$1" "$destdir$2"
    echo "$destdir$2"
}
adapted() { # MODE SOURCE DESTINATION: a script that names programs by their place below the prefix
    mkdir -p -- "$destdir${3%/*}"
    sed "s|/usr/local/|$prefix/|g" "$2" >"$destdir$3"
    chmod "$1" "$destdir$3"
    echo "$destdir$3"
}
share=$prefix/share

put 755 "$binary" "$prefix/bin/gmfs"
# mkfs(8), fsck(8) and mount(8) look for these in sbin.
names=(mkfs.gmfs fsck.gmfs mkfs.guestmemfs fsck.guestmemfs mount.gmfs mount.fuse.gmfs)
for name in "${names[@]}"; do
    link ../bin/gmfs "$prefix/sbin/$name"
done

for page in man/*.8; do
    put 644 "$page" "$share/man/man8/${page##*/}"
done

put 644 completions/gmfs.bash "$share/bash-completion/completions/gmfs"
# bash-completion looks for a file with the name of the command.
for name in "${names[@]}"; do
    link gmfs "$share/bash-completion/completions/$name"
done
put 644 completions/_gmfs "$share/zsh/site-functions/_gmfs"
put 644 completions/gmfs.fish "$share/fish/vendor_completions.d/gmfs.fish"

put 644 contrib/magic "$share/gmfs/magic"
put 755 scripts/packaging-test.sh "$share/gmfs/packaging-test.sh"
for schema in docs/schema/*.json; do
    put 644 "$schema" "$share/gmfs/schema/${schema##*/}"
done

put 755 contrib/kdump/gmfs-kdump-save "$prefix/sbin/gmfs-kdump-save"
if [ -e "$destdir/etc/gmfs/kdump.conf" ]; then
    echo "install.sh: $destdir/etc/gmfs/kdump.conf is kept as it is" >&2
else
    put 644 contrib/kdump/kdump.conf /etc/gmfs/kdump.conf
fi
adapted 644 contrib/kdump-tools/gmfs.conf "$prefix/lib/systemd/system/kdump-tools-dump.service.d/gmfs.conf"
# dracut reads modules in no other place.
for file in contrib/dracut/90gmfs-kdump/*; do
    put "$(stat -c %a "$file")" "$file" "/usr/lib/dracut/modules.d/90gmfs-kdump/${file##*/}"
done

for document in README.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT docs/*.md; do
    put 644 "$document" "$share/doc/gmfs/${document##*/}"
done
