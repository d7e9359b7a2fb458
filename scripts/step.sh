#!/bin/sh
# Runs one step of a longer work: one line for a person, everything else into a log.
#
#   scripts/step.sh LOG TITLE COMMAND [ARGUMENT...]
#
# LOG is the name of the log in target/logs. A failed step prints the log's end and where it is.
# V=1 shows everything as it comes.
set -eu
cd "$(dirname "$0")/.."

name=$1
title=$2
shift 2
mkdir -p target/logs
log=target/logs/$name.log
began=$(date +%s)

if [ "${V:-0}" != 0 ]; then
    printf '== %s: %s\n' "$title" "$*"
    exec "$@"
fi
if [ -t 1 ]; then printf '  %-54s ' "$title"; fi
code=0
"$@" >"$log" 2>&1 </dev/null || code=$?
took=$(($(date +%s) - began))
if [ ! -t 1 ]; then printf '  %-54s ' "$title"; fi
if [ $code -eq 0 ]; then
    printf 'done %5d s\n' "$took"
else
    printf 'FAILED %3d s\n\n' "$took"
    tail -n 30 "$log" | sed 's/^/    /'
    printf '\nerror: this step failed: %s\n  help: all it printed is in %s; V=1 shows it as it comes\n' \
        "$title" "$log"
    exit "$code"
fi
