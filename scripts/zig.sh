#!/bin/sh
# The C compiler for the static builder: zig, with the arguments that cargo's C builds pass.
#
#   scripts/zig.sh cc TARGET [ARGUMENT...]      TARGET as zig names it: aarch64-linux-musl
#   scripts/zig.sh ar [ARGUMENT...]
#
# HAULBOOT_ZIG is the python of a venv that has the package ziglang.
set -eu

tool=$1
shift
if [ "$tool" = cc ]; then
    target=$1
    shift
    # zig knows no vendor in a target's name; its own -target says the same.
    first=yes
    for argument in "$@"; do
        [ $first = no ] || set --
        first=no
        case $argument in
        --target=*) ;;
        *) set -- "$@" "$argument" ;;
        esac
    done
    # In release builds C's undefined behaviour checks would need a run-time library.
    set -- -target "$target" -fno-sanitize=all "$@"
fi
exec "${HAULBOOT_ZIG:?}" -m ziglang "$tool" "$@"
