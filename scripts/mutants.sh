#!/bin/sh
# Breaks one rule of repairs at a time in a copy of the source tree, and shows whether the product test notices.
#
#   scripts/mutants.sh DIRECTORY [NAME...]
#
# The copy and its build go to DIRECTORY, which is created if necessary and can be removed afterwards. Each edit must
# apply exactly once. For each mutation, the script prints two lines with the number of violations and cases: without
# the gate, which tests the decision and the planner alone, and with the gate. GATES=without does only the first;
# GMFS_PRODUCT_MODE=random runs fewer cases.
set -eu

tree=$(cd "$(dirname "$0")/.." && pwd)
copy=${1:?"usage: scripts/mutants.sh DIRECTORY [NAME...]"}
shift
mkdir -p "$copy"
copy=$(cd "$copy" && pwd)
export CARGO_TARGET_DIR="$copy/target"

fresh() {
    (cd "$tree" && git ls-files) | while read -r file; do
        mkdir -p "$copy/tree/$(dirname "$file")"
        cmp -s "$tree/$file" "$copy/tree/$file" || cp "$tree/$file" "$copy/tree/$file"
    done
}

# change FILE OLD NEW: replaces OLD, which must occur exactly once, with NEW.
change() {
    python3 - "$copy/tree/$1" "$2" "$3" <<'P'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
if text.count(old) != 1:
    sys.exit(f"{path}: {text.count(old)} places of: {old}")
open(path, "w").write(text.replace(old, new))
P
}

volume=crates/gmfs-volume/src
mutate() {
    case $1 in
    none) ;;
    free-kept) change $volume/settle.rs 'Some(BlockRaw::FREE) if !proven => BlockRaw::RESERVED,' 'Some(BlockRaw::FREE) if false => BlockRaw::RESERVED,' ;;
    newer-undone) change $volume/decide.rs 'if !fits {' 'if false && !fits {' ;;
    no-sum) change $volume/decide.rs 'census.witnesses().iter().any(|(_, given)| *given == sum).then(|| Decision {' '(!census.witnesses().is_empty()).then(|| Decision {' ;;
    own-word)
        change $volume/decide.rs 'for page in pages().filter(of_top) {
            proven.set(page, true);
        }
        for (number' 'for (number'
        change $volume/decide.rs '    for page in census.conflicts() {
        proven.set(*page, false);' '    for page in pages().filter(of_top) {
        proven.set(page, true);
    }
    for page in census.conflicts() {
        proven.set(*page, false);'
        ;;
    no-flags) change $volume/settle.rs 'self.is & FILE != 0 && self.is & FLAGGED == 0 && (self' 'false && (self' ;;
    marks-believed) change $volume/decide.rs 'let marks = census.marks();
    let sums' 'let marks = census.witnesses().first()?.0;
    let sums' ;;
    no-evidence) change $volume/decide.rs 'if !census.is_evidenced() {' 'if false {' ;;
    no-contention) change $volume/regions.rs 'let plain = only.is_some() && !more && !strays && !disputed;' 'let plain = true;' ;;
    strays-overwritten) change crates/gmfs-check/src/plan/doubt.rs 'strangers && policy == Policy::Safe' 'false && strangers' ;;
    no-counts)
        change crates/gmfs-check/src/plan/doubt.rs 'finding.code().stage() == Stage::Contradictions && proven()' 'false && finding.code().stage() == Stage::Contradictions && proven()'
        change $volume/settle.rs 'known.is & PROVEN != 0 && known.is & FLAGGED == 0 && (wrong || missing)' 'false && (wrong || missing)'
        ;;
    uncertain-whole) change crates/gmfs-format/src/native/copies.rs '&& !self.conflict && !self.uncertain' '&& !self.conflict' ;;
    marks-hide) change $volume/superblocks.rs 'found.generation().is_some_and(|seen| seen > generation)' 'found.generation().is_some_and(|seen| seen > generation) && false' ;;
    wrong-copy) change $volume/settle.rs '=> CopyId::B,
        _ => CopyId::A,' '=> CopyId::A,
        _ => CopyId::B,' ;;
    *) echo "no mutation is called $1" >&2; exit 2 ;;
    esac
}

ungated() {
    change crates/gmfs-check/src/apply.rs 'carry_out(&mut gate, state, edits, stamp)?;' 'drop(gate); carry_out(target, state, edits, stamp)?;'
    change crates/gmfs-check/src/apply.rs 'let (first, more) = gate.forgot();' 'let (first, more) = (Vec::new(), 0);'
    change crates/gmfs-check/src/apply.rs 'let mut gate = Gate::new(target' 'let gate = Gate::new(&mut *target'
}

all="none free-kept newer-undone no-sum own-word no-flags marks-believed no-evidence no-contention strays-overwritten no-counts uncertain-whole marks-hide wrong-copy"
for name in ${*:-$all}; do
    for gate in ${GATES:-without with}; do
        fresh
        mutate "$name"
        [ $gate = with ] || ungated
        out="$copy/$name.$gate"
        # shellcheck disable=SC2015
        (cd "$copy/tree" && cargo test -q -p gmfs-check --test product no_combination -- --nocapture) >"$out" 2>&1 && end=0 || end=$?
        counted=$(sed -n 's/^\([0-9]* violations in [0-9]* cases\).*/\1/p' "$out")
        echo "$name, $gate gate: ${counted:-did not run} (status $end)"
    done
done
