"""What an image is made of, as one hash: same hash, nothing to build."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_COMMON = ("Dockerfile", "pyproject.toml", "constraints.txt", "scripts/requirements.py")
_OWN = {
    "operator": ("operator/rayservice_operator",),
    "runtime": ("serve_runtime",),
    "llm": ("serve_runtime",),
    "llm-cpu": ("serve_runtime", "constraints-llm-cpu.txt", "e2e/images/llm_cpu"),
}


def _files(target: str) -> Iterator[Path]:
    for name in (*_COMMON, *_OWN[target]):
        path = ROOT / name
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        else:
            yield path


def fingerprint(target: str, base: str) -> str:
    digest = hashlib.sha256(base.encode())
    for path in _files(target):
        digest.update(f"\0{path.relative_to(ROOT)}\0{path.stat().st_mode & 0o111}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
