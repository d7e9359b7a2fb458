#!/bin/sh
# Unpacks a distribution archive, writes an image with it and looks at the image, with no
# environment and away from the sources.
#
#   scripts/dist-check.sh ARCHIVE VERSION
set -eu
archive=$(realpath "$1")
version=$2
haul=$(realpath "$(dirname "$0")/../tests/fixtures/hauls/hauler-2.0.3-small.tar.zst")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

tar -xzf "$archive" -C "$place"
cd "$place"/haulboot-*
# mke2fs is in an sbin directory; nothing else of the machine is used.
alone() {
    env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin "$@"
}
alone ./builder --version | grep -F "$version"
alone ./agent --version | grep -F "$version"
for arch in x86_64 arm64; do
    alone ./builder --haul "$haul" --arch $arch -o "$place/$arch.img"
    alone ./builder inspect "$place/$arch.img" --json | grep -F "\"$arch\""
done
