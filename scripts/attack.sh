#!/usr/bin/env bash
# Attacks a build of gmfs from outside: the harnesses in ../shared/attack damage, splice, crash and race regions, and
# judge the results with their own reader.
#
#   scripts/attack.sh [SEED [TRIALS]]      TRIALS (100) trials of each harness, fewer of the slow ones, starting with SEED
#
# GMFS names the program (default: target/release/gmfs). The last line counts the failures; if there are any, the exit
# status is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
attack=../shared/attack
if [ ! -d "$attack" ]; then
    echo "no attack: $attack is not there"
    [ "${CI:-}" = true ] && [ "${GMFS_NO_SHARED:-}" != 1 ] && exit 1
    exit 0
fi
seed=${1:-$RANDOM$RANDOM}
GMFS=$(realpath "${GMFS:-target/release/gmfs}")
trials=${2:-100}
export GMFS LIMIT=600

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$attack"/* "$work"
chmod -R u+w "$work"
# The reader of the harnesses was written before pages had a trailer. Now an inode has 164 reserved bytes, and the last
# 32 bytes of a page are not slots of the table.
sed -i -e 's/bytes(168)/bytes(ISZ-336)/' -e 's/any(pg\[64+16\*k:\])/any(pg[64+16*k:PG-32])/' "$work/oracle.py"

# Limit the harnesses by a number of trials, not by time, so that one seed is the same attack on each machine.
sed -i -e "s/one \\\$h.py \"\\\$seed\" 100000/one \\\$h.py \"\\\$seed\" \\\$(trials \\\$h)/" \
    -e "s/one crash.py \"\\\$seed\" 100000/one crash.py \"\\\$seed\" $((trials / 10))/" -e 's/one \$c 25/one $c 10/' "$work/run.sh"
# shellcheck disable=SC2016 # run.sh expands it.
sed -i "2i trials() { case \$1 in diff) echo $((trials / 25)) ;; splice) echo $((trials * 2)) ;; *) echo $trials ;; esac; }" \
    "$work/run.sh"

log=$work/log
bash "$work/run.sh" all "$seed" 2>&1 | tee "$log" | grep -v '^base '
failures=$(sed -n 's/^FAIL lines: //p' "$log")
[ "${failures:-1}" = 0 ]
