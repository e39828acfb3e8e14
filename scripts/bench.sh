#!/usr/bin/env bash
# Measures gmfs beside a yardstick and its peers, and prints a Markdown report (docs/PERFORMANCE-REPORT.md holds one).
#
# Run it as root on Debian: it then installs the peers, gives what it measures real-time priority, and mounts the peers'
# filesystems to fill them. Without root it does what it can and says what is missing. It needs Rust (or GMFS_BIN), and
# 7 GiB free in a tmpfs. The environment can set everything:
#   RUNS=5            rounds for commands that take long; the commands of a table take turns in each round
#   SHORT_RUNS=21     rounds for commands that take milliseconds
#   SIZES='1G 1T 16T 64T'
#   PEER_SIZE=16T     size on which the checkers of the peers are compared
#   FILL_SECONDS=240  stop filling the peers' filesystems after this many seconds, and compare by mapping
#   SECTIONS='mkfs answer check peers list repair findings copies seals diff vm dumps mount layouts'
#   COPY_MIB=1024     MiB of the file that the section copies copies; it takes 5 times as much space in WORK
#   SEAL_MIB=2048     MiB of the file that the section seals reads
#   DUMP_MIB=1024     MiB of memory in each dump of the section dumps; the dumps take 5 times as much space in WORK
#   MOUNT_MIB=1024    MiB of the file that the section mount reads
#   STATIC=1          measure the static binary, as used in an initramfs
#   GMFS_BIN=folder   use gmfs and its example programs from this folder instead of building them (REVISION names them)
#   WORK=folder       make the images in this folder, and keep them for the next run
#   SKIP_INSTALL=1    install nothing
set -euo pipefail
cd "$(dirname "$0")/.."
root_folder=$PWD

RUNS=${RUNS:-5}
SHORT_RUNS=${SHORT_RUNS:-21}
SIZES=${SIZES:-1G 1T 16T 64T}
PEER_SIZE=${PEER_SIZE:-16T}
FILL_SECONDS=${FILL_SECONDS:-240}
SECTIONS=${SECTIONS:-mkfs answer check peers list repair findings copies seals diff vm dumps mount layouts}
COPY_MIB=${COPY_MIB:-1024}
SEAL_MIB=${SEAL_MIB:-2048}
DUMP_MIB=${DUMP_MIB:-1024}
MOUNT_MIB=${MOUNT_MIB:-1024}
FILES=1000
LARGEST=${SIZES##* }
# A table whose quartiles spread by more than this (in percent) is measured for longer.
SPREAD=30
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }
root() { [ "$(id -u)" = 0 ]; }
have() { command -v "$1" >/dev/null; }

# --- requirements ----------------------------------------------------------------------------------------------------

if root && [ -z "${SKIP_INSTALL:-}" ] && have apt-get; then
    for tool in mkfs.btrfs e2fsck xfs_repair thin_check xxhsum; do
        have "$tool" && [ -x /usr/bin/time ] && continue
        say "installing the peers"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            btrfs-progs e2fsprogs xfsprogs thin-provisioning-tools xxhash time >/dev/null
        break
    done
    case " $SECTIONS " in *" dumps "*)
        if ! have makedumpfile || [ ! -e /usr/include/libkdumpfile/kdumpfile.h ]; then
            say "installing the peers of the readers of dumps"
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
                makedumpfile libkdumpfile-dev gcc libc6-dev >/dev/null
        fi
        ;;
    esac
fi
if [ -z "${GMFS_BIN:-}" ]; then
    say "building"
    target=() release=${CARGO_TARGET_DIR:-target}/release
    if [ -n "${STATIC:-}" ]; then
        # The same flags as in scripts/test.sh, so that both use the same build.
        host=$(rustc -vV | sed -n 's/^host: //p')
        target=(--target "$host") release=${CARGO_TARGET_DIR:-target}/$host/release
        export RUSTFLAGS='-C target-feature=+crt-static'
    fi
    cargo build --quiet --locked --release "${target[@]}" --bin gmfs
    cargo build --quiet --locked --release "${target[@]}" -p gmfs-volume --examples
    cargo build --quiet --locked --release "${target[@]}" -p gmfs-format --features fuzzing --example make_handover
    cargo build --quiet --locked --release "${target[@]}" -p gmfs-dump -p gmfs-image \
        --features gmfs-dump/deflate-c,gmfs-dump/zstd-c --example make_dump --example save_window
    release=$(realpath "$release")
    # A copy, as an installation makes it. What the linker itself has written is in small pieces in the page cache, and takes
    # more page faults to start.
    mkdir -p "$release/installed"
    cp "$release/gmfs" "$release/installed/"
    PATH="$release/installed:$release/examples:$PATH"
else
    PATH="$(realpath "$GMFS_BIN"):$PATH"
fi
revision="at $(git describe --always --dirty 2>/dev/null || echo 'an unknown revision')"
[ -z "${GMFS_BIN:-}" ] || revision=${REVISION:-as given by GMFS_BIN}
[ -z "${STATIC:-}" ] || revision="$revision, static binary"

if [ -n "${WORK:-}" ]; then
    mkdir -p "$WORK"
    folder=$(realpath "$WORK")
else
    folder=$(mktemp -d /dev/shm/gmfs-bench.XXXXXX)
