# Completion of gmfs for bash 4 or newer. `gmfs completions bash` prints this file.

_gmfs() {
    # Bash splits words at = and : as well; put together what was typed together.
    local words=() at=0 i word glue=''
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ ($word =~ ^[=:]+$ || $glue) && ${#words[@]} -gt 1 ]]; then
            words[at]+=$word
        else
            words+=("$word")
        fi
        at=$((${#words[@]} - 1))
        if [[ $word =~ ^[=:]+$ ]]; then glue=1; else glue=''; fi
    done
    local current=${words[at]} gmfs=gmfs
    # The gmfs that is called; under its other names, the one that is installed.
    case ${words[0]##*/} in gmfs) gmfs=${words[0]} ;; esac

    local lines line
    mapfile -t lines < <("$gmfs" complete "$at" -- "${words[@]}" 2>/dev/null)
    COMPREPLY=()
    # What bash takes for the start of the word, which the words that are offered do not repeat.
    local begun=${current%"${COMP_WORDS[COMP_CWORD]}"}
    [[ ${COMP_WORDS[COMP_CWORD]} =~ ^[=:]+$ ]] && begun=$current
    case ${lines[0]-} in
    :files | :directories)
        local kind=-f
        [[ ${lines[0]} = :directories ]] && kind=-d
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen "$kind" -- "${current#"$begun"}")
        ;;
    *)
        for line in "${lines[@]}"; do
            line=${line%%$'\t'*}
            line=${line#"$begun"}
            [[ $line == *[!A-Za-z0-9/._,:=@+%-]* ]] && printf -v line %q "$line"
            COMPREPLY+=("$line")
        done
        # A directory of the region: what is in it may follow.
        [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace 2>/dev/null
        ;;
    esac
    return 0
}

complete -F _gmfs gmfs mkfs.gmfs fsck.gmfs mkfs.guestmemfs fsck.guestmemfs mount.gmfs mount.fuse.gmfs
