"""Fuzz target: manifests of the corpus, torn at random, must end in findings with places and never in an exception.

    python -m tests.lint.fuzz [--seconds 60] [--seed N]

Half of the inputs are broken as text (bytes deleted, doubled, swapped, replaced by fragments that YAML stumbles over),
half as data (any value in any place). What fails is printed with its seed, which plays the same input again as the
first one. It ends with exit code 1 after a failure.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final

import yaml

from rayservice_operator.core.findings import Finding
from rayservice_operator.lint import BY_NAME, lint_manifest, lint_text

DATA: Final = Path(__file__).resolve().parents[1] / "data"
FILES: Final = sorted([*(DATA / "lint").rglob("*.yaml"), *(DATA / "manifests").rglob("*.yaml")])
SLOW_S: Final = 2.0
"""CPU time after which an input of a few kilobytes counts as a failure."""

FRAGMENTS: Final = (
    b"\t", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b": ", b"- ", b"{", b"}", b"[", b"]", b"|", b">", b"'", b'"', b"#",
    b"&a ", b"*a ", b"&a [*a]", b"<<: *a", b"!!binary ", b"!!python/object:os.system ", b"? ", b"---\n", b"...\n",
    b"%YAML 1.2\n", b"{{ .Values.x }}", b"\\u0000", b"1e999", b".nan", b"0x", b"2026-01-01", b"~", b"yes",
    "\N{PILE OF POO}".encode(), "\u2028".encode(), b"[" * 200, b"a" * 5000,
)  # fmt: skip
VALUES: Final[tuple[Any, ...]] = (
    None, True, 0, -1, 1, 2**63, 1.5, 1e300, "", "x", "0", "inf", "nan", "-5", "1Gi", "${X}", "{{", "http://[", "2.60",
    "in(", [], {}, [None], [{}], [[]], ["x"], {"a": None}, {"": {}}, {"name": 1}, {"name": "x"}, [1, "a", {}],
)  # fmt: skip


def torn(rng: random.Random, data: bytes) -> bytes:
    """A file with a few wounds."""
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.randint(0, 40)
        piece = data[at : at + length]
        put = rng.choice((b"", piece * 2, piece[::-1], rng.choice(FRAGMENTS), rng.choice(FRAGMENTS) + piece))
        data = data[:at] + put + data[at + length :]
    return data


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        found.append((value, key))
        found.extend(places(child))
    return found


def distorted(rng: random.Random, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with other values in a few places, inside of the serve config too."""
    spec = manifest.get("spec")
    text = spec.get("serveConfigV2") if isinstance(spec, dict) else None
    inner: Any = None
    if isinstance(text, str) and rng.random() < 0.6:
        try:
            inner = yaml.safe_load(text)
        except yaml.YAMLError:
            inner = None
    for _ in range(rng.randint(1, 3)):
        known = places(manifest if inner is None else inner)
        if known:
            holder, key = rng.choice(known)
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    if inner is not None and isinstance(spec, dict):
        spec["serveConfigV2"] = yaml.safe_dump(inner, allow_unicode=True)
    return manifest


def sound(findings: list[Finding], lines: int | None) -> None:
    """Findings name rules that exist and, in a file, places that do."""
    for finding in findings:
        assert finding.rule in BY_NAME, finding
        assert finding.problem, finding
        assert finding.fix, finding
        if lines is not None:
            assert finding.position is not None, finding
            assert 1 <= finding.position.line <= lines + 1, finding
            assert finding.position.column >= 1, finding


def once(seed: int) -> None:
    """One input; the same one for the same seed."""
    rng = random.Random(seed)
    data = rng.choice(FILES).read_bytes()
    begun = time.process_time()
    if rng.random() < 0.5:
        text = torn(rng, data)
        sound(lint_text(text), len(text.decode("utf-8", errors="replace").splitlines()))
    else:
        try:
            manifests = [item for item in yaml.safe_load_all(data) if isinstance(item, dict)]
        except yaml.YAMLError:
            return
        if manifests:
            sound(lint_manifest(distorted(rng, rng.choice(manifests))), None)
    assert time.process_time() - begun < SLOW_S, "took too long"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the first input; default: another one each time")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    first, failures, end = seed, 0, time.monotonic() + options.seconds
    while time.monotonic() < end and failures < 5:
        try:
            once(seed)
        except Exception:
            failures += 1
            print(f"--- seed {seed}\n{traceback.format_exc()}", file=sys.stderr)
        seed += 1
    print(f"{seed - first} inputs from seed {first}, {failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
