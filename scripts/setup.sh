#!/bin/sh
# Looks for what a target needs, says what is missing and why, and installs it.
#
#   scripts/setup.sh PURPOSE...
#
# PURPOSE is one of those in packages.list. As root missing packages are installed; anybody else
# gets the command to run. Where nothing is missing nothing is printed and no network is used.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

MUSL_TARGETS="x86_64-unknown-linux-musl aarch64-unknown-linux-musl"

# die WHAT HELP: the one way out.
die() {
    printf 'error: %s\n  help: %s\n' "$1" "$2" >&2
    exit 1
}

# present TEST: whether a test of packages.list holds.
present() {
    case $1 in
    cmd:*) command -v "${1#cmd:}" >/dev/null ;;
    py:*) python3 -c "import ${1#py:}" 2>/dev/null ;;
    file:*)
        rest=${1#file:}
        while [ -n "$rest" ]; do
            [ ! -e "${rest%%|*}" ] || return 0
            case $rest in *\|*) rest=${rest#*|} ;; *) rest= ;; esac
        done
        return 1
        ;;
    *) die "scripts/packages.list has the test $1" "use cmd:, file: or py:" ;;
    esac
}

# wanted PURPOSES: whether one of the comma-separated purposes was asked for.
wanted() {
    for purpose in $asked; do
        case ,$1, in *",$purpose,"*) return 0 ;; esac
    done
    return 1
}

# Prints "PACKAGE WHY" for every package that is needed and not there.
missing_packages() {
    while read -r package purposes seen why; do
        case $package in '' | '#'*) continue ;; esac
        wanted "$purposes" || continue
        present "$seen" || printf '%s %s\n' "$package" "$why"
    done <scripts/packages.list
}

packages() {
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    echo "This machine lacks:"
    echo "$missing" | while read -r package why; do
        printf '  %-24s%s\n' "$package" "$why"
    done
    names=$(echo "$missing" | cut -d' ' -f1 | tr '\n' ' ')
    names=${names% }
    command -v apt-get >/dev/null || die \
        "this is no Debian or Ubuntu, so the packages can't be installed from here" \
        "install what Debian calls $names, then call make again"
    [ "$(id -u)" -eq 0 ] || die "only root can install them" \
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends $names"
    mkdir -p target/logs
    log=target/logs/setup.log
    : >"$log"
    echo "Installing them with apt-get ($log) ..."
    # The index is asked for only when the one at hand does not lead to the packages.
    # shellcheck disable=SC2086 # names are words
    install $names || { index && install $names; } || {
        tail -n 15 "$log" >&2
        die "apt-get could not install them; all it said is in $log" \
            "install them by other means, then call make again: $names"
    }
    left=$(missing_packages | cut -d' ' -f1 | tr '\n' ' ')
    [ -z "$left" ] || die "after installing the packages these are still not seen: $left" \
        "see how scripts/packages.list looks for them"
}

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" \
        >>"$log" 2>&1 </dev/null
}

index() {
    apt-get update >>"$log" 2>&1 </dev/null
}

rust() {
    install_rust="install it from https://rustup.rs, then call make again"
    command -v cargo >/dev/null || die "there is no cargo, Rust's build tool" "$install_rust"
    have=$(rustc --version 2>/dev/null | cut -d' ' -f2)
    [ -n "$have" ] || die "there is no Rust compiler" "rustup default stable"
    need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    oldest=$(printf '%s\n%s\n' "$need" "$have" | sort -V | head -n 1)
    [ "$oldest" = "$need" ] || die "Rust $have is too old, Haulboot needs $need" "rustup update stable"
    for target in $MUSL_TARGETS; do
        [ ! -e "$(rustc --print target-libdir --target "$target")" ] || continue
        command -v rustup >/dev/null || die "Rust's standard library for $target is missing" \
            "add it by the means this machine's Rust came by, or use rustup"
        echo "Adding Rust's standard library for $target, for the programs of the node ..."
        mkdir -p target/logs
        rustup target add "$target" >target/logs/setup-rust.log 2>&1 || {
            tail -n 5 target/logs/setup-rust.log >&2
            die "rustup could not add it" "rustup target add $target"
        }
    done
}

[ $# -gt 0 ] || {
    echo "usage: scripts/setup.sh PURPOSE..." >&2
    exit 2
}
asked=$*
packages
if wanted build; then rust; fi
