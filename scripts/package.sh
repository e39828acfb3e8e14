#!/usr/bin/env bash
# Builds the packages of gmfs, a .deb and an .rpm, for the machine that it runs on, with the static program.
#
#   scripts/package.sh [--binary FILE] [DIRECTORY]
#
# They are written to DIRECTORY (target/packages). FILE is a static program that was built before; without FILE, the
# script builds it. cargo-deb and cargo-generate-rpm are installed with cargo if they are missing. The files in the
# packages have the date SOURCE_DATE_EPOCH, or otherwise that of the last commit.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=''
if [ "${1:-}" = --binary ]; then
    binary=${2:?--binary takes a FILE}
    shift 2
fi
if [ $# -gt 1 ] || [[ ${1:-} == -* ]]; then
    echo "usage: scripts/package.sh [--binary FILE] [DIRECTORY]" >&2
    exit 2
fi
out=$(realpath -m "${1:-target/packages}")

for tool in cargo-deb cargo-generate-rpm; do
    command -v $tool >/dev/null || cargo install --locked $tool
done

target=$(rustc -vV | sed -n 's/^host: //p')
if [ -z "$binary" ]; then
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target "$target" --bin gmfs
    binary=${CARGO_TARGET_DIR:-target}/$target/release/gmfs
fi
if ! [[ $(LC_ALL=C ldd "$binary" 2>&1 || :) =~ (statically linked|not a dynamic executable) ]]; then
    echo "package.sh: $binary is not static" >&2
    exit 1
fi

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH

# What is installed, as scripts/install.sh knows it. The paths are those of [package.metadata] in Cargo.toml.
root=target/package-root
rm -rf "$root"
scripts/install.sh --prefix /usr --destdir "$root" --binary "$binary" >/dev/null
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
maintainer=$(sed -n '/^\[package.metadata.deb\]/,/^\[/s/^maintainer = "\(.*\)"/\1/p' Cargo.toml)
printf 'gmfs (%s-1) unstable; urgency=medium\n\n  * See /usr/share/doc/gmfs/CHANGELOG.md.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" >target/package-changelog

mkdir -p "$out"
rm -f "$out"/gmfs[_-]*.deb "$out"/gmfs-*.rpm
cargo deb --quiet --no-build --no-strip --locked --deb-version "$version-1" --output "$out/"
cargo generate-rpm --auto-req no --output "$out/"

# Both packages hold what scripts/install.sh installs. Beyond that, the .deb has only its copyright, changelog and
# lintian files.
paths() { sed -E 's|^\./||; s|^/||; s|\.gz$||; /\/$/d' | LC_ALL=C sort; }
compare() {
    local package=$1
    if ! diff -u --label installed --label "$package" - "$root.paths" >&2; then
        echo "package.sh: the package $package does not hold what scripts/install.sh installs: see Cargo.toml" >&2
        exit 1
    fi
}
installed() { (cd "$root" && find . ! -type d) | paths; }
if command -v dpkg-deb >/dev/null; then
    dpkg-deb --fsys-tarfile "$out"/gmfs_*.deb | tar -t |
        sed 's|/zsh/vendor-completions/|/zsh/site-functions/|' | paths |
        grep -v -e '^usr/share/doc/gmfs/copyright$' -e '^usr/share/doc/gmfs/changelog' -e '^usr/share/lintian/' >"$root.paths"
    installed | compare deb
fi
if command -v rpm >/dev/null; then
    rpm -qpl "$out"/gmfs-*.rpm | paths >"$root.paths"
    # The package holds no links; they are made when it is installed.
    (cd "$root" && find . -type f) | paths | compare rpm
fi
rm -f "$root.paths"
ls -l "$out"
