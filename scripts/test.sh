#!/bin/bash
# Runs every test of the workspace and says how it went, one line a test program.
#
#   scripts/test.sh ci|all
#
# `ci` boots the rows marked so, `all` boots every row. The last line is the sum.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

case ${1:-} in
ci | all) export HAULBOOT_ROWS=$1 ;;
*)
    echo "usage: scripts/test.sh ci|all" >&2
    exit 2
    ;;
esac
mkdir -p target/debug target/test-images target/logs

# Test programs, images, and the drives of running machines. A machine whose drive can't be written
# fails in ways that say nothing of the disk.
needed=6
free=$(df -Pk target | awk 'NR == 2 { print $4 }')
# of what is there already a part is written anew, and older versions of it count for nothing
there=$(du -sk target/debug target/test-images |
    awk '{ sum += $1 } END { print sum < 4194304 ? sum : 4194304 }')
if [ $(((free + there) >> 20)) -lt $needed ]; then
    echo "error: the tests need $needed GiB of disk, and $(((free + there) >> 10)) MiB are there" >&2
    echo "  help: make room on the file system of $PWD, or \`make clean\` in other clones" >&2
    exit 1
fi
log=target/logs/test.log
began=$SECONDS

# Reads cargo's output, V=1 shows all of it; failures are told with their output at the end.
# shellcheck disable=SC2016 # awk's variables, not the shell's
summarise='
    function line(what, outcome) { printf "  %-54s %s\n", what, outcome; fflush() }
    verbose { print; fflush() }
    /^ *Compiling tests / && !verbose { print "  (compiled; testing)"; fflush() }
    /^ *Running / {
        name = $0
        sub(/^ *Running (unittests )?/, "", name)
        path = name; sub(/ \(.*/, "", path)
        program = name; sub(/.*\/deps\//, "", program); sub(/-[0-9a-f]+\)$/, "", program)
        name = program " (" path ")"
    }
    /^ *Doc-tests / { name = $0; sub(/^ *Doc-tests /, "", name); name = name " (examples in its documentation)" }
    /^test .* \.\.\. FAILED$/ {
        # Names of boots are sentences, padded to one width.
        failed_test = $0
        sub(/^test /, "", failed_test); sub(/ *\.\.\. FAILED$/, "", failed_test)
        failures = failures "    " failed_test "\n"
    }
    /^test result: / {
        passed += $4; failed += $6; ignored += $8; programs++
        if ($4 + $6 + $8 > 0) line(name, $4 " passed" ($6 ? ", " $6 " FAILED" : "") ($8 ? ", " $8 " not asked for" : ""))
        name = ""
    }
    END {
        if (failures != "") printf "\nFailed:\n%s", failures
        print passed + 0, failed + 0, programs + 0 > sums
    }
'

echo "Testing (everything is in $log; V=1 shows it) ..."
cargo test --locked --workspace --no-fail-fast 2>&1 </dev/null |
    tee "$log" |
    awk -v verbose="${V:-}" -v sums=target/logs/test.sums "$summarise"
code=${PIPESTATUS[0]}
read -r passed failed programs <target/logs/test.sums || exit 1

if [ "$code" -ne 0 ]; then
    echo
    # What failed tests printed, or what the compiler said.
    if grep -q '^failures:$' "$log"; then
        sed -n '/^---- /,/^failures:$/p' "$log" | tail -n 80
    else
        grep -A 12 -E '^error' "$log" | tail -n 40
    fi
    printf '\nerror: cargo test ended with exit code %s\n  help: all of it is in %s\n' "$code" "$log" >&2
elif [ "$passed" -eq 0 ]; then
    echo "error: no test ran; see $log" >&2
    code=1
fi
minutes=$(((SECONDS - began) / 60))
seconds=$(((SECONDS - began) % 60))
printf '\n%d test programs in %d min %02d s\n' "$programs" $minutes $seconds
printf '%d passed, %d failed\n' "$passed" "$failed"
exit "$code"
