"""What each autoscaling policy does with the same load, in the simulation: a table, and the pictures of the docs.

    .venv/bin/python bench/autoscaling.py [--svg docs/serve-runtime/autoscaling.svg] [--check]

Without randomness: the same code gives the same picture, byte for byte; ``--check`` fails if the file differs.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serve_runtime.autoscaling import AnyPolicy, Max, Predictive, QueueDepth, Schedule, Slo, Window
from serve_runtime.autoscaling.simulation import RayRules, Run, Service, Simulation, bursts, joined, ramp, steady

RULES: Final = RayRules(min_replicas=1, max_replicas=20, upscale_delay_s=10, downscale_delay_s=180)
SERVICE: Final = Service(concurrency=8, service_s=2.0, start_s=90.0)
BEGIN: Final = datetime(2026, 11, 27, 7, tzinfo=UTC).timestamp()
LOAD: Final = list(
    joined(steady(1800, 6.0), ramp(1200, 6.0, 50.0), steady(1800, 50.0), bursts(1200, 24.0, 44.0, 400, 80),
           ramp(600, 24.0, 4.0), steady(600, 4.0))
)  # fmt: skip
"""Two hours: a quiet morning, a rise from 07:30 to 07:50, a busy half hour, bursts, the end."""
LIMIT_S: Final = 1.0
WINDOW: Final = Window(start="25 7 * * mon-fri", end="20 8 * * mon-fri", replicas=13)
POLICIES: Final[dict[str, AnyPolicy]] = {
    "queue_depth": QueueDepth(per_replica=6),
    "slo": Slo(target_s=LIMIT_S),
    "predictive": Predictive(per_replica=6, horizon_s=120),
    "max of queue_depth and schedule": Max(of=[QueueDepth(per_replica=6), Schedule(windows=[WINDOW])]),
}

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 130, 48, 34, 42
MOST_REPLICAS, MOST_RATE = 20, 80
FONT: Final = 'font-family="sans-serif" font-size="12"'
STYLE: Final = (
    ".name{font-weight:bold}",
    ".figures,.axis{text-anchor:end;fill:#555}",
    ".load{fill:#d5e3f0}",
    ".grid{stroke:#ddd;fill:none}",
    ".target{fill:none;stroke:#e08a1e;stroke-dasharray:4 3}",
    ".running{fill:none;stroke:#1c5d99;stroke-width:2}",
    ".late{fill:#c0392b}",
)


def runs() -> dict[str, Run]:
    """Each policy with the load, by name."""
    return {name: Simulation(policy, RULES, SERVICE, start_at=BEGIN).run(LOAD) for name, policy in POLICIES.items()}


def area(values: Sequence[float], top: int) -> str:
    """The load as a closed path, a point every twenty seconds."""
    step = (WIDTH - LEFT - 12) / len(values)
    points = [f"{LEFT + i * step:.1f},{top + HEIGHT * (1 - v / MOST_RATE):.1f}" for i, v in enumerate(values)][::20]
    return f"M{LEFT},{top + HEIGHT}L{' '.join(points)}V{top + HEIGHT}Z"


def steps(values: Sequence[int], top: int) -> str:
    """Replicas as a path that turns only where they change."""
    step = (WIDTH - LEFT - 12) / len(values)
    path = f"M{LEFT},{top + HEIGHT * (1 - values[0] / MOST_REPLICAS):.1f}"
    for i, (before, now) in enumerate(itertools.pairwise(values), 1):
        if now != before:
            path += f"H{LEFT + i * step:.1f}V{top + HEIGHT * (1 - now / MOST_REPLICAS):.1f}"
    return f"{path}H{WIDTH - 12}"


def late(run: Run) -> Iterable[tuple[int, int]]:
    """First second and number of seconds of each time in which first tokens came late."""
    second = 0
    for is_late, group in itertools.groupby(run.seconds, lambda s: s.ttft_s > LIMIT_S):
        length = len(list(group))
        if is_late:
            yield second, length
        second += length


def panel(name: str, run: Run, top: int) -> Iterable[str]:
    """One picture: load as an area, wanted and running replicas as lines, late seconds as a band at the foot."""
    foot = top + HEIGHT
    yield f'<text x="{LEFT}" y="{top - 8}" class="name">{name}</text>'
    figures = f"{run.replica_seconds / 3600:.1f} replica hours · {run.late(LIMIT_S):.1%} later than {LIMIT_S:g} s"
    yield f'<text x="{WIDTH - 12}" y="{top - 8}" class="figures">{figures}</text>'
    yield f'<path d="{area([s.arrivals for s in run.seconds], top)}" class="load"/>'
    for replicas in (0, 10, 20):
        y = foot - HEIGHT * replicas / MOST_REPLICAS
        yield f'<path d="M{LEFT} {y:.0f}H{WIDTH - 12}" class="grid"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.0f}" class="axis">{replicas}</text>'
    yield f'<path d="{steps([s.target for s in run.seconds], top)}" class="target"/>'
    yield f'<path d="{steps([s.running for s in run.seconds], top)}" class="running"/>'
    step = (WIDTH - LEFT - 12) / len(run.seconds)
    for first, length in late(run):
        yield f'<rect x="{LEFT + first * step:.1f}" y="{foot}" width="{length * step:.1f}" height="5" class="late"/>'


def picture(results: dict[str, Run]) -> str:
    """The whole SVG."""
    height = TOP + len(results) * (HEIGHT + GAP) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        "<title>Load against replicas, by policy</title>",
        f"<style>{' '.join(STYLE)}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, (name, run) in enumerate(results.items()):
        parts += panel(name, run, TOP + number * (HEIGHT + GAP))
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    """Prints the table; writes or checks the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    asked = parser.parse_args()
    results = runs()
    print(f"{'policy':34} {'replica hours':>13} {'late':>7} {'changes':>8} {'most':>5}")
    for name, run in results.items():
        most = max(s.running for s in run.seconds)
        print(f"{name:34} {run.replica_seconds / 3600:13.1f} {run.late(LIMIT_S):7.1%} {run.changes:8} {most:5}")
    if asked.svg and asked.check:
        if asked.svg.read_text() != picture(results):
            print(f"{asked.svg} is out of date; run bench/autoscaling.py --svg {asked.svg}", file=sys.stderr)
            return 1
    elif asked.svg:
        asked.svg.write_text(picture(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
