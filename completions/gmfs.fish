# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_gmfs_global_optspecs
    string join \n color= h/help V/version
end

function __fish_gmfs_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_gmfs_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_gmfs_using_subcommand
    set -l cmd (__fish_gmfs_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c gmfs -n "__fish_gmfs_needs_command" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_needs_command" -s V -l version -d 'Print version'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "mkfs" -d 'Make a region in a file, a device or a range of memory'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "fsck" -d 'Check a region, and repair it when told to'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "repair" -d 'Plan repairs and apply them, in place or in a copy'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "explain" -d 'Explain what a finding of fsck means and how it is repaired'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "inspect" -d 'Show what a region says of itself'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "scan" -d 'Find all regions in an image'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "save" -d 'Copy the region, byte for byte, into a region file'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "dump" -d 'Copy the metadata into a small file, or print it as text'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "restore" -d 'Put the metadata of a dump back'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "ls" -d 'List files and directories'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "tree" -d 'Show directories and files as a tree'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "stat" -d 'Show everything that is recorded of files or directories'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "cat" -d 'Write the content of files to standard output'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "extract" -d 'Copy files or directories out of the region'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "map" -d 'Show where a file lies in physical memory, also as arguments for a VMM'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "who" -d 'Name the file and offset that an address belongs to'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "create" -d 'Make a file that reads as zeros, or an empty one'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "mkdir" -d 'Make directories'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "put" -d 'Copy a file into the region'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "truncate" -d 'Set the size of a file'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "mv" -d 'Rename or move a file or directory'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "rm" -d 'Remove files and directories'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "bad" -d 'Mark blocks with hardware errors, unmark them, or list them'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "undo" -d 'Take back what a command run with --undo has written'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "inject" -d 'Make problems on purpose, in a region file'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "generate" -d 'Write man pages or completions'
complete -c gmfs -n "__fish_gmfs_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -l region -d 'Where in IMAGE the region is to lie; in /dev/mem BASE is a physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s s -l size -d 'Size of the region: bytes, or a number with K, M, G or T, such as 1.5G; makes the file, or grows an empty one' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s L -l label -d 'Label, up to 63 bytes of UTF-8' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s U -l uuid -d 'UUID of the region [default: a random one]' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s N -l inodes -d 'How many files and directories it can hold, up to 1048576 [default: by size, from 1024 to 65536]' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -l pmd-size -d 'Block size: 2M, 32M or 512M [default: the PMD size of the running kernel]' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -l base -d 'Physical address to record as the region\'s base, for a file that is to be loaded there' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s f -l force -d 'Format whatever the image holds'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s n -l dry-run -d 'Print what would be made, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s q -l quiet -d 'Print nothing but errors'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s v -l verbose -d 'Print more: where the parts of the region lie'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkfs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l uuid -d 'Which region it is, where pages of several are left: as messages name it' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -s C -l progress -d 'Show progress, whatever standard error is; fsck(8) hands over a descriptor (-C0, -C 0), which is not used' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -s n -l no -d 'Only look; write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -s p -l preen -d 'Make the repairs that are proven, without asking (also -a)'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -s y -l yes -d 'Make all repairs, also those that give something up'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -s f -l force -d 'Check even if marked clean: always so, taken for fsck(8)\'s sake'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -s v -l verbose -d 'Print more: how many pages of metadata were checked, and what is in use'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -s r -d 'Ask before each repair: always so where nothing else is said, taken for fsck(8)\'s sake'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l data -d 'Also compare the contents of blocks with their recorded CRCs'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l accept -d 'Take the doubt off all files that are flagged doubtful: they are as they should be'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand fsck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -s o -l output -d 'Leave IMAGE as it is; copy the region into FILE and repair it there' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l uuid -d 'Which region it is, where pages of several are left: as messages name it' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -s n -l dry-run -l plan -d 'Print the plan as a list of edits, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -s y -l yes -d 'Also make repairs that give something up'
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l release-lost -d 'Free the blocks that repairs have reserved: what they hold is given up'
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand repair" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand explain" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand explain" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l page -d 'With raw: which metadata page of the copy, counted from 0, the superblock [default: 0]' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l copy -d 'With raw: which copy [default: the one that counts]' -r -f -a "a\t'At the start of the region'
b\t'At its end'"
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l image -d 'Show what IMAGE itself is: a dump\'s format, kernel and memory, and how much of the region it holds'
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l in-use -d 'With files: which processes have each file mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l step -d 'Distance of the places that are looked at, a multiple of 4K' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand scan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -s o -l output -d 'The file to make, - for standard output' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -s f -l force -d 'Replace FILE if it exists'
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -s n -l dry-run -d 'Print what would be made, and make nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -s o -l output -d 'The file to make, - for standard output' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -s f -l force -d 'Replace FILE if it exists'
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l obfuscate -d 'Replace each name by another of its length, and the label; damaged pages stay as damaged as they are'
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l text -d 'Print text, one fact a line, in an order that is always the same'
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -s n -l dry-run -d 'Print what would be made, and make nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand dump" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -s f -l force -d 'Put it back also where there is no region, or another one'
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -s y -l yes -d 'Do not ask'
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -l json -d 'Print JSON; takes -y or -n'
complete -c gmfs -n "__fish_gmfs_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -s l -l long -d 'Show mode, owner, group, size, blocks and time of change'
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l in-use -d 'Show which processes have files mapped (with -l, or --json)'
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -s R -l recursive -d 'List directories below too, by their paths'
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand tree" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l in-use -d 'Show which processes have the files mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand stat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l offset -d 'Where to start in each file, in bytes, K, M, G, T' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l length -d 'How much of each file, in bytes, K, M, G, T [default: all]' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l missing -d 'With --sparse-absent: where the list goes' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -l sparse-absent -d 'Leave holes in standard output, a file, where the image does not hold the content, and list them'
complete -c gmfs -n "__fish_gmfs_using_subcommand cat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l missing -d 'With --sparse-absent: one list for all files, made also if nothing is missing [default: FILE.missing beside each file in which something is]' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -s f -l force -d 'Replace files that exist'
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l sparse-absent -d 'Leave holes where the image does not hold the content, and list them'
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -s n -l dry-run -d 'Print what would be made, and make nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand extract" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l vmm -d 'Print the arguments that make the file a guest\'s memory' -r -f -a "qemu\t'QEMU 8.1 or newer: memory-backend-file objects with an offset'"
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand map" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand who" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -s s -l size -d 'Its size: bytes, or a number with K, M, G or T, such as 1.5G [default: 0, an empty file]' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l mode -d 'Permission bits in octal' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l sparse -d 'Give it no blocks: all of it is a hole'
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l align-1g -d 'Lay each GiB of it at a multiple of 1 GiB of physical address, so that a VMM can map PUDs'
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -l mode -d 'Permission bits in octal' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -s p -l parents -d 'Make the directories above them too, and accept those that exist'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand mkdir" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l mode -d 'Permission bits in octal, for a new file [default: 600]' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -s f -l force -d 'Replace the content of a file that exists'
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l sparse -d 'Give no blocks to stretches of zeros'
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l align-1g -d 'Lay each GiB of it at a multiple of 1 GiB of physical address, so that a VMM can map PUDs'
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand put" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -s s -l size -d 'Its new size: bytes, or a number with K, M, G or T, such as 1.5G; +SIZE and -SIZE grow and shrink it' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -l sparse -d 'Give no blocks to what it grows by: that is a hole'
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand truncate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -s f -l force -d 'Take the place of a file that exists, which is lost'
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand mv" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -s r -l recursive -d 'Remove directories with all that is in them'
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and not __fish_seen_subcommand_from add del list help" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and not __fish_seen_subcommand_from add del list help" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and not __fish_seen_subcommand_from add del list help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and not __fish_seen_subcommand_from add del list help" -f -a "add" -d 'Mark blocks'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and not __fish_seen_subcommand_from add del list help" -f -a "del" -d 'Take marks back: a file\'s block is its data again, any other becomes reserved'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and not __fish_seen_subcommand_from add del list help" -f -a "list" -d 'List marked blocks and whose they are'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and not __fish_seen_subcommand_from add del list help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from add" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from add" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from add" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from add" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from add" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from add" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from del" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from del" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from del" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from del" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from del" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from del" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from del" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l region -d 'Where in IMAGE the region lies, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l part -d 'Another part of the split dump that IMAGE is a part of; give all of them, in any order' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l base -d 'IMAGE is raw memory whose first byte was at this physical address' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l holes -d 'What holes in a file of raw memory are: zero (pages of zeros, which is the default), absent (not in the file)' -r -f -a "zero\t'Pages of zeros'
absent\t'Pages that the file does not hold'"
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l over -d 'Read the holes of IMAGE from FILE, the snapshot below it; of several, each is below the one before it' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l no-lock -d 'Read although another process may be changing the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from help" -f -a "add" -d 'Mark blocks'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from help" -f -a "del" -d 'Take marks back: a file\'s block is its data again, any other becomes reserved'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from help" -f -a "list" -d 'List marked blocks and whose they are'
complete -c gmfs -n "__fish_gmfs_using_subcommand bad; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -l in-use-ok -d 'Free and overwrite memory even if a process has it mapped'
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -s f -l force -d 'Put back also into an image that has changed since, or from a file whose command was stopped'
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -l region -d 'Where in IMAGE the region is, as in guestmemfs=SIZE:BASE' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -l wait -d 'How long to wait while another process has the region locked; 0 does not wait' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -l undo -d 'Record what is overwritten, so that `gmfs undo` can take it back' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -l page -d 'Damage this metadata page (0 is the superblock)' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -l copy -d 'In this copy [default: A]' -r -f -a "A\t''
B\t''"
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -l how -d 'How: zero, overwrite, flip, tear, swap, stale, foreign, version' -r
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -s n -l dry-run -d 'Print what would be done, and write nothing'
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -l json -d 'Print JSON'
complete -c gmfs -n "__fish_gmfs_using_subcommand inject" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand generate" -l out -d 'The directory to write them into' -r -F
complete -c gmfs -n "__fish_gmfs_using_subcommand generate" -l color -d 'When to use colours: auto (on a terminal, unless NO_COLOR is set), always, never' -r -f -a "auto\t'On a terminal, unless NO_COLOR is set'
always\t'Always'
never\t'Never'"
complete -c gmfs -n "__fish_gmfs_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "mkfs" -d 'Make a region in a file, a device or a range of memory'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "fsck" -d 'Check a region, and repair it when told to'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "repair" -d 'Plan repairs and apply them, in place or in a copy'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "explain" -d 'Explain what a finding of fsck means and how it is repaired'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "inspect" -d 'Show what a region says of itself'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "scan" -d 'Find all regions in an image'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "save" -d 'Copy the region, byte for byte, into a region file'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "dump" -d 'Copy the metadata into a small file, or print it as text'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "restore" -d 'Put the metadata of a dump back'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "ls" -d 'List files and directories'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "tree" -d 'Show directories and files as a tree'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "stat" -d 'Show everything that is recorded of files or directories'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "cat" -d 'Write the content of files to standard output'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "extract" -d 'Copy files or directories out of the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "map" -d 'Show where a file lies in physical memory, also as arguments for a VMM'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "who" -d 'Name the file and offset that an address belongs to'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "create" -d 'Make a file that reads as zeros, or an empty one'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "mkdir" -d 'Make directories'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "put" -d 'Copy a file into the region'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "truncate" -d 'Set the size of a file'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "mv" -d 'Rename or move a file or directory'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "rm" -d 'Remove files and directories'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "bad" -d 'Mark blocks with hardware errors, unmark them, or list them'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "undo" -d 'Take back what a command run with --undo has written'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "inject" -d 'Make problems on purpose, in a region file'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "generate" -d 'Write man pages or completions'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and not __fish_seen_subcommand_from mkfs fsck repair explain inspect scan save dump restore ls tree stat cat extract map who create mkdir put truncate mv rm bad undo inject generate help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and __fish_seen_subcommand_from bad" -f -a "add" -d 'Mark blocks'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and __fish_seen_subcommand_from bad" -f -a "del" -d 'Take marks back: a file\'s block is its data again, any other becomes reserved'
complete -c gmfs -n "__fish_gmfs_using_subcommand help; and __fish_seen_subcommand_from bad" -f -a "list" -d 'List marked blocks and whose they are'