fi
[ "$(stat -f -c %T "$folder")" = tmpfs ] || say "warning: $folder is not on a tmpfs; the figures will be the disk's"
if [ "$(($(stat -f -c '%a * %S' "$folder")))" -lt $((7 << 30)) ]; then
    say "warning: less than 7 GiB free in $folder"
fi
cleanup() {
    chrt -o -p 0 $$ 2>/dev/null || true
    local mounted
    for mounted in "$folder"/mnt.*; do
        umount "$mounted" 2>/dev/null || true
        rmdir "$mounted" 2>/dev/null || true
    done
    rm -rf "${private:-}"
    [ -n "${WORK:-}" ] || rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"
private=$(mktemp -d "$folder/samples.XXXXXX")
missing=()

# --- measuring -------------------------------------------------------------------------------------------------------

# What starts between quiet_begin and quiet_end runs on one CPU, with priority over everything else on it.
priority=none
quiet_begin() {
    taskset -cp 0 $$ >/dev/null 2>&1 || true
    if chrt -f -p 10 $$ 2>/dev/null; then priority="real-time (chrt -f 10)"; fi
}
quiet_end() {
    chrt -o -p 0 $$ 2>/dev/null || true
    taskset -cp "$all_cpus" $$ >/dev/null 2>&1 || true
}
all_cpus=$(taskset -cp $$ | sed 's/.*: //')

# Adds a row to the next table: row COMMAND [PREPARATION [FILE WHOSE SIZE IS PRINTED]]
commands=() prepares=() outputs=()
row() {
    have "${1%% *}" || { missing+=("${1%% *}"); return 0; }
    commands+=("$1") prepares+=("${2:-}") outputs+=("${3:-}")
}

# One run of row $1 in round $2: a line "row round microseconds CPU-milliseconds status".
once() {
    local start end status=0 user system
    eval "${prepares[$1]}"
    TIMEFORMAT='%U %S'
    start=${EPOCHREALTIME/[.,]/}
    { time eval "${commands[$1]}" >/dev/null 2>&1; } 2>"$private/cpu" || status=$?
    end=${EPOCHREALTIME/[.,]/}
    read -r user system <"$private/cpu"
    echo "$1 $2 $((end - start)) $(awk "BEGIN { print ($user + $system) * 1000 }") $status" >>"$private/samples"
}

# measure ROUNDS REFERENCE: runs the rows in turn and prints the table. REFERENCE is the row with which the others are
# compared, round by round; -1 for none. With UNITS (one for each row, or empty), a column has the time for each unit.
measure() {
    local rounds=$1 reference=$2 round=0 goal=$1 k
    : >"$private/samples"
    : >"$private/extra"
    quiet_begin
    while [ "$round" -lt "$goal" ]; do
        round=$((round + 1))
        for k in "${!commands[@]}"; do
            # A command that takes seconds runs only three times.
            if [ "$round" -gt 3 ] && awk -v k="$k" '$1 == k { t += $3 } END { exit !(t > 6e6) }' "$private/samples"; then
                continue
            fi
            once "$k" "$round"
        done
        if [ "$round" = "$goal" ] && [ "$goal" = "$rounds" ] && ! report "$reference" >/dev/null; then
            goal=$((rounds * 3))
        fi
    done
    for k in "${!commands[@]}"; do
        eval "${prepares[$k]}"
        local peak=- size=-
        # time(1) does not know shell syntax (VAR=x, redirections), so no peak is measured for commands that use any.
        if [ -x /usr/bin/time ] && [[ ${commands[$k]} != *[\>\|]* ]]; then
            # shellcheck disable=SC2086 # the command is words
            /usr/bin/time -q -f %M -o "$private/peak" ${commands[$k]} >/dev/null 2>&1 || true
            peak=$(tail -n 1 "$private/peak")
        fi
        [ -z "${outputs[$k]}" ] || size=$(du -B1 "${outputs[$k]}" | cut -f1)
        printf '%s\t%s\t%s\t%s\t%s\n' "$k" "$peak" "$size" "${UNITS[$k]:-0}" "${commands[$k]}" >>"$private/extra"
    done
    quiet_end
    report "$reference" || true
    commands=() prepares=() outputs=() UNITS=()
}
UNITS=()

# Prints the table of what has been measured. Fails when a row spreads too much.
report() {
    awk -v reference="$1" -v limit="$SPREAD" -v extra="$private/extra" '
        function sorted(list, n,    i, j, v) {
            for (i = 2; i <= n; i++) {
                v = list[i]
                for (j = i - 1; j >= 1 && list[j] > v; j--) list[j + 1] = list[j]
                list[j + 1] = v
            }
        }
        function at(list, n, part) { return list[1 + int((n - 1) * part + 0.5)] }
        function bytes(v) {
            if (v == "-") return v
            return (v >= 8388608) ? sprintf("%.0f MiB", v / 1048576) : sprintf("%.0f KiB", v / 1024)
        }
        function ms(v) { return (v < 100) ? sprintf("%.2f ms", v) : sprintf("%.0f ms", v) }
        { n[$1]++; wall[$1, $2] = $3 / 1000; cpu[$1, $2] = $4; if ($5) status[$1] = $5; if ($1 > last) last = $1
          if ($2 > rounds) rounds = $2 }
        END {
            while ((getline line < extra) > 0) {
                split(line, part, "\t")
                peak[part[1]] = part[2]; size[part[1]] = part[3]; units[part[1]] = part[4]; command[part[1]] = part[5]
                if (part[3] != "-") sizes = 1
                if (part[4] > 0) per = 1
            }
            printf "| Command | Median | Least | Spread | CPU | Peak memory |%s%s%s\n", sizes ? " Written |" : "",
                per ? " Per mapping |" : "", (reference >= 0) ? " Ratio |" : ""
            printf "| --- | --: | --: | --: | --: | --: |%s%s%s\n", sizes ? " --: |" : "", per ? " --: |" : "",
                (reference >= 0) ? " --: |" : ""
            for (k = 0; k <= last; k++) {
                m = 0; c = 0; p = 0
                for (r = 1; r <= rounds; r++) if ((k, r) in wall) {
                    w[++m] = wall[k, r]; u[++c] = cpu[k, r]
                    if ((reference, r) in wall) q[++p] = wall[k, r] / wall[reference, r]
                }
                sorted(w, m); sorted(u, c); sorted(q, p)
                median = at(w, m, 0.5)
                spread = (at(w, m, 0.75) - at(w, m, 0.25)) * 100 / median
                if (spread > limit) bad = 1
                printf "| `%s`%s | %s | %s | %d %% | %s |", command[k], (k in status) ? " (exit " status[k] ")" : "",
                    ms(median), ms(w[1]), spread, sprintf("%.0f ms", at(u, c, 0.5))
                printf " %s |", (peak[k] == "-") ? "-" : sprintf("%.1f MiB", peak[k] / 1024)
                if (sizes) printf " %s |", bytes(size[k])
                if (per) printf " %s |", (units[k] > 0) ? sprintf("%.1f ns", median * 1e6 / units[k]) : ""
                if (reference >= 0) printf " %s |", k == reference ? "1" : sprintf("%.2f", at(q, p, 0.5))
                printf "\n"
            }
            exit bad
        }' "$private/samples"
}

# --- images ----------------------------------------------------------------------------------------------------------

blank() { rm -f "$2" && truncate -s "$1" "$2"; }

empty() {
    [ -e "empty-$1.gmfs" ] || gmfs mkfs -q "empty-$1.gmfs" --size "$1"
}

full() {
    [ -e "full-$1-$2.gmfs" ] || full_region "full-$1-$2.gmfs" "$1" "$FILES" "$2" >/dev/null
}

# Gives each of FILES files 2 MiB in turn until there is no more room or time; prints how often it did so.
deal_out() {
    perl -e '
        my ($folder, $files, $seconds) = @ARGV;
        my ($number) = map { /x86_64/ ? 285 : 47 } `uname -m`;
        my @open = map { open(my $h, "+>", "$folder/vm$_.mem") or die "$!"; $h } 1 .. $files;
        my ($end, $count) = (time + $seconds, 0);
        ROUND: for my $round (0 .. 1 << 30) {
            last if time > $end;
            for my $h (@open) {
                syscall($number, fileno($h), 0, $round << 21, 1 << 21) == 0 or last ROUND;
                $count++;
            }
        }
        print "$count\n";' "$1" "$FILES" "$FILL_SECONDS"
}

# Makes a filesystem of a peer in which the files have the blocks in turn: peer_filesystem IMAGE MKFS...
peer_filesystem() {
    local image=$1 mount="mnt.$1"
    shift
    [ ! -e "$image.count" ] || return 0
    blank "$PEER_SIZE" "$image"
    "$@" "$image" >/dev/null 2>&1
    mkdir -p "$mount"
    if ! root || ! have perl || ! mount -o loop "$image" "$mount" 2>/dev/null; then
        say "cannot mount $image, so it is checked empty"
        rmdir "$mount"
        echo 0 >"$image.count"
        return 0
    fi
    (ulimit -n 4096 && deal_out "$mount" >"$image.count.new") || true
    umount "$mount"
    rmdir "$mount"
    mv "$image.count.new" "$image.count"
}

# Makes the metadata of a thin pool of PEER_SIZE in which FILES devices have all blocks in turn.
thin_metadata() {
    [ ! -e thin.count ] || return 0
    local blocks
    blocks=$(gmfs inspect "full-$PEER_SIZE-robin.gmfs" superblock | awk '/^Data blocks/ { print $3 }')
    awk -v devices="$FILES" -v blocks="$blocks" 'BEGIN {
        printf "<superblock uuid=\"\" time=\"0\" transaction=\"1\" data_block_size=\"4096\" nr_data_blocks=\"%d\">\n", blocks
        for (d = 0; d < devices; d++) {
            mapped = int(blocks / devices) + (d < blocks % devices)
            printf "<device dev_id=\"%d\" mapped_blocks=\"%d\" transaction=\"0\" creation_time=\"0\" snap_time=\"0\">\n", d, mapped
            for (k = 0; k < mapped; k++)
                printf "<single_mapping origin_block=\"%d\" data_block=\"%d\" time=\"0\"/>\n", k, k * devices + d
            print "</device>"
        }
        print "</superblock>" }' >thin.xml
    blank 1G thin.meta
    thin_restore -i thin.xml -o thin.meta >/dev/null
    rm thin.xml
    echo "$blocks" >thin.count
}

