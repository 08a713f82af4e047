"""Kubeconfig files."""

import base64
import os
from pathlib import Path

import yaml


def _b64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def write(
    path: Path,
    *,
    server: str,
    ca: Path,
    name: str = "localkube",
    token: str | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> Path:
    """Write a self-contained kubeconfig, readable by its owner only; in one step, so no reader sees half of it."""
    user: dict[str, str] = {}
    if token:
        user["token"] = token
    if cert and key:
        user["client-certificate-data"] = _b64(cert)
        user["client-key-data"] = _b64(key)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": _b64(ca)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
        "current-context": name,
    }
    temporary = path.with_suffix(".new")
    temporary.write_text(yaml.safe_dump(config, sort_keys=False))
    temporary.chmod(0o600)
    os.replace(temporary, path)  # noqa: PTH105 - replaces whatever is there
    return path
