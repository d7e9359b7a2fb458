#!/usr/bin/env python3
"""Writes the licence texts of every crate that is linked into builder and agent to one file.

    scripts/licences.py OUTPUT

Taken from the sources that cargo has fetched. Equal texts are printed once.
"""

import json
import pathlib
import subprocess
import sys

PROGRAMS = ("builder", "agent")
TARGETS = ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl")
NAMES = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "license*", "copying*")
# C that a crate carries in a folder of its own.
FOLDERS = ("", "zstd")
ALSO = """\
The programs contain Rust's standard library (MIT or Apache-2.0, https://www.rust-lang.org) and musl
libc (MIT, https://musl.libc.org).
"""


def linked():
    """Packages that are linked in, without what only builds or tests them."""
    command = ["cargo", "metadata", "--locked", "--format-version=1"]
    for target in TARGETS:
        command += ["--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    own = set(metadata["workspace_members"])
    todo = [i for i in own if packages[i]["name"] in PROGRAMS]
    seen = set()
    while todo:
        package = todo.pop()
        if package in seen:
            continue
        seen.add(package)
        for dependency in nodes[package]["deps"]:
            # The kind of an ordinary dependency is null.
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    return sorted((packages[i] for i in seen - own), key=lambda p: (p["name"], p["version"]))


def texts(package):
    """The licence files that a package carries."""
    root = pathlib.Path(package["manifest_path"]).parent
    files = {f for folder in FOLDERS for name in NAMES for f in (root / folder).glob(name)}
    return [f.read_text(errors="replace").strip() for f in sorted(files) if f.is_file()]


def title(package):
    return f"{package['name']} {package['version']}"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: scripts/licences.py OUTPUT")
    packages = linked()
    users, missing = {}, []
    for package in packages:
        found = texts(package)
        for text in found:
            users.setdefault(text, []).append(package)
        if not found:
            missing.append(package)
    lines = [ALSO, "The crates that are linked in, and their licences:", ""]
    lines += [f"  {title(package):40}{package['license']}" for package in packages]
    lines += ["", "Of these, the following carry no text of their licence; it is the standard one:"]
    lines += [f"  {title(package)}" for package in missing] or ["  none"]
    for text, by in users.items():
        lines += ["", "=" * 80, ", ".join(dict.fromkeys(map(title, by))), "=" * 80, text]
    output = pathlib.Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(lines) + "\n")
    print(f"{output}: {len(packages)} crates, {len(users)} texts")


main()
