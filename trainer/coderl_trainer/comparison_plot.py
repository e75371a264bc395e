"""The picture of a comparison: what both models solve and save, and the difference, for everything and for each part of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from coderl_gate.offpolicy import Interval
from coderl_gate.plots import png

from .comparison import Comparison
from .plots import BLUE, GREY, ORANGE
from .time_saved import SavedCompared

_DPI = 110
_LONGEST = 40
_WIDTH, _AROUND, _ROW = 9.6, 1.9, 0.42
"""Inches: the picture, what is around the rows of a panel, one row."""
_DIFFERENCE = "#222222"
_WIDTHS = (3, 2)

Rates = Mapping[str, tuple[float, float]]
"""File → seconds saved per 1000 keystrokes with a and with b."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel: the figures of both, and b − a."""

    label: str
    a: Interval
    b: Interval
    difference: Interval
    has_intervals: bool = True
    """Where not, the figures of a and b stand alone because they have no interval of their own, not because it is unknown."""


def comparison_picture(
    comparison: Comparison, name_a: str, name_b: str, saved: tuple[Rates, SavedCompared] | None = None
) -> bytes:
    """PNG: on the left the solve rates with Wilson's 95 % intervals, on the right b − a with its paired 95 % interval; below it
    the same of the seconds saved, where files were typed."""
    lines, boundaries = _task_lines(comparison)
    heights = [_AROUND + _ROW * len(lines), *([] if saved is None else [_AROUND + _ROW * (len(saved[0]) + 1)])]
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, layout="constrained")
    panels = figure.subplots(len(heights), 2, sharey="row", width_ratios=_WIDTHS, height_ratios=heights, squeeze=False)
    _shares(panels[0], lines, boundaries, name_a, name_b)
    if saved is not None:
        _seconds(panels[1], *saved, name_a, name_b)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    return png(figure)


def seconds_picture(rates: Rates, saved: SavedCompared, name_a: str, name_b: str) -> bytes:
    """PNG: the seconds saved alone, where no task was asked."""
    figure = Figure(figsize=(_WIDTH, _AROUND + _ROW * (len(rates) + 1)), dpi=_DPI, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, width_ratios=_WIDTHS)
    _seconds(panels, rates, saved, name_a, name_b)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    return png(figure)


def _task_lines(comparison: Comparison) -> tuple[list[Line], list[float]]:
    """The lines, and where a rule is drawn between two groups of them."""
    overall = comparison.overall
    groups = [
        [
            Line(f"all tasks  (n = {overall.n})", overall.a, overall.b, overall.difference),
            *(
                Line(f"pass@{k}  (n = {found.n})", _alone(found.a), _alone(found.b), found.difference, has_intervals=False)
                for k, found in overall.pass_at_k.items()
            ),
        ],
        *(
            [Line(f"{name}  (n = {part.n})", part.a, part.b, part.difference) for name, part in parts.items()]
            for parts in (comparison.by_tier, comparison.by_length)
        ),
    ]
    lines = [line for group in groups for line in group]
    ends = [sum(len(group) for group in groups[: index + 1]) for index in range(len(groups)) if groups[index]]
    return lines, [end - 0.5 for end in ends[:-1]]


def _shares(panels: Sequence[Any], lines: Sequence[Line], boundaries: Sequence[float], name_a: str, name_b: str) -> None:
    left, right = panels
    _both(left, right, lines, boundaries, name_a, name_b)
    left.set_xlim(left=0)
    left.set_xlabel("share of the tasks solved, 95 % (Wilson)")
    left.xaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_xlabel("B − A, percentage points (95 %, paired)")
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: signed(100 * value)))


def _seconds(panels: Sequence[Any], rates: Rates, saved: SavedCompared, name_a: str, name_b: str) -> None:
    left, right = panels
    lines = [Line(f"mean of {saved.n} files", saved.a, saved.b, saved.difference)]
    lines += [Line(short(name), _alone(a), _alone(b), _alone(b - a), has_intervals=False) for name, (a, b) in rates.items()]
    _both(left, right, lines, [0.5], name_a, name_b)
    left.axvline(0, color=GREY, linewidth=1)
    left.set_xlabel("seconds saved per 1000 keystrokes, 95 % over files")
    right.set_xlabel("B − A, seconds (95 %, paired by file)")
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: signed(value)))


def _both(left: Axes, right: Axes, lines: Sequence[Line], boundaries: Sequence[float], name_a: str, name_b: str) -> None:
    points(left, lines, lambda line: line.a, BLUE, -0.12, f"A: {short(name_a)}")
    points(left, lines, lambda line: line.b, ORANGE, 0.12, f"B: {short(name_b)}")
    points(right, lines, lambda line: line.difference, _DIFFERENCE, 0.0, "")
    right.axvline(0, color=GREY, linewidth=1)
    left.set_yticks(range(len(lines)), [line.label for line in lines])
    left.set_ylim(len(lines) - 0.5, -0.5)
    for axes in (left, right):
        tidy(axes, boundaries)


def points(axes: Axes, lines: Sequence[Line], of: Callable[[Line], Interval], colour: str, shift: float, label: str) -> None:
    """A point with its interval for each line; a cross where the interval is not known."""
    for index, line in enumerate(lines):
        found = of(line)
        known = math.isfinite(found.low) and math.isfinite(found.high)
        reach = [[max(0.0, found.estimate - found.low)], [max(0.0, found.high - found.estimate)]] if known else None
        axes.errorbar(
            [found.estimate], [index + shift], xerr=reach, color=colour, marker="o" if known or not line.has_intervals else "x",
            markersize=6 if index == 0 else 4.5, linewidth=1.6, capsize=2.5, label=label if index == 0 and label else None,
        )  # fmt: skip


def tidy(axes: Axes, boundaries: Sequence[float]) -> None:
    """Quiet grid and frame, and a rule at each boundary between groups of lines."""
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for boundary in boundaries:
        axes.axhline(boundary, color="#dddddd", linewidth=0.8)


def signed(value: float) -> str:
    """A number with its sign, as people write it."""
    return f"{value:+g}".replace("-", "−") if value else "0"


def short(name: str) -> str:
    """The end of a long name."""
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST + 1 :]}"


def _alone(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)
