"""Stand-ins for the CUDA libraries that PyTorch's wheel links against, for tests of vLLM on machines without a GPU.

PyPI has PyTorch only as a CUDA build, which does not load without 2.5 GB of libraries by NVIDIA that do nothing there.
In their place this makes, for each library named NEEDED and missing, a small one with that name. It exports the
symbols, with the versions, that are asked of it; each returns 100, CUDA's "no device". Test images only: nothing
computes on a GPU with them.

    python cuda_stand_ins.py SITE_PACKAGES FOLDER

Standard library, ``gcc`` and ``readelf``.
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

NO_DEVICE = 100  # cudaErrorNoDevice, CUDA_ERROR_NO_DEVICE
_CUDA = re.compile(r"lib(cu[a-zA-Z]*|nv[a-zA-Z_]*|nccl)\.so")


@dataclass(frozen=True)
class Needs:
    """What a shared object asks of others."""

    libraries: frozenset[str]
    # (symbol, version or "", library that has to have this version or "")
    symbols: frozenset[tuple[str, str, str]]
    defines: frozenset[str]


@dataclass
class StandIn:
    """A library to make: its symbols by version; "" holds those without one."""

    symbols: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


def needs(dynamic: str, versions: str, symbols: str) -> Needs:
    """Read the three listings of ``readelf -W``: ``-d``, ``-V`` and ``--dyn-syms``."""
    libraries = frozenset(re.findall(r"\(NEEDED\).*\[(.+?)\]", dynamic))
    owner: dict[str, str] = {}
    library = ""
    for line in versions.splitlines():
        if found := re.search(r"File: (\S+)", line):
            library = found[1]
        elif found := re.search(r"Name: (\S+)\s+Flags: .*Version: \d+", line):
            owner[found[1]] = library
    wanted, defines = set(), set()
    for line in symbols.splitlines():
        columns = line.split()
        # Num: Value Size Type Bind Vis Ndx Name[@Version (n)]
        if len(columns) < 8 or not columns[0].rstrip(":").isdigit():
            continue
        name, _, version = columns[7].partition("@")
        if columns[6] != "UND":
            defines.add(name)
        elif columns[4] == "GLOBAL":
            wanted.add((name, version, owner.get(version, "")))
    return Needs(libraries, frozenset(wanted), frozenset(defines))


def plan(objects: Iterable[Needs]) -> dict[str, StandIn]:
    """Which libraries to make, and with which symbols.

    A symbol with a version belongs to the library that is named with it. One without goes to the first CUDA library of
    the object that wants it, unless another object defines it: the loader looks through all of them anyway.
    """
    objects = list(objects)
    defined = frozenset().union(*(one.defines for one in objects))
    made: dict[str, StandIn] = {}
    for one in objects:
        missing = sorted(name for name in one.libraries if _CUDA.match(name))
        for name in missing:
            made.setdefault(name, StandIn())
        for symbol, version, library in one.symbols:
            if version and library in missing:
                made[library].symbols[version].add(symbol)
            elif not version and missing and symbol not in defined:
                made[missing[0]].symbols[""].add(symbol)
    return made


def source(stand_in: StandIn) -> tuple[str, str]:
    """C source and linker version script of a library."""
    names = sorted(set().union(*stand_in.symbols.values())) if stand_in.symbols else []
    code = "\n".join(f"int {name}(void) {{ return {NO_DEVICE}; }}" for name in names)
    versions = [
        f"{version} {{ global: {' '.join(f'{name};' for name in sorted(symbols))} }};"
        for version, symbols in sorted(stand_in.symbols.items())
        if version
    ]
    return code + "\n", "\n".join(versions) + "\n"


def build(name: str, stand_in: StandIn, folder: Path) -> None:
    """Compile ``folder/name``."""
    code, versions = source(stand_in)
    with tempfile.TemporaryDirectory() as work:
        c_file, script = Path(work) / "stand_in.c", Path(work) / "versions"
        c_file.write_text(code)
        script.write_text(versions)
        argv = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", "-O0", "-nostdlib", "-s", f"-Wl,-soname,{name}"]
        if versions.strip():
            argv.append(f"-Wl,--version-script={script}")
        subprocess.run([*argv, "-o", str(folder / name), str(c_file)], check=True)


def _read(path: Path) -> Needs:
    listings = [
        subprocess.run(["readelf", "-W", option, str(path)], check=True, capture_output=True, text=True).stdout
        for option in ("-d", "-V", "--dyn-syms")
    ]
    return needs(*listings)


def main(site_packages: str, folder: str) -> None:
    root = Path(site_packages) / "torch"
    torch = [*sorted((root / "lib").glob("*.so*")), *sorted(root.glob("*.so"))]
    made = plan(_read(path) for path in torch if path.is_file() and not _CUDA.match(path.name))
    for name, stand_in in sorted(made.items()):
        build(name, stand_in, Path(folder))
        print(f"{name}: {sum(map(len, stand_in.symbols.values()))} symbols")


if __name__ == "__main__":
    main(*sys.argv[1:])