# --- sections --------------------------------------------------------------------------------------------------------

section_mkfs() {
    printf '\n## Formatting\n'
    local size image
    for size in $SIZES; do
        printf '\n%s, a new sparse file in each round; with `--size`, gmfs creates it. Ratio: to the first row.\n\n' "$size"
        image="new-$size"
        row "gmfs mkfs $image.gmfs" "blank $size $image.gmfs" "$image.gmfs"
        row "gmfs mkfs $image.made --size $size" "rm -f $image.made" "$image.made"
        row "mkfs.btrfs -q $image.btrfs" "blank $size $image.btrfs" "$image.btrfs"
        row "mke2fs -q -F -t ext4 -O bigalloc -C 2M $image.ext4" "blank $size $image.ext4" "$image.ext4"
        row "mkfs.xfs -q $image.xfs" "blank $size $image.xfs" "$image.xfs"
        row /bin/true
        measure "$SHORT_RUNS" 0
        rm -f "$image".*
    done
}

section_answer() {
    printf '\n## First answer\n\nThe command prints the superblock. Ratio: to the first row.\n\n'
    local size image=peer-$PEER_SIZE
    for size in $SIZES; do
        empty "$size"
        row "gmfs inspect empty-$size.gmfs superblock"
        full "$size" robin
        row "gmfs inspect full-$size-robin.gmfs superblock"
    done
    blank "$PEER_SIZE" "$image.btrfs"
    have mkfs.btrfs && mkfs.btrfs -q "$image.btrfs" >/dev/null
    row "btrfs inspect-internal dump-super $image.btrfs"
    local of
    for of in empty full; do
        if [ "$of" = empty ]; then
            blank "$PEER_SIZE" empty.ext4
            blank "$PEER_SIZE" empty.xfs
            have mke2fs && mke2fs -q -F -t ext4 -O bigalloc -C 2M empty.ext4
            have mkfs.xfs && mkfs.xfs -q empty.xfs
        elif [ ! -e full.ext4.count ] || [ ! -e full.xfs.count ]; then
            continue
        fi
        row "dumpe2fs -h $of.ext4"
        row "xfs_db -r -f -c sb -c p $of.xfs"
    done
    row "gmfs --version"
    row /bin/true
    measure "$SHORT_RUNS" 0
    rm -f "$image".* empty.ext4 empty.xfs
}

