#!/usr/bin/env bash
# Unpacks the QEMU of Debian's backports into a folder, for the tests of `gmfs vm`: they need QEMU 8.2, and Debian 12 has 7.2.
# Nothing is installed. The packages come from the mirror that this machine's apt uses, with its keys, and by lists and
# caches of their own. Libraries are those of Debian's own qemu-system-x86, which has to be installed.
#
#   scripts/newer-qemu.sh DIRECTORY    prints the path of qemu-system-x86_64 in DIRECTORY
#
# A folder that was filled before is left as it is. Ends with 77, and says why, if there is no such QEMU to be had.
set -euo pipefail

if [ $# != 1 ]; then
    echo "usage: scripts/newer-qemu.sh DIRECTORY" >&2
    exit 2
fi

skip() {
    echo "skipped: $*" >&2
    exit 77
}

directory=$(realpath -m "$1")
qemu=$directory/usr/bin/qemu-system-x86_64
# These four depend on each other in this version; everything else they need is in Debian 12.
packages=(qemu-system-x86 qemu-system-common qemu-system-data seabios)

starts() {
    [ -x "$qemu" ] && "$qemu" --version 2>/dev/null | grep -q '^QEMU emulator version \(8\.[2-9]\|9\|[1-9][0-9]\)'
}

if starts; then
    echo "$qemu"
    exit 0
fi

for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null || skip "$program is not installed, and Debian's packages are all that is looked for"
done
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
[ -n "$release" ] || skip "/etc/os-release names no release, so there are no backports to take a newer QEMU from"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,lists/partial,cache/archives/partial,packages,unpacked}

# The machine's own sources of this release, with the suite of its backports in place of theirs.
for file in /etc/apt/sources.list.d/*.sources; do
    [ -e "$file" ] || continue
    sed '/^#/d' "$file" | awk -v release="$release" 'BEGIN { RS = ""; ORS = "\n\n" }
        $0 ~ "(^|\n)Suites:[^\n]*[ \t]" release "([ \t]|\n|$)" { print }' |
        sed "s/^Suites:.*/Suites: $release-backports/; s/^Components:.*/Components: main/" >"$work/sources/$(basename "$file")"
done
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -e "$file" ] || continue
    sed -n "s/^\(deb \(\[[^]]*\] \)\?[^ ]*\) $release main.*/\1 $release-backports main/p" "$file" \
        >"$work/sources/$(basename "$file" .list).list"
done

apt=(-qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/sources" -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
apt-get "${apt[@]}" update >"$work/log" 2>&1 || skip "the lists of $release-backports cannot be had: $(tail -n 1 "$work/log")"

versioned=()
for package in "${packages[@]}"; do
    version=$(apt-cache "${apt[@]}" madison "$package" | awk -F ' *[|] *' 'NR == 1 { print $2 }')
    [ -n "$version" ] || skip "$release-backports has no $package"
    versioned+=("$package=$version")
done
(cd "$work/packages" && apt-get "${apt[@]}" download "${versioned[@]}") >"$work/log" 2>&1 ||
    skip "${versioned[*]} cannot be downloaded: $(tail -n 1 "$work/log")"
for package in "$work"/packages/*.deb; do
    dpkg-deb -x "$package" "$work/unpacked"
done

rm -rf "$directory"
mkdir -p "$(dirname "$directory")"
mv "$work/unpacked" "$directory"
starts || skip "$("$qemu" --version 2>&1 | head -n 1): a library is missing, or it is no newer one"
echo "$qemu"
