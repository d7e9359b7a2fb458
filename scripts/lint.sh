#!/bin/sh
# Everything that reads the sources without running them.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/target/tools/bin:$PATH
step=scripts/step.sh

DENY_VERSION=0.20.2

$step fmt 'formatting (cargo fmt)' cargo fmt --all --check
$step clippy 'clippy, programs of this machine' \
    cargo clippy --locked --workspace --all-targets -- -D warnings
for target in x86_64-unknown-linux-musl aarch64-unknown-linux-musl; do
    $step "clippy-$target" "clippy, agent for $target" \
        cargo clippy --locked -p agent -p hello --target "$target" -- -D warnings
done

$step clippy-fuzz 'clippy, fuzz targets' \
    cargo clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings

# Every tracked file that begins as a shell script.
scripts=$(git ls-files | while read -r file; do
    if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*\b(sh|bash)\b'; then echo "$file"; fi
done)
# shellcheck disable=SC2086 # file names are words
$step shellcheck 'shell scripts (shellcheck)' shellcheck $scripts

if ! command -v cargo-deny >/dev/null; then
    $step cargo-deny-install "cargo-deny $DENY_VERSION, once" \
        cargo install --locked --quiet --root target/tools "cargo-deny@$DENY_VERSION"
fi
$step deny 'licences, sources, duplicates (cargo-deny)' \
    cargo deny --locked --all-features check licenses sources bans
# The advisories come from a repository of their own; a machine without a way out has none.
if timeout 300 cargo deny fetch db >target/logs/deny-fetch.log 2>&1; then
    $step advisories 'advisories (cargo-deny)' cargo deny --locked check --disable-fetch advisories
else
    echo '  advisories were NOT checked: their database could not be fetched (target/logs/deny-fetch.log)'
fi