section_check() {
    printf '\n## Check beside the yardstick\n\n'
    printf '`read_and_sum` reads the used metadata of both copies and computes the CRC-32 of each page, on one thread.\n'
    printf 'Ratio: to `read_and_sum`. Rows with `taskset -c 0,1` run on two CPUs, all others on one.\n'
    local size order image
    for size in $SIZES; do
        for order in empty long robin; do
            if [ "$order" = empty ]; then
                empty "$size"
                image=empty-$size.gmfs
                printf '\n%s, empty:\n\n' "$size"
            else
                full "$size" "$order"
                image=full-$size-$order.gmfs
                printf '\n%s, full, %s:\n\n' "$size" "$([ "$order" = long ] && echo 'long extents' || echo 'every extent one block')"
            fi
            row "read_and_sum $image"
            row "gmfs fsck -n $image"
            row "taskset -c 0,1 gmfs fsck -n $image"
            measure "$(case $image in *1G* | empty*) echo "$SHORT_RUNS" ;; *) echo "$RUNS" ;; esac)" 0
            [ "$order" != long ] || rm -f "$image"
        done
    done
}

section_peers() {
    full "$PEER_SIZE" robin
    local ext4 xfs thin region
    ext4=$(cat full.ext4.count 2>/dev/null || echo 0)
    xfs=$(cat full.xfs.count 2>/dev/null || echo 0)
    thin=$(cat thin.count 2>/dev/null || echo 0)
    region=$(gmfs inspect "full-$PEER_SIZE-robin.gmfs" superblock | awk '/^Data blocks/ { print $3 }')
    printf '\n## Check beside the peers\n\n%s, %s files, every extent one block of 2 MiB: ' "$PEER_SIZE" "$FILES"
    printf '%s mappings\nin the region, %s in ext4 with bigalloc, %s in XFS, %s in the thin pool.\n' \
        "$region" "$ext4" "$xfs" "$thin"
    printf 'A peer with fewer mappings is not completely full (0: could not be mounted here): compare the times per mapping.\n'
    printf 'One CPU. Ratio: to `gmfs fsck`.\n\n'
    UNITS=()
    row "gmfs fsck -n full-$PEER_SIZE-robin.gmfs" && UNITS+=("$region")
    row "read_and_sum full-$PEER_SIZE-robin.gmfs" && UNITS+=("$region")
    [ ! -e full.ext4.count ] || { row "e2fsck -fn full.ext4" && UNITS+=("$ext4"); }
    [ ! -e full.xfs.count ] || { row "xfs_repair -n -f full.xfs" && UNITS+=("$xfs"); }
    [ ! -e thin.count ] || { row "thin_check -q thin.meta" && UNITS+=("$thin"); }
    measure "$RUNS" 0
}

section_list() {
    empty "$LARGEST"
    full "$LARGEST" robin
    printf '\n## Open and list\n\n%s; each command opens the region again. Ratio: to the first row.\n\n' "$LARGEST"
    local image=full-$LARGEST-robin.gmfs
    row "gmfs inspect $image superblock"
    row "gmfs ls empty-$LARGEST.gmfs"
    row "gmfs ls $image"
    row "gmfs stat $image /vm0007.mem"
    row "gmfs inspect $image"
    row "gmfs map $image /vm0007.mem"
    row "gmfs inspect $image blocks"
    row "gmfs who $image 0x20000000"
    measure "$RUNS" 0
}

