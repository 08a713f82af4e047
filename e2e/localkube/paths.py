"""Where things lie: a cache worth keeping, and one state folder for each cluster."""

import os
from dataclasses import dataclass
from pathlib import Path


def cache_dir() -> Path:
    """Binaries and images, kept from one cluster to the next (``LOCALKUBE_CACHE`` moves it)."""
    named = os.environ.get("LOCALKUBE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(named).expanduser() if named else base / "rayservice-operator"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def default_name() -> str:
    """Which local cluster is meant when none is named (``LOCALKUBE_NAME`` names another)."""
    return os.environ.get("LOCALKUBE_NAME") or "default"


@dataclass(frozen=True)
class State:
    """The folder of one cluster. Everything in it goes with ``down``."""

    root: Path

    @classmethod
    def named(cls, name: str = "") -> "State":
        return cls(cache_dir() / "localkube" / (name or default_name()))

    @property
    def label(self) -> str:
        """Marks what belongs to this cluster outside its folder: control group, CNI network."""
        return "localkube" if self.root.name == "default" else f"localkube-{self.root.name}"

    def dir(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def pids(self) -> Path:
        return self.dir("pids")

    @property
    def logs(self) -> Path:
        return self.dir("logs")

    @property
    def pki(self) -> Path:
        return self.dir("pki")

    @property
    def conf(self) -> Path:
        return self.dir("conf")

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    def tail(self, component: str, lines: int = 20) -> str:
        """The last lines of a component's log, for an error message."""
        path = self.log(component)
        if not path.exists():
            return "(no log)"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
