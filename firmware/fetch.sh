#!/bin/bash
# Fetches the packages of a boot pack from Debian, without root and without installing them.
#
#   firmware/fetch.sh [--refresh] ARCH OUTDIR
#
# ARCH is x86_64 or arm64. Afterwards OUTDIR holds
#   packages.tsv   what was fetched: name, version, architecture, source package, size,
#                  sha256, newest file time inside
#   debs/          the packages as Debian ships them
#   root/          the packages unpacked, with modules.dep and its relatives made by depmod
# A directory that is complete and unspoilt is left as it is, without any use of the network;
# --refresh asks the archive again.
#
# apt does the fetching with a state of its own, so that neither the release of this machine
# nor its packages matter. Its settings (proxies, say) are kept. Authentic is what Debian's
# archive key signed: apt checks the index, and each package against the index.
set -euo pipefail
export LC_ALL=C

SUITE=trixie
HEADER=$'#name\tversion\tarchitecture\tsource\tsize\tsha256\tnewest'
LISTS=$(cd "$(dirname "$0")" && pwd)/packages

# die WHAT HELP: the one way out.
die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  help: %s\n' "$2" >&2
    exit 1
}

usage() {
    echo "usage: firmware/fetch.sh [--refresh] x86_64|arm64 OUTDIR" >&2
    exit 2
}

refresh=no
if [ "${1:-}" = --refresh ]; then
    refresh=yes
    shift
fi
[ $# -eq 2 ] || usage
arch=$1
out=$2
case $arch in
    x86_64) debian_arch=amd64 ;;
    arm64) debian_arch=arm64 ;;
    *) usage ;;
esac

# wanted: what the contents depend on, apart from the archive.
wanted() {
    echo "$SUITE $debian_arch"
    cat "$LISTS/$arch.list"
}

# complete DIR: whether DIR has what is wanted, and all that packages.tsv names with its hash.
complete() {
    [ -f "$1/packages.tsv" ] && [ -d "$1/root" ] || return 1
    wanted | cmp --silent - "$1/wanted" || return 1
    [ "$(head -n 1 "$1/packages.tsv")" = "$HEADER" ] || return 1
    local sums
    sums=$(awk -F'\t' '!/^#/ { print $6 "  " $1 "_" $3 ".deb" }' "$1/packages.tsv")
    [ -n "$sums" ] || return 1
    (cd "$1/debs" && sha256sum --check --status --strict) <<<"$sums" 2>/dev/null
}

if [ $refresh = no ] && complete "$out"; then
    echo "$arch: packages are in $out"
    exit 0
fi

command -v apt-get >/dev/null || die \
    "boot packs are made from Debian packages, and this machine has no apt-get to fetch them" \
    "take a boot pack that was made elsewhere: builder --boot-pack FILE"
for tool in dpkg-deb:dpkg depmod:kmod; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${tool%%:*}" >/dev/null || die \
        "${tool%%:*} is missing" "apt-get install ${tool#*:}"
done
keyring=
for name in debian-archive-keyring.gpg debian-archive-keyring.pgp; do
    [ ! -r "/usr/share/keyrings/$name" ] || keyring=/usr/share/keyrings/$name
done
[ -n "$keyring" ] || die "the key of Debian's archive is missing, so nothing fetched could be trusted" \
    "apt-get install debian-archive-keyring"

mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$out/.fetch
rm -rf "$work"
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,debs,root}
trap 'rm -rf "$work"' EXIT
: >"$work/status"

# Read after the machine's own settings. Hooks and preferences of the machine are for the
# machine's packages.
cat >"$work/apt.conf" <<CONF
#clear APT::Architectures;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "$debian_arch";
APT::Architectures { "$debian_arch"; };
APT::Sandbox::User "root";
APT::Default-Release "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dir::State "$work/state";
Dir::State::Lists "$work/state/lists";
Dir::State::status "$work/status";
Dir::State::extended_states "$work/state/extended_states";
Dir::Cache "$work/cache";
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
CONF

# private COMMAND...: apt with the state above.
private() {
    local command=$1
    shift
    "$command" -c "$work/apt.conf" -q "$@"
}

# Mirrors to try, best first: what the user says; what this machine's apt uses for Debian;
# what debootstrap and apt's other tools would use.
mirrors() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        echo "${DEBIAN_MIRROR%/}"
        return
    fi
    apt-get indextargets --format "\$(REPO_URI) \$(RELEASE) \$(COMPONENT)" \
        'Created-By: Packages' 2>/dev/null |
        awk '$2 ~ /^(bullseye|bookworm|trixie|forky|duke|oldstable|stable|testing|unstable|sid)$/ &&
             $3 == "main" { sub(/\/$/, "", $1); if (!seen[$1]++) print $1 }'
    local script
    for script in /usr/share/debootstrap/scripts/"$SUITE" /usr/share/debootstrap/scripts/sid \
        /usr/sbin/debootstrap /usr/share/python-apt/templates/Debian.info; do
        [ ! -r "$script" ] || grep -Eo 'https?://[^ "]+/debian\b' "$script" || true
    done | awk '!seen[$0]++'
}

