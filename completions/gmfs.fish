# Completion of gmfs for fish 3 or newer. `gmfs completions fish` prints this file.

function __gmfs_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l gmfs gmfs
    # The gmfs that is called; under its other names, the one that is installed.
    if string match -qr '(^|/)gmfs$' -- $words[1]
        set gmfs $words[1]
    end
    set -l lines ($gmfs complete (count $words) -- $words $current 2>/dev/null)
    switch "$lines[1]"
        case :files
            __fish_complete_path $current
        case :directories
            __fish_complete_directories $current
        case '*'
            printf '%s\n' $lines
    end
end

for name in gmfs mkfs.gmfs fsck.gmfs mkfs.guestmemfs fsck.guestmemfs mount.gmfs mount.fuse.gmfs
    complete --command $name --no-files --keep-order --arguments '(__gmfs_complete)'
end
