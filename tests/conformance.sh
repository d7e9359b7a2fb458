#!/bin/bash
# OCI's own conformance suite for distribution 1.1 against `agent serve`, read-only as that is.
#
#   tests/conformance.sh BUILDER AGENT
#
# It needs Go 1.24 or later, which no other part of this project does: so it is not in `make test`,
# whose tests hold to the same assertions.
set -euo pipefail
cd "$(dirname "$0")/.."
builder=$1
agent=$2
suite=github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111
# an image with signature, attestation and SBOM
haul=tests/fixtures/hauls/hauler-2.0.3-signed.tar.zst
repository=registry.lab.test/signed/app

die() {
    printf 'error: %s\n  help: %s\n' "$1" "$2" >&2
    exit 1
}

for program in go curl jq; do
    command -v "$program" >/dev/null || die "$program is not there" "install it; Go 1.24 or later"
done
place=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$place"' EXIT

"$builder" haul extract "$haul" "$place/haul" >/dev/null 2>&1
"$agent" serve "$place/haul" --listen 127.0.0.1:0 >"$place/said" 2>"$place/log" &
server=$!
for _ in $(seq 100); do
    grep -q listening "$place/said" && break
    sleep 0.1
done
address=$(sed -n 's|^listening on http://\([^ ]*\).*|\1|p' "$place/said")
[ -n "$address" ] || die "the registry did not start" "$(tail -n 3 "$place/log")"

ask() {
    curl -sSf "http://$address/v2/$repository/$1"
}
tags=$(ask tags/list | jq -r '.tags | join(" ")')
manifests=
blobs=
for tag in $tags; do
    digest=sha256:$(ask "manifests/$tag" | sha256sum | cut -d' ' -f1)
    manifests="$manifests $digest"
    blobs="$blobs $(ask "manifests/$tag" | jq -r '[.config.digest, .layers[].digest] | join(" ")')"
done

export OCI_REGISTRY=$address OCI_TLS=disabled OCI_REPO1=$repository OCI_VERSION=1.1
export OCI_API_PUSH=false OCI_API_BLOBS_DELETE=false OCI_API_MANIFESTS_DELETE=false
export OCI_API_TAGS_DELETE=false OCI_RESULTS_DIR=$place/results
export OCI_RO_DATA_TAGS=$tags OCI_RO_DATA_MANIFESTS=${manifests# } OCI_RO_DATA_BLOBS=${blobs# }
export OCI_RO_DATA_REFERRERS=${manifests# }
# this version falls over its own report in read-only mode, after it has printed the outcome
go run "$suite" >"$place/outcome" 2>"$place/errors" || true
sed -n '/^OCI Conformance Result/,/^  Ping/p' "$place/outcome"
if ! grep -q '^OCI Conformance Result: Pass' "$place/outcome"; then
    die "the suite did not pass" "$(tail -n 5 "$place/errors")"
fi
