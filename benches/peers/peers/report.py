"""The figures as a table in Markdown, and as a plot in SVG."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from .waiters import WAITERS


@dataclass(frozen=True)
class Result:
    """The figures of one run."""

    waiter: str
    count: int
    polls: int
    """Status requests, counted by the mock."""
    mean: float
    """Mean delay from the end of a job until its result is known, in seconds."""
    p99: float
    """The 99th percentile of that delay."""
    cpu: float
    """CPU seconds of the waiter."""
    peak_mib: float
    """Peak resident memory in MiB."""
    detection: float | None
    """Mean delay until the end is noticed, where that is known apart."""
    repeated: int
    """Waits that failed in the client and were repeated."""

    def as_json(self) -> dict[str, Any]:
        """Return the fields for a file."""
        return asdict(self)


def percentile(values: list[float], share: float) -> float:
    """Return the smallest value that this share of the values do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def row(result: Result) -> str:
    """Return a line of the table."""
    cells = [
        f"{result.count:,}",
        WAITERS[result.waiter].title,
        f"{result.polls:,}",
        f"{result.polls / result.count:.1f}",
        f"{result.mean:.2f}",
        f"{result.p99:.2f}",
        f"{result.cpu:.1f}",
        f"{result.peak_mib:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def table(results: list[Result]) -> str:
    """Return the table."""
    head = (
        "jobs | waits with | status requests | a job | mean delay, s | p99, s | CPU, s | RSS, MiB"
    )
    lines = [f"| {head} |", "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    order = list(WAITERS)
    lines += map(row, sorted(results, key=lambda r: (r.count, order.index(r.waiter))))
    return "\n".join(lines)


Value = Callable[[Result], float]
PANELS: list[tuple[str, Value]] = [
    ("mean delay, s", lambda result: result.mean),
    ("status requests a job", lambda result: result.polls / result.count),
    ("CPU, s", lambda result: result.cpu),
    ("peak RSS, MiB", lambda result: result.peak_mib),
]
WIDTH, HEIGHT, MARGIN, LEGEND = 420, 250, 56, 56


def powers(values: list[float]) -> tuple[int, int]:
    """Return the powers of ten around all values."""
    logs = [math.log10(value) for value in values]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    return low, max(high, low + 1)


def number(power: int) -> str:
    """Return a power of ten as a label."""
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12) -> str:
    """Return a text."""
    place = f'x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}"'
    return f"<text {place}>{escape(words)}</text>"


def line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    """Return a straight line."""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}"/>'


def panel(title: str, value: Value, results: list[Result], x: float, y: float) -> Iterator[str]:
    """Draw one figure against the number of jobs, both on log scales."""
    left, right = x + MARGIN, x + WIDTH - 28
    top, bottom = y + 30, y + HEIGHT - 36
    first, last = powers([result.count for result in results])
    low, high = powers([max(value(result), 1e-3) for result in results])

    def across(count: float) -> float:
        return left + (math.log10(count) - first) / (last - first) * (right - left)

    def up(height: float) -> float:
        share = (math.log10(max(height, 1e-3)) - low) / (high - low)
        return bottom - share * (bottom - top)

    yield text((left + right) / 2, y + 18, title, size=13)
    for power in range(low, high + 1):
        level = up(10.0**power)
        yield line(left, level, right, level, "#ddd")
        yield text(left - 6, level + 4, number(power), "end")
    for power in range(first, last + 1):
        place = across(10.0**power)
        yield line(place, top, place, bottom, "#ddd")
        yield text(place, bottom + 16, number(power))
    yield text((left + right) / 2, bottom + 32, "jobs")
    for name, waiter in WAITERS.items():
        own = sorted((r for r in results if r.waiter == name), key=lambda r: r.count)
        points = [(across(result.count), up(value(result))) for result in own]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        yield f'<polyline points="{path}" fill="none" stroke="{waiter.colour}" stroke-width="2"/>'
        for px, py in points:
            yield f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{waiter.colour}"/>'


def plot(results: list[Result]) -> str:
    """Return the plot."""
    width, height = 2 * WIDTH, 2 * HEIGHT + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    shown = [name for name in WAITERS if any(result.waiter == name for result in results)]
    for index, name in enumerate(shown):
        x, y = 24 + index % 3 * 270, 22 + index // 3 * 22
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{WAITERS[name].colour}"/>')
        parts.append(text(x + 12, y, WAITERS[name].title, "start", 13))
    for index, (title, value) in enumerate(PANELS):
        x, y = index % 2 * WIDTH, LEGEND + index // 2 * HEIGHT
        parts += panel(title, value, results, x, y)
    return "\n".join([*parts, "</svg>", ""])