# update MIRROR: fetches the signed index.
update() {
    printf 'deb [arch=%s signed-by=%s targets=Packages] %s %s main\n' \
        "$debian_arch" "$keyring" "$1" "$SUITE" >"$work/sources.list"
    private apt-get -o APT::Update::Error-Mode=any update >"$work/update.log" 2>&1
}

mirror=
while read -r candidate; do
    echo "$arch: reading the index of Debian $SUITE"
    if update "$candidate"; then
        mirror=$candidate
        break
    fi
    sed -n '/^[EW]:/p' "$work/update.log" | head -n 5 >&2
done < <(mirrors)
[ -n "$mirror" ] || die "found no mirror of Debian $SUITE that answers and is signed by Debian" \
    "name one: DEBIAN_MIRROR=URL make; or use a boot pack made elsewhere: builder --boot-pack FILE"

# resolve PACKAGE PATTERN: the package it depends on whose name matches.
resolve() {
    local found
    found=$(private apt-cache depends --important "$1" |
        awk '$1 == "Depends:" { print $2 }' |
        while read -r name; do
            # shellcheck disable=SC2254 # the pattern is meant as one
            case $name in $2) echo "$name" ;; esac
        done)
    [ "$(wc -w <<<"$found")" -eq 1 ] || die \
        "$1 should depend on one package like $2 and depends on: ${found:-none}" \
        "mend firmware/packages/$arch.list"
    echo "$found"
}

# field PACKAGE NAME: one field of the index.
field() {
    private apt-cache show --no-all-versions "$1" | sed -n "s/^$2: //p" | head -n 1
}

printf '%s\n' "$HEADER" >"$work/packages.tsv"
while read -r package pattern; do
    case $package in '' | '#'*) continue ;; esac
    [ -z "$pattern" ] || package=$(resolve "$package" "$pattern")
    version=$(field "$package" Version)
    [ -n "$version" ] || die "Debian $SUITE has no package $package for $debian_arch" \
        "mend firmware/packages/$arch.list"
    echo "$arch: fetching $package $version"
    (cd "$work/cache" && private apt-get download "$package=$version") >"$work/download.log" 2>&1 || {
        cat "$work/download.log" >&2
        die "fetching $package $version failed"
    }
    deb=$work/debs/${package}_$(field "$package" Architecture).deb
    mv "$work"/cache/*.deb "$deb"
    sha256=$(sha256sum "$deb" | cut -d' ' -f1)
    # apt has compared the file with the index; this guards the move and the reading here.
    [ "$sha256" = "$(field "$package" SHA256)" ] || die "$package does not have the hash of the index"
    mkdir "$work/one"
    dpkg-deb -x "$deb" "$work/one"
    newest=$(find "$work/one" -type f -printf '%T@\n' | sort -n | tail -n 1)
    cp -al "$work/one/." "$work/root/"
    rm -rf "$work/one"
    # The source package is what the licences are about; absent where it has the same name.
    source=$(field "$package" Source)
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$package" "$version" \
        "$(field "$package" Architecture)" "${source:-$package}" \
        "$(stat -c %s "$deb")" "$sha256" "${newest%.*}" >>"$work/packages.tsv"
done <"$LISTS/$arch.list"

# Debian makes these files when it installs the kernel. depmod looks in lib/, where a merged
# root has a link.
[ -e "$work/root/lib" ] || ln -s usr/lib "$work/root/lib"
releases=("$work"/root/lib/modules/*)
if [ ${#releases[@]} -ne 1 ] || [ ! -d "${releases[0]}/kernel" ]; then
    die "expected the modules of one kernel and found: ${releases[*]##*/}" \
        "mend firmware/packages/$arch.list"
fi
PATH=$PATH:/usr/sbin:/sbin depmod --basedir "$work/root" "${releases[0]##*/}"
grep -q '^alias fs-ext4 ' "${releases[0]}/modules.alias" || die \
    "depmod could not read the kernel's modules" \
    "depmod -V has to say +XZ; the kmod of Debian and Ubuntu does"

rm -rf "$out/debs" "$out/root" "$out/packages.tsv"
mv "$work/debs" "$work/root" "$out/"
wanted >"$out/wanted"
# Last: what complete() looks at first.
mv "$work/packages.tsv" "$out/"
echo "$arch: kernel ${releases[0]##*/}, packages are in $out"
