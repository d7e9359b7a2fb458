#!/bin/bash
# Packs what a person needs who has no Rust: per architecture of the workstation one archive with
# static programs and the boot packs of both architectures of nodes.
#
# The same commit gives the same archives: entries are sorted and have the time of the commit.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

ZIG_VERSION=0.17.1

step=scripts/step.sh
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
dist=target/dist
tools=$PWD/target/tools

# die WHAT HELP: the one way out.
die() {
    printf 'error: %s\n  help: %s\n' "$1" "$2" >&2
    exit 1
}

# The compression library is C. zig compiles it for both architectures; Rust links as ever.
export HAULBOOT_ZIG=$tools/zig/bin/python
if ! "$HAULBOOT_ZIG" -m ziglang version 2>/dev/null | grep -qx "$ZIG_VERSION"; then
    rm -rf "$tools/zig"
    $step zig-venv 'place for the C cross compiler' python3 -m venv "$tools/zig"
    $step zig "C cross compiler: zig $ZIG_VERSION" \
        "$tools/zig/bin/pip" install "ziglang==$ZIG_VERSION"
fi
mkdir -p "$tools/bin"
for cpu in x86_64 aarch64; do
    printf '#!/bin/sh\nexec "%s" cc %s-linux-musl "$@"\n' "$PWD/scripts/zig.sh" $cpu >"$tools/bin/cc-$cpu"
done
printf '#!/bin/sh\nexec "%s" ar "$@"\n' "$PWD/scripts/zig.sh" >"$tools/bin/ar"
chmod +x "$tools"/bin/{cc-x86_64,cc-aarch64,ar}

$step licences 'licences of everything that is linked in' \
    scripts/licences.py target/dist/THIRD-PARTY-LICENCES.txt

archives=()
for arch in x86_64 arm64; do
    case $arch in x86_64) cpu=x86_64 ;; arm64) cpu=aarch64 ;; esac
    target=$cpu-unknown-linux-musl
    variable=${target//-/_}
    $step "dist-builder-$arch" "static builder for $arch" env \
        "CC_$variable=$tools/bin/cc-$cpu" "AR_$variable=$tools/bin/ar" \
        cargo build --locked --release -p builder --target "$target"

    name=haulboot-$version-linux-$arch
    tree=$dist/$name
    rm -rf "$tree"
    mkdir -p "$tree"
    install -m 755 "target/$target/release/builder" "target/$target/release/agent" "$tree/"
    install -m 644 target/boot-packs/{x86_64,arm64}.bootpack LICENSE "$tree/"
    install -m 644 target/dist/THIRD-PARTY-LICENCES.txt "$tree/"
    install -m 644 scripts/dist-readme.txt "$tree/README.txt"
    for program in builder agent; do
        if readelf --program-headers --wide "$tree/$program" | grep -q INTERP; then
            die "$program for $arch is not static" "look at target/logs/dist-builder-$arch.log"
        fi
    done
    tar --sort=name --format=ustar --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
        -C "$dist" -cf - "$name" | gzip -9 -n >"$dist/$name.tar.gz"
    rm -rf "$tree"
    archives+=("$name.tar.gz")
done
(cd "$dist" && sha256sum "${archives[@]}" >SHA256SUMS)

# What was packed has to work with nothing around it.
case $(uname -m) in x86_64) own=x86_64 ;; *) own=arm64 ;; esac
$step dist-check "the archive for $own, in an empty environment" \
    scripts/dist-check.sh "$dist/haulboot-$version-linux-$own.tar.gz" "$version"

echo
echo "In $dist:"
(cd "$dist" && ls -1sh "${archives[@]}" SHA256SUMS) | sed 's/^/  /'