# All of copy A is gone. The peer is dd, which writes copy A from copy B and computes no CRC.
section_repair() {
    local image=full-$LARGEST-robin.gmfs copy blocks
    full "$LARGEST" robin
    read -r copy blocks < <(gmfs inspect "$image" superblock | awk '
        /^Region size/ { gsub(/[(),]/, " "); for (n = 1; n <= NF; n++) if ($n ~ /^[0-9]+$/ && $n > size) size = $n }
        /^Metadata blocks/ { blocks = $3 }
        END { printf "%.0f %d\n", size - blocks * 2097152, blocks }')
    printf '\n## Repair\n\n%s, every extent one block, all of copy A gone. On two CPUs. ' "$LARGEST"
    printf 'Ratio: to dd, which writes copy A from\ncopy B and checks nothing.\n\n'
    local gone="fallocate -p -o 0 -l $((blocks * 2097152)) $image"
    row "taskset -c 0,1 dd if=$image of=$image bs=2M iflag=skip_bytes skip=$copy count=$blocks conv=notrunc" "$gone"
    row "taskset -c 0,1 gmfs fsck -p $image" "$gone"
    row "taskset -c 0,1 gmfs fsck -n $image" "$gone"
    measure "$RUNS" 0
    # What dd wrote is not a valid copy A, because its pages name copy B.
    $gone && gmfs fsck -p "$image" >/dev/null || true
}

# Millions of findings: examples/damage_region.rs describes the damage.
section_findings() {
    full "$PEER_SIZE" robin
    printf '\n## Millions of findings\n\n%s, %s files, every extent one block, damaged by `damage_region FILE KIND`. ' \
        "$PEER_SIZE" "$FILES"
    printf 'On two CPUs; one run of each,\nfor a repair takes up to minutes.\n\n'
    printf '| Damage | Command | Time | CPU | Peak memory | Says |\n| --- | --- | --: | --: | --: | --- |\n'
    local kind command took
    quiet_begin
    for kind in owners states inodes pages lost; do
        rm -f damaged.gmfs
        cp --sparse=always "full-$PEER_SIZE-robin.gmfs" damaged.gmfs
        damage_region damaged.gmfs "$kind"
        for command in 'fsck -n' 'repair --plan -y' 'fsck -y' 'fsck -n'; do
            # shellcheck disable=SC2086 # the command is words
            taskset -c 0,1 /usr/bin/time -q -f '%e %U %S %M' -o "$private/took" \
                gmfs $command damaged.gmfs >"$private/said" 2>/dev/null || true
            took=$(tail -n 1 "$private/took" | awk '{ printf "%.2f s | %.2f s | %.1f MiB", $1, $2 + $3, $4 / 1024 }')
            printf '| %s | `gmfs %s` | %s | %s |\n' "$kind" "$command" "$took" \
                "$(grep -a '^damaged.gmfs: ' "$private/said" | tail -n 1 | sed 's/^damaged.gmfs: //')"
        done
    done
    quiet_end
    rm -f damaged.gmfs
}

# Files in and out of a region, beside cp, dd and cat.
section_copies() {
    local bytes=$((COPY_MIB << 20)) kind n
    rm -f copy.*
    head -c "$bytes" /dev/urandom >copy.dense
    # Every second MiB is a hole.
    truncate -s "$bytes" copy.half
    for ((n = 0; n < COPY_MIB; n += 2)); do
        dd if=copy.dense of=copy.half bs=1M count=1 skip="$n" seek="$n" conv=notrunc status=none
    done
    printf '\n## Files in and out of a region\n\n%s MiB, in the page cache. ' "$COPY_MIB"
    printf 'Each output is a new file. On two CPUs. Ratio: to the first row.\n'
    for kind in dense half; do
        printf '\n%s:\n\n' "$([ "$kind" = dense ] && echo 'Without holes' || echo 'Every second MiB a hole')"
        gmfs mkfs -q copy.gmfs --size "$((COPY_MIB * 2 + 64))M"
        gmfs put copy.gmfs "copy.$kind" /f --sparse >/dev/null 2>&1
        row "taskset -c 0,1 cp copy.$kind copy.out" 'rm -f copy.out'
        row "taskset -c 0,1 dd if=copy.$kind of=copy.out bs=1M" 'rm -f copy.out'
        row "taskset -c 0,1 gmfs extract copy.gmfs /f copy.out" 'rm -f copy.out'
        row "taskset -c 0,1 cat copy.$kind > copy.out" 'rm -f copy.out'
        row "taskset -c 0,1 gmfs cat copy.gmfs /f > copy.out" 'rm -f copy.out'
        row "taskset -c 0,1 cat copy.$kind | cat" 'rm -f copy.out'
        row "taskset -c 0,1 gmfs cat copy.gmfs /f | cat" 'rm -f copy.out'
        row "taskset -c 0,1 cp copy.gmfs copy.out" 'rm -f copy.out'
        row "taskset -c 0,1 gmfs save copy.gmfs -o copy.out" 'rm -f copy.out'
        row "taskset -c 0,1 gmfs put copy.put copy.$kind /f" \
            'rm -f copy.put; gmfs mkfs -q copy.put --size $((COPY_MIB + 64))M'
        measure "$RUNS" 0
        rm -f copy.gmfs copy.put copy.out
    done
    rm -f copy.*
}

# A file read through a mount, beside the same file through bindfs, which passes each request on to the file.
section_mount() {
    have bindfs && [ -e /dev/fuse ] || { missing+=(bindfs); return 0; }
    mkdir -p mnt.gmfs mnt.bindfs mount.plain
    head -c "$((MOUNT_MIB << 20))" /dev/urandom >mount.plain/f
    gmfs mkfs -q mount.img --size "$((MOUNT_MIB + 64))M"
    gmfs put mount.img mount.plain/f /f >/dev/null 2>&1
    gmfs mount mount.img mnt.gmfs 2>/dev/null
    bindfs -n mount.plain mnt.bindfs
    printf '\n## Mounted\n\nA file of %s MiB, in the page cache of the tmpfs, is read through FUSE. ' "$MOUNT_MIB"
    printf 'The page cache of the mounts is empty before each run. On two CPUs. Ratio: to the first row.\n\n'
    # What is opened again is read again, and not from the pages of the last time.
    row 'taskset -c 0,1 dd if=mnt.bindfs/f of=/dev/null bs=1M' 'echo 1 >/proc/sys/vm/drop_caches'
    row 'taskset -c 0,1 dd if=mnt.gmfs/f of=/dev/null bs=1M' 'echo 1 >/proc/sys/vm/drop_caches'
    measure "$RUNS" 0
    umount mnt.gmfs mnt.bindfs
    rm -rf mount.img mount.plain
}

section_seals() {
    rm -f seal.*
    # Hardly more than the content and the metadata. All rows read this file, because the page cache may hold another one in
    # larger folios, which are faster to read.
    gmfs mkfs -q seal.gmfs --size "$((SEAL_MIB + 8))M"
    head -c "$((SEAL_MIB << 20))" /dev/urandom | gmfs put seal.gmfs - /f >/dev/null 2>&1
    printf '\n## Seals\n\nA file of %s MiB without holes, in the page cache. ' "$SEAL_MIB"
    printf '`crc_file` reads the region file and computes a CRC-32 of each 2 MiB. Ratio: to the first row.\n'
    local cpus threads
    for threads in 1 2; do
        cpus=0
        [ "$threads" = 1 ] || cpus=0,1
        printf '\nCPUs: %s\n\n' "$threads"
        row "taskset -c $cpus crc_file seal.gmfs $threads"
        row "taskset -c $cpus gmfs seal seal.gmfs --again"
        row "taskset -c $cpus gmfs verify seal.gmfs"
        row "taskset -c $cpus cksum seal.gmfs"
        row "taskset -c $cpus xxhsum seal.gmfs"
        measure "$RUNS" 0
    done
    rm -f seal.*
    printf '\n## Seals of holes\n\nA region of %s whose content is all holes, without a seal and with all seals. Two CPUs.\n\n' \
        "$LARGEST"
    full "$LARGEST" long
    row "taskset -c 0,1 gmfs seal full-$LARGEST-long.gmfs --again"
    row "taskset -c 0,1 gmfs verify full-$LARGEST-long.gmfs"
    measure 1 -1
    rm -f "full-$LARGEST-long.gmfs"
}

# Two states of a region in which every extent is one block, all blocks sealed, beside a check of each.
section_diff() {
    full 1T robin
    cp --sparse=always full-1T-robin.gmfs diff-a.gmfs
    gmfs seal diff-a.gmfs >/dev/null 2>&1
    cp --sparse=always diff-a.gmfs diff-b.gmfs
    printf '\n## Two sealed regions of 1T, every extent one block\n\nRatio: to the first row.\n\n'
    row "sh -c 'gmfs fsck -n diff-a.gmfs; gmfs fsck -n diff-b.gmfs'"
    row "gmfs diff --seals diff-a.gmfs diff-b.gmfs"
    row "gmfs diff diff-a.gmfs diff-b.gmfs"
    row "gmfs preflight diff-a.gmfs"
    measure "$RUNS" 0
    printf '\nMost of `preflight` is reading what all processes of the machine have mapped.\n'
    rm -f diff-a.gmfs diff-b.gmfs
}

# What saving and resuming a guest takes besides QEMU, whose part is played by a program that answers at once. The memory of
# the guest is 1 GiB of holes in a region of 1T.
section_vm() {
    have python3 || { missing+=(python3); return 0; }
    rm -f vm.gmfs vm.qmp
    gmfs mkfs -q vm.gmfs --size 1T
    gmfs mkdir vm.gmfs /a 2>/dev/null
    gmfs create vm.gmfs /others --size 1000G 2>/dev/null
    gmfs create vm.gmfs /a/mem --size 1G 2>/dev/null
    local extent
    extent=$(gmfs stat vm.gmfs /a/mem --json | tr -d ' ,"' | awk -F: '
        $1 == "address" && at == "" { at = $2 } $1 == "length" && length_of == "" { length_of = $2 }
        END { print at, length_of }')
    printf '\n## Saving and resuming a guest\n\nWith a stand-in that answers QMP at once.\n\n'
    row "gmfs vm save vm.gmfs /a --qmp vm.qmp --reserve 4M" "stand_in '$extent' running"
    row "gmfs vm resume vm.gmfs /a --qmp vm.qmp" "stand_in '$extent' inmigrate"
    row "gmfs fsck -n vm.gmfs"
    measure "$RUNS" -1
    rm -f vm.gmfs vm.qmp
}

# Starts the stand-in, and waits until it listens. It ends with the command that follows.
stand_in() {
    rm -f vm.qmp
    # shellcheck disable=SC2086 # the place and the size are two words
    "$root_folder/scripts/qmp_stand_in.py" vm.qmp "$PWD/vm.gmfs" $1 "$2" &
    while [ ! -S vm.qmp ]; do sleep 0.01; done
    sleep 0.05
}

# Makes one dump in each codec: by makedumpfile where it can, otherwise by make_dump. dumps.by lists the
# codecs that makedumpfile wrote.
make_dumps() {
    [ ! -e dumps.by ] || return 0
    gmfs mkfs -q dumps.region --size 64M
    make_dump elf dump.elf "$DUMP_MIB" dumps.region
    # Two of these run at a time.
    for codec in none snappy zstd flat-zlib; do
        make_dump "$codec" "dump.$codec" "$DUMP_MIB" dumps.region &
        [ "$codec" != snappy ] || wait
    done
    local codec option by=
    for codec in zlib lzo; do
        option=-c
        [ "$codec" = zlib ] || option=-l
        if have makedumpfile && makedumpfile "$option" -d 1 dump.elf "dump.$codec" >/dev/null 2>&1; then
            by="$by $codec"
        else
            make_dump "$codec" "dump.$codec" "$DUMP_MIB" dumps.region
        fi
    done
    wait
    echo "${by:- none}" >dumps.by
}

section_dumps() {
    say "making dumps"
    make_dumps
    if have cc && cc -O2 -o libkdumpfile "$root_folder/scripts/libkdumpfile.c" -lkdumpfile 2>/dev/null; then
        PATH="$PWD:$PATH"
    fi
    printf '\n## Dumps: reading all of the memory\n\n'
    printf '%s MiB of memory, half of which can be compressed; by makedumpfile: %s, the others by\n' \
        "$DUMP_MIB" "$(cat dumps.by)"
    printf '`make_dump`. `save_window` reads as `save` does, on one thread (`-t 1`), and `libkdumpfile` with\n'
    printf 'kdump_read() in pieces of 1 MiB. One CPU. Rate: by CPU time. Ratio: of the rates.\n\n'
    rates_begin
    local codec
    for codec in zlib lzo snappy zstd none elf; do
        rate "$codec" "save_window -t 1 dump.$codec" "libkdumpfile dump.$codec $DUMP_MIB"
    done
    rate flat-zlib "save_window -t 1 dump.flat-zlib" ""
    rates_end 'MiB of memory per CPU second'

    printf '\n## Dumps: an ELF dump beside dd\n\nBoth in pieces of 256 KiB. One CPU. Ratio: to the first row.\n\n'
    row "dd if=dump.elf of=/dev/null bs=256k status=none"
    row "save_window -t 1 dump.elf"
    measure "$SHORT_RUNS" 0

    printf '\n## Dumps: two threads\n\nWith `taskset -c 0,1` on two CPUs. Ratio: to the first row of each codec.\n'
    for codec in zlib lzo snappy zstd; do
        printf '\n'
        row "save_window -t 1 dump.$codec"
        row "taskset -c 0,1 save_window -t 2 dump.$codec"
        measure "$RUNS" 0
    done

    printf '\n## Dumps: the first answer\n\n'
    printf 'Times include opening. `libkdumpfile ... first` opens and reads one page. Ratio: to the first row.\n\n'
    for codec in zlib flat-zlib zstd elf; do
        row "gmfs inspect --region 64M:0x10000000 dump.$codec superblock"
        [ "$codec" = flat-zlib ] || row "libkdumpfile dump.$codec first"
    done
    row "gmfs --version"
    row /bin/true
    measure "$SHORT_RUNS" 0

    printf '\n## Dumps: scattered pages\n\n'
    printf 'Every other page is in the dump: bitmaps of 1 MiB (16 GiB of memory) and of 64 MiB (1 TiB), both maps together, with as\n'
    printf 'many runs of pages as possible. The files end after the bitmaps.\n\n'
    make_dump scattered dump.scattered-1 16384
    make_dump scattered dump.scattered-64 1048576
    local size
    for size in 1 64; do
        row "gmfs inspect --image --region 16M:0x10000000 dump.scattered-$size"
        row "gmfs scan dump.scattered-$size"
    done
    row "gmfs --version"
    measure "$SHORT_RUNS" -1
    rm -f dump.* dumps.by dumps.region libkdumpfile
}

# Rows of codec, command, and the peer's command, whose CPU times are compared in RUNS rounds, each after the other.
# What a kernel hands over: one file of 64 GiB in single pages (256 MiB of records), and one of 1 TiB in folios of 2 MiB (8 MiB
# of records). No other tool reads this. `--at` names the device tree; `scan` looks for it.
section_layouts() {
    local image tree
    printf '\n## Hand-overs of a kernel\n\nMade by `examples/make_handover.rs`; the memory of the guest is a hole.\n'
    for image in handover-64g handover-1t; do
        if [ ! -e "$image.tree" ]; then
            case $image in
            *64g) make_handover "$image.raw" 64 0 >"$image.tree" ;;
            *) make_handover "$image.raw" 1024 9 >"$image.tree" ;;
            esac
        fi
        tree=$(cat "$image.tree")
        printf '\n'
        row "gmfs scan $image.raw --base 0"
        row "gmfs ls -R $image.raw --base 0 --at $tree"
        row "gmfs inspect $image.raw --base 0 --at $tree"
        row "gmfs map $image.raw /bench/0x1 --base 0 --at $tree"
        row "gmfs who $image.raw 0x140000000 --base 0 --at $tree"
        row "gmfs fsck -n $image.raw --base 0 --at $tree"
        measure "$RUNS" -1
    done
}

