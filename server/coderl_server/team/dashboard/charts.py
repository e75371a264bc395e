"""Charts as SVG text, drawn on the server: pure, no script, colours from the page's style sheet (light and dark).

Every chart says in `aria-label` what it shows, and the pages repeat its figures as a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from coderl_gate.metrics import ReliabilityBin

WIDTH, HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 14, 12, 30


@dataclass(frozen=True, slots=True)
class Series:
    """Values at places 0, 1, 2 …; None leaves a gap."""

    name: str
    values: Sequence[float | None]
    style: str
    """A class of the style sheet: `c1` to `c5`."""


@dataclass(frozen=True, slots=True)
class Range:
    """A named estimate with its interval; None where it is not known."""

    name: str
    estimate: float
    low: float | None = None
    high: float | None = None
    style: str = "c1"


def stacked(series: Sequence[Series], labels: Sequence[str], title: str) -> Markup:
    """Columns, one on top of the other, one place per label."""
    totals = [sum(one.values[index] or 0.0 for one in series) for index in range(len(labels))]
    scale = _Scale(0.0, max(totals, default=0.0))
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    parts = [_grid(scale, _plain)]
    for index in range(len(labels)):
        below = 0.0
        for one in series:
            value = one.values[index]
            if value:
                top, bottom = scale.y(below + value), scale.y(below)
                gap = min(4.0, 0.15 * step)
                x = _LEFT + index * step + gap / 2
                parts.append(
                    _rectangle(x, top, step - gap, bottom - top, one.style, f"{labels[index]}: {one.name} {value:,.0f}")
                )
                below += value
    parts.append(_places(labels, step))
    return _svg(title, "".join(parts)) + _legend(series)


def lines(series: Sequence[Series], labels: Sequence[str], title: str, written: Callable[[float], str] | None = None) -> Markup:
    """Lines over places; the scale holds 0."""
    written = written or _plain
    known = [value for one in series for value in one.values if value is not None and math.isfinite(value)]
    scale = _Scale(min([0.0, *known]), max([0.0, *known]))
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    parts = [_grid(scale, written)]
    for one in series:
        for run in _runs(one.values):
            points = " ".join(f"{_LEFT + (index + 0.5) * step:.1f},{scale.y(value):.1f}" for index, value in run)
            parts.append(f'<polyline class="line {one.style}" points="{points}"/>')
            if len(labels) <= 62:
                parts += [
                    _dot(
                        _LEFT + (index + 0.5) * step, scale.y(value), one.style, f"{labels[index]}: {one.name} {written(value)}"
                    )
                    for index, value in run
                ]
    parts.append(_places(labels, step))
    return _svg(title, "".join(parts)) + (_legend(series) if len(series) > 1 else Markup(""))


def reliability(curve: Sequence[ReliabilityBin], title: str) -> Markup:
    """Kept share against probability, with Wilson intervals and the diagonal; the closer to it, the more honest."""
    size, left, bottom = 300, 44, 30

    def x(p: float) -> float:
        return left + p * (size - left - 12)

    def y(p: float) -> float:
        return size - bottom - p * (size - bottom - 12)

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line class="grid" x1="{x(0):.1f}" x2="{x(1):.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{size - bottom + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<line class="diagonal" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(1):.1f}" y2="{y(1):.1f}"/>')
    for one in curve:
        at, low, high = x(one.predicted), y(one.observed_low), y(one.observed_high)
        words = f"predicted {one.predicted:.2f}, kept {one.observed:.2f} of {one.n:,}"
        parts.append(f'<line class="line c1" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        parts.append(_dot(at, y(one.observed), "c1", words, 4))
    return _svg(title, "".join(parts), size, size)


def ranges(rows: Sequence[Range], title: str, written: Callable[[float], str]) -> Markup:
    """Estimates with their intervals, one below the other, around 0."""
    known = [value for row in rows for value in (row.estimate, row.low, row.high) if value is not None and math.isfinite(value)]
    low, high = min([0.0, *known]), max([0.0, *known])
    spread = (high - low) or 1.0
    low, high = low - 0.05 * spread, high + 0.05 * spread
    left, right, tall = 210, 90, 34

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - right)

    height = tall * len(rows) + 12
    parts = [f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{height - 4}"/>']
    for index, row in enumerate(rows):
        y = tall * index + tall / 2 + 6
        parts.append(f'<text class="label" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(row.name)}</text>')
        if not math.isfinite(row.estimate):
            parts.append(f'<text class="label" x="{x(0) + 8:.1f}" y="{y + 4:.1f}">not known</text>')
            continue
        if row.low is not None and row.high is not None and math.isfinite(row.low) and math.isfinite(row.high):
            parts.append(f'<line class="interval {row.style}" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot {row.style}" cx="{x(row.estimate):.1f}" cy="{y}" r="5"/>')
        parts.append(f'<text class="label" x="{WIDTH - right + 10}" y="{y + 4:.1f}">{escape(written(row.estimate))}</text>')
    return _svg(title, "".join(parts), WIDTH, height)


class _Scale:
    """From values to heights."""

    def __init__(self, low: float, high: float) -> None:
        self.step = _step(high - low)
        self.low = math.floor(low / self.step) * self.step
        self.high = max(math.ceil(high / self.step) * self.step, self.low + self.step)

    def y(self, value: float) -> float:
        return _TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - _TOP - _BOTTOM)

    def ticks(self) -> list[float]:
        return [self.low + index * self.step for index in range(round((self.high - self.low) / self.step) + 1)]


def _step(spread: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are about four of it."""
    if spread <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(spread / 4))
    return float(next(power * one for one in (1, 2, 5, 10) if power * one >= spread / 4 * 0.999))


def _grid(scale: _Scale, written: Callable[[float], str]) -> str:
    rows = []
    for tick in scale.ticks():
        kind = "zero" if tick == 0 else "grid"
        y = scale.y(tick)
        rows.append(f'<line class="{kind}" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        rows.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(written(tick))}</text>')
    return "".join(rows)


def _places(labels: Sequence[str], step: float) -> str:
    every = max(1, math.ceil(len(labels) / 8))
    places = [(_LEFT + (index + 0.5) * step, label) for index, label in enumerate(labels) if index % every == 0]
    return "".join(
        f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(label)}</text>' for x, label in places
    )


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    found: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None or not math.isfinite(value):
            found.append([])
        else:
            found[-1].append((index, value))
    return [run for run in found if run]


def _rectangle(x: float, y: float, width: float, height: float, style: str, words: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="bar {style}" {place}><title>{escape(words)}</title></rect>'


def _dot(x: float, y: float, style: str, words: str, radius: float = 2.5) -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
    return f'<circle class="dot {style}" {place}><title>{escape(words)}</title></circle>'


def _legend(series: Sequence[Series]) -> Markup:
    entries = "".join(f'<li><span class="key {one.style}"></span>{escape(one.name)}</li>' for one in series)
    return Markup(f'<ul class="legend">{entries}</ul>')


def _svg(title: str, inside: str, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    words, kind = escape(title), "chart square" if width == height else "chart"
    return Markup(f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{words}">{inside}</svg>')


def _plain(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f} k".replace("-", "−")
    return f"{value:,.6g}".replace("-", "−")
