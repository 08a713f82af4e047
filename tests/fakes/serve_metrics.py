"""What a node of Ray Serve exports of the requests that its proxy answered: names, labels and buckets of Ray 2.60."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

FAMILY: Final = "ray_serve_http_request_latency_ms"
BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10000, 60000, 120000, 300000, 600000)


class ServeMetrics:
    """The request histogram of one proxy. ``seen`` are latencies in milliseconds by the labels that differ."""

    def __init__(self) -> None:
        self.seen: defaultdict[tuple[str, str, str, int], list[float]] = defaultdict(list)

    def observe(self, application: str, route: str, method: str, status: int, milliseconds: float) -> None:
        """One answer."""
        self.seen[application, route, method, status].append(milliseconds)

    def text(self) -> str:
        """The exposition, with other series around it as a node has them."""
        lines = [
            "# HELP ray_node_mem_used Memory usage on a ray node",
            "# TYPE ray_node_mem_used gauge",
            'ray_node_mem_used{SessionName="s",ip="127.0.0.1"} 1.5e+09',
            f"# HELP {FAMILY} The end-to-end latency of HTTP requests (measured from the Serve HTTP proxy).",
            f"# TYPE {FAMILY} histogram",
        ]
        for (application, route, method, status), values in self.seen.items():
            labels = (
                f'Component="core_worker",SessionName="s",WorkerId="w",application="{application}",method="{method}",'
                f'route="{route}",status_code="{status}"'
            )
            for bound in BOUNDS:
                count = sum(value <= bound for value in values)
                lines.append(f'{FAMILY}_bucket{{{labels},le="{bound}.0"}} {count}.0')
            lines.append(f'{FAMILY}_bucket{{{labels},le="+Inf"}} {len(values)}.0')
            lines.append(f"{FAMILY}_count{{{labels}}} {len(values)}.0")
            lines.append(f"{FAMILY}_sum{{{labels}}} {sum(values)}")
        return "\n".join(lines) + "\n"