rates_begin() { : >"$private/rates"; names=() ours=() theirs=(); }
rate() {
    local peer=$3
    have "${peer%% *}" || peer=
    names+=("$1") ours+=("$2") theirs+=("$peer")
}
rates_end() {
    local round k which command user system
    quiet_begin
    TIMEFORMAT='%U %S'
    for ((round = 0; round < RUNS; round++)); do
        for k in "${!names[@]}"; do
            for which in 0 1; do
                command=${ours[$k]}
                [ "$which" = 0 ] || command=${theirs[$k]}
                [ -n "$command" ] || continue
                # shellcheck disable=SC2086 # the command is words
                if ! { time $command >/dev/null 2>"$private/error"; } 2>"$private/cpu"; then
                    say "$command: $(cat "$private/error")"
                    continue
                fi
                read -r user system <"$private/cpu"
                echo "$k $which $user $system" >>"$private/rates"
            done
        done
    done
    quiet_end
    printf '| Dump | `save_window` | libkdumpfile | Ratio |\n| --- | --: | --: | --: |\n'
    printf '%s\n' "${names[@]}" >"$private/names"
    awk -v mib="$DUMP_MIB" -v unit="$1" -v names="$private/names" '
        function median(list, n,    i, j, v) {
            for (i = 2; i <= n; i++) {
                v = list[i]
                for (j = i - 1; j >= 1 && list[j] > v; j--) list[j + 1] = list[j]
                list[j + 1] = v
            }
            return list[1 + int((n - 1) / 2 + 0.5)]
        }
        { seconds = $3 + $4; rate[$1, $2, ++n[$1, $2]] = mib / seconds; if ($1 > last) last = $1 }
        END {
            while ((getline line < names) > 0) name[count++] = line
            for (k = 0; k <= last; k++) {
                for (which = 0; which < 2; which++) {
                    for (i = 1; i <= n[k, which]; i++) list[i] = rate[k, which, i]
                    middle[which] = n[k, which] ? median(list, n[k, which]) : 0
                }
                both = n[k, 0] < n[k, 1] ? n[k, 0] : n[k, 1]
                for (i = 1; i <= both; i++) list[i] = rate[k, 0, i] / rate[k, 1, i]
                printf "| %s | %.0f | %s | %s |\n", name[k], middle[0],
                    middle[1] ? sprintf("%.0f", middle[1]) : "-", both ? sprintf("%.2f", median(list, both)) : "-"
            }
        }' "$private/rates"
    printf '\nIn %s, medians of %s rounds.\n' "$1" "$RUNS"
}

