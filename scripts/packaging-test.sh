#!/bin/sh
# Tests an installed gmfs, in the manner of autopkgtest: makes a region file, fills it, damages it, repairs it, and
# compares what comes out. It needs neither root nor network, and leaves nothing behind.
#
#   packaging-test.sh [--dump FILE]      FILE: a crash dump (ELF vmcore or kdump-compressed) that is to be recognised
#
# GMFS names the program (gmfs, as the shell finds it), GMFS_SCHEMAS the directory with the JSON schemas (by default the
# one that is installed beside this script). Answers are compared with the schemas if Python's module jsonschema is
# installed. Exit status: 0 all is well, 1 something is not, 2 usage error.
set -eu
umask 077

dump=
if [ "${1:-}" = --dump ] && [ $# = 2 ]; then
    dump=$(realpath -- "$2")
elif [ $# != 0 ]; then
    echo "usage: packaging-test.sh [--dump FILE]" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
GMFS=${GMFS:-gmfs}
schemas=${GMFS_SCHEMAS:-$here/schema}
program=$(command -v "$GMFS") || {
    echo "FAILED: there is no program $GMFS" >&2
    exit 1
}
program=$(realpath -- "$program")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
cd "$folder"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect STATUS COMMAND...: the command must end with this status. What it prints is then in the files out and err.
expect() {
    want=$1
    shift
    status=0
    "$@" >out 2>err </dev/null || status=$?
    [ "$status" = "$want" ] || {
        cat out err >&2
        fail "'$*' ended with $status instead of $want"
    }
}

# Compares the file out with a schema.
answer() {
    [ -r "$schemas/$1.json" ] || fail "there is no schema $schemas/$1.json"
    if python3 -c 'import jsonschema' 2>/dev/null; then
        python3 - "$schemas/$1.json" out <<'END' || fail "the answer of '$1 --json' is not as its schema says"
import json, sys, jsonschema
schema, answer = (json.load(open(name)) for name in sys.argv[1:])
jsonschema.Draft202012Validator(schema).validate(answer)
END
        echo "ok: $1 --json is as its schema says"
    else
        grep -q "\"gmfs\.$1/[0-9]*\"" out || fail "the answer of '$1 --json' does not name its schema"
        echo "skipped: Python's module jsonschema is not installed, so that $1 --json was only looked at"
    fi
}

echo "testing $program"
expect 0 "$program" --version
cat out

# The program under its other names.
for name in mkfs.gmfs mkfs.guestmemfs fsck.gmfs fsck.guestmemfs mount.gmfs mount.fuse.gmfs; do
    ln -s "$program" "$name"
    expect 0 "./$name" -V
done

head -c 5000000 /dev/urandom >guest.mem
expect 0 ./mkfs.gmfs region.img --size 64M --label packaging
expect 0 "$program" mkdir region.img /vms
expect 0 "$program" put region.img guest.mem /vms/guest.mem
expect 0 "$program" cat region.img /vms/guest.mem
cmp out guest.mem || fail "the file came out differently"
expect 0 "$program" ls -l region.img /vms
grep -q guest.mem out || fail "ls does not list the file"
expect 0 "$program" inspect region.img --json
answer inspect
echo "ok: made, filled and read a region"

# Two pages of copy A are overwritten, the superblock among them. Copy B still has their content.
dd if=/dev/urandom of=region.img bs=4096 count=2 conv=notrunc 2>/dev/null
expect 4 ./fsck.gmfs -n region.img
expect 4 "$program" fsck -n region.img --json
answer fsck
expect 1 ./fsck.gmfs -p region.img
expect 0 ./fsck.gmfs -n region.img
expect 0 "$program" cat region.img /vms/guest.mem
cmp out guest.mem || fail "the file came out differently after the repair"
echo "ok: found and repaired damage"

if [ -n "$dump" ]; then
    # A dump of an ordinary machine has no region, so the exit status is 1, although the dump is read.
    status=0
    "$program" scan "$dump" --json >out 2>err </dev/null || status=$?
    [ "$status" -le 1 ] || {
        cat out err >&2
        fail "the dump cannot be read"
    }
    answer scan
    echo "ok: read $dump"
else
    echo "skipped: no crash dump was named"
fi

if [ -x "$(dirname "$program")/../sbin/gmfs-kdump-save" ]; then
    # Outside of a capture kernel, gmfs-kdump-save lists only the ranges that its settings name.
    printf 'REGIONS="64M:0x100000000"\n' >kdump.conf
    expect 0 env GMFS_KDUMP_CONF="$folder/kdump.conf" "$(dirname "$program")/../sbin/gmfs-kdump-save" --list
    [ "$(cat out)" = "67108864:4294967296" ] || fail "gmfs-kdump-save does not list the range of its settings"
    echo "ok: gmfs-kdump-save reads its settings"
fi
echo "all is well"
