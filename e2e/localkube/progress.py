"""Progress that a person can follow: which step, how far, how long."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from e2e.localkube.errors import LocalKubeError

_REFRESH_SECONDS = 1.0
_LOG_EVERY_SECONDS = 20.0


def note(text: str) -> None:
    """One line of news on stderr; stdout belongs to a command's result."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class Step:
    """A running step. Whoever does the work sets ``detail`` to say how far it is."""

    name: str
    label: str
    started: float = field(default_factory=time.monotonic)
    detail: str = ""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class Steps:
    """Prints each step as it begins, goes on and ends, and remembers the seconds for a summary.

    On a terminal the running line is redrawn each second; elsewhere (CI) a line appears now and then, so that a log
    shows that something moves without being flooded.
    """

    def __init__(self, total: int | None = None) -> None:
        self.total = total
        self.done: list[tuple[str, float]] = []
        self._tty = sys.stderr.isatty()
        self._depth = 0

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        number = len(self.done) + 1
        label = f"[{number}/{self.total}] {name}" if self.total and not self._depth else f"  · {name}"
        current = Step(name, label)
        stop = threading.Event()
        self._depth += 1
        if not self._tty:
            note(f"{label} …")
        ticker = threading.Thread(target=self._tick, args=(current, stop), daemon=True)
        ticker.start()
        outcome = "failed"
        try:
            yield current
            outcome = "ok"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            stop.set()
            ticker.join()
            self._depth -= 1
            detail = f" ({current.detail})" if current.detail else ""
            clear = "\r\x1b[K" if self._tty else ""
            note(f"{clear}{label}: {outcome}{detail}, {current.seconds:.1f} s")
            if not self._depth and outcome == "ok":
                self.done.append((name, current.seconds))

    def _tick(self, step: Step, stop: threading.Event) -> None:
        if self._tty:
            while not stop.wait(_REFRESH_SECONDS):
                detail = f" – {step.detail}" if step.detail else ""
                sys.stderr.write(f"\r\x1b[K{step.label} … {step.seconds:.0f} s{detail}"[:200])
                sys.stderr.flush()
            return
        while not stop.wait(_LOG_EVERY_SECONDS):
            detail = f" – {step.detail}" if step.detail else ""
            note(f"{step.label} … {step.seconds:.0f} s{detail}")


def wait_until(
    ready: Callable[[], bool],
    *,
    seconds: float,
    what: str,
    alive: Callable[[], None] | None = None,
    interval: float = 0.1,
) -> None:
    """Poll a condition until it holds. ``alive`` may raise, to stop waiting for what can no longer come."""
    deadline = time.monotonic() + seconds
    while not ready():
        if alive is not None:
            alive()
        if time.monotonic() > deadline:
            msg = f"{what}: not so after {seconds:.0f} s"
            raise LocalKubeError(msg)
        time.sleep(interval)