# --- the run ---------------------------------------------------------------------------------------------------------

version() { have "$1" && "$@" 2>&1 | head -n 1 | sed 's/,.*part of/, part of/'; }

started=$(date +%s)
load=$(cut -d' ' -f1-3 /proc/loadavg)
case " $SECTIONS " in *" peers "*)
    say "making the peers' filesystems (up to $FILL_SECONDS s)"
    full "$PEER_SIZE" robin
    have e2fsck && peer_filesystem full.ext4 mke2fs -q -F -t ext4 -O bigalloc -C 2M &
    have xfs_repair && peer_filesystem full.xfs mkfs.xfs -q &
    wait
    ! have thin_restore || thin_metadata
    ;;
esac
{
    for section in $SECTIONS; do
        say "measuring: $section"
        "section_$section"
    done
} >"$private/report"

cat <<REPORT
- Date: $(date -u +%F), gmfs $(gmfs --version | awk '{ print $2 }') $revision
- Machine: $(sed -n 's/^model name\t*: //p' /proc/cpuinfo | head -n 1), $(getconf _NPROCESSORS_ONLN) CPUs,
  $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo) of memory, Linux $(uname -r), files on $(stat -f -c %T .)
- Load average at the start: $load, at the end: $(cut -d' ' -f1-3 /proc/loadavg)
- Priority of what is measured: $priority
- Peers: $(version mkfs.btrfs --version); $(version mke2fs -V); $(version mkfs.xfs -V); thin_check $(version thin_check --version)
$(case " $SECTIONS " in *" dumps "*)
    echo "- Readers of dumps: $(version makedumpfile -v | sed 's/ (released.*//')," \
        "libkdumpfile $(pkg-config --modversion libkdumpfile 2>/dev/null || echo 'of an unknown version')" ;; esac)
- Missing, so not measured: $(printf '%s\n' "${missing[@]:-nothing}" | sort -u | paste -sd' ')
- The run took $(($(date +%s) - started)) seconds.

Times are wall-clock. "Spread" is the distance of the quartiles in percent of the median. Ratios are medians of the
ratios round by round. Starting a program that does nothing (\`/bin/true\`, where listed) is in every figure.
REPORT
cat "$private/report"

