#!/bin/bash
# A dracut module for capture images: saves guestmemfs regions as soon as the root file system is mounted.
# It belongs at /usr/lib/dracut/modules.d/90gmfs-kdump/. Name it with --force-add: then dracut fails if gmfs is missing.

# dracut looks in few directories only, and not below /usr/local.
find_program() {
    local directory
    for directory in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin; do
        if [[ -x ${dracutsysrootdir:-}$directory/$1 ]]; then
            echo "$directory/$1"
            return 0
        fi
    done
    derror "gmfs-kdump: no $1"
    return 1
}

# Only when asked for by name: an ordinary boot has no use for it.
check() {
    find_program gmfs >/dev/null && find_program gmfs-kdump-save >/dev/null || return 1
    return 255
}

depends() {
    echo base
}

install() {
    # What the script runs. The shell is the image's own.
    inst_multiple cat date df grep mkdir mount rm sync
    inst_multiple -o timeout
    inst "$(find_program gmfs)" /usr/sbin/gmfs
    inst "$(find_program gmfs-kdump-save)" /usr/sbin/gmfs-kdump-save
    if [[ -e ${dracutsysrootdir:-}/etc/gmfs/kdump.conf ]]; then
        inst_simple /etc/gmfs/kdump.conf
    fi
    # Late in pre-pivot, when all mounts are there; kdump-utils' own capture service comes after these hooks.
    inst_hook pre-pivot 90 "${moddir:?}/save.sh"
}
