#!/bin/bash
# A dracut module for capture images. It saves guestmemfs regions as soon as the root file system is mounted. Install it in
# /usr/lib/dracut/modules.d/90gmfs-kdump/. Add it with --force-add, so that dracut fails if gmfs is missing.

# dracut searches only a few directories for programs, and none below /usr/local.
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

# 255 means: only if the module is requested by name. An ordinary boot does not need it.
check() {
    find_program gmfs >/dev/null && find_program gmfs-kdump-save >/dev/null || return 1
    return 255
}

depends() {
    echo base
}

install() {
    # The programs that the script runs. The image has a shell already.
    inst_multiple cat date df grep mkdir mount rm sync
    inst_multiple -o timeout
    inst "$(find_program gmfs)" /usr/sbin/gmfs
    inst "$(find_program gmfs-kdump-save)" /usr/sbin/gmfs-kdump-save
    if [[ -e ${dracutsysrootdir:-}/etc/gmfs/kdump.conf ]]; then
        inst_simple /etc/gmfs/kdump.conf
    fi
    # Run late in pre-pivot, when everything is mounted. kdump-utils' own capture service runs after these hooks.
    inst_hook pre-pivot 90 "${moddir:?}/save.sh"
}
