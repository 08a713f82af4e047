"""A picture of a load, as SVG made by hand: each answer where it was due, and the quantiles."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from serve_runtime.commands.bench.load import OK, Load, Sample
from serve_runtime.commands.bench.report import Objective, quantile

WIDTH: Final = 860
HEIGHT: Final = 330
_LEFT, _TOP, _BOTTOM = 64, 46, 36
_DOTS: Final = 1500
"""More than that hides more than it shows, and makes files of megabytes."""
_FIRST: Final = (_LEFT, 520)
_SECOND: Final = (592, WIDTH - 26)
_FONT: Final = 'font-family="sans-serif" font-size="12" fill="#888"'
_NINES: Final = (0.5, 0.9, 0.99, 0.999)

Y = Callable[[float], float]


def picture(load: Load, objective: Objective, told: dict[str, Any], title: str) -> str:
    """The SVG's text. Colours are readable on light and on dark."""
    shown = [s for s in load.samples if s.ended > s.due]
    values = [s.latency for s in shown] or [0.001]
    values += [limit for limit in (objective.latency_s, objective.ttft_s) if limit]
    low = 10.0 ** math.floor(math.log10(max(min(values), 1e-4)))
    high = max(10.0 ** math.ceil(math.log10(max([*values, 1e-4]))), low * 10)

    def y(seconds: float) -> float:
        share = math.log(min(max(seconds, low), high) / low) / math.log(high / low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP), 1)

    good = told["goodput"]
    under = f"{told['ok_per_s']:g} answers/s, goodput {100 * good['share']:.1f} %"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {_FONT}>',
        f'<text x="{_LEFT}" y="18" font-size="14">{html.escape(title)}</text>',
        f'<text x="{_LEFT}" y="36">{html.escape(under)}</text>',
        *_scale(low, high, y),
        *_dots(shown, max(load.seconds, 1e-3), y),
        *_limits(objective, y),
        *_curves(shown, y),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _scale(low: float, high: float, y: Y) -> list[str]:
    parts = []
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = y(10.0**power)
        name = f"{10.0**power:g} s" if power >= 0 else f"{10.0 ** (power + 3):g} ms"
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4}" text-anchor="end">{name}</text>')
        for left, right in (_FIRST, _SECOND):
            parts.append(f'<line x1="{left}" x2="{right}" y1="{at}" y2="{at}" stroke="#888" stroke-opacity=".25"/>')
    return parts


def _dots(samples: Sequence[Sample], seconds: float, y: Y) -> list[str]:
    """Latency of each over when it was due. Of many, every so-manieth, but all that failed and the slowest."""
    left, right = _FIRST
    slow = quantile(sorted(s.latency for s in samples), 0.999) if samples else 0.0
    step = max(1, len(samples) // _DOTS)
    parts = []
    for number, s in enumerate(samples):
        if number % step and s.outcome == OK and s.latency < slow:
            continue
        x = left + (right - left) * min(s.due / seconds, 1.0)
        colour = "#2a8fbd" if s.outcome == OK else "#d9534f"
        parts.append(f'<circle cx="{x:.1f}" cy="{y(s.latency)}" r="1.6" fill="{colour}"/>')
    base = HEIGHT - 12
    parts.append(f'<text x="{left}" y="{base}">due at 0 s</text>')
    parts.append(f'<text x="{right}" y="{base}" text-anchor="end">{seconds:.0f} s</text>')
    middle = (left + right) // 2
    legend = '<tspan fill="#2a8fbd">● answered</tspan> <tspan fill="#d9534f">● failed</tspan>'
    parts.append(f'<text x="{middle}" y="{base}" text-anchor="middle">{legend}</text>')
    return parts


def _limits(objective: Objective, y: Y) -> list[str]:
    parts = []
    for name, limit in (("latency", objective.latency_s), ("first", objective.ttft_s)):
        if limit is not None:
            at, (left, right) = y(limit), _FIRST
            line = f'<line x1="{left}" x2="{right}" y1="{at}" y2="{at}" stroke="#e0a030" stroke-dasharray="5 3"/>'
            parts.append(line)
            parts.append(f'<text x="{right}" y="{at - 4}" text-anchor="end" fill="#e0a030">objective, {name}</text>')
    return parts


def _curves(samples: Sequence[Sample], y: Y) -> list[str]:
    """Quantiles, with the same room for 50 to 90 % as for 99 to 99.9 %."""
    left, right = _SECOND
    ok = [s for s in samples if s.outcome == OK]
    kinds = (
        ("last byte", "#2a8fbd", sorted(s.latency for s in ok)),
        ("first byte or token", "#5a9e4b", sorted(s.first - s.due for s in ok if s.first is not None)),
    )

    def x(share: float) -> float:
        least, most = math.log10(2), 3.0
        return round(left + (right - left) * (-math.log10(1 - share) - least) / (most - least), 1)

    parts = [
        f'<text x="{x(share)}" y="{HEIGHT - 12}" text-anchor="middle">{100 * share:g} %</text>' for share in _NINES
    ]
    for row, (name, colour, values) in enumerate(kinds):
        if not values:
            continue
        shares = [1 - 0.5 * 10 ** (-step * math.log10(500) / 60) for step in range(61)]
        points = " ".join(f"{x(share)},{y(quantile(values, share))}" for share in shares)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(f'<text x="{left}" y="{_TOP - 10 - 16 * row}" fill="{colour}">{name}</text>')
    return parts
