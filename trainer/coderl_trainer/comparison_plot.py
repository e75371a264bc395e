"""The picture of a comparison: what both models solve, and the difference, for all tasks and for each part of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from coderl_gate.offpolicy import Interval
from coderl_gate.plots import png

from .comparison import Compared, Comparison
from .plots import BLUE, GREY, ORANGE

_DPI = 110
_LONGEST = 40


def comparison_picture(comparison: Comparison, name_a: str, name_b: str) -> bytes:
    """PNG: on the left the solve rates with Wilson's 95 % intervals, on the right b − a with its paired 95 % interval."""
    rows: list[tuple[str, Compared]] = [("all tasks", comparison.overall), *comparison.by_tier.items()]
    rows += comparison.by_length.items()
    figure = Figure(figsize=(9.6, 1.9 + 0.42 * len(rows)), dpi=_DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for letter, colour, name, shift, of in (
        ("A", BLUE, name_a, -0.12, lambda part: part.a),
        ("B", ORANGE, name_b, 0.12, lambda part: part.b),
    ):
        _points(left, rows, of, colour, shift, f"{letter}: {_short(name)}")
    _points(right, rows, lambda part: part.difference, "#222222", 0.0, "")
    right.axvline(0, color=GREY, linewidth=1)
    left.set_yticks(range(len(rows)), [f"{name}  (n = {part.n})" for name, part in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlim(left=0)
    left.set_xlabel("share of the tasks solved, 95 % (Wilson)")
    left.xaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_xlabel("B − A, percentage points (95 %, paired)")
    right.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _position: f"{100 * value:+g}".replace("-", "−") if value else "0")
    )
    for axes in (left, right):
        axes.grid(axis="x", color="#eeeeee")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        for boundary in _boundaries(comparison):
            axes.axhline(boundary, color="#dddddd", linewidth=0.8)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    return png(figure)


def _points(
    axes: Axes,
    rows: Sequence[tuple[str, Compared]],
    of: Callable[[Compared], Interval],
    colour: str,
    shift: float,
    label: str,
) -> None:
    for index, (_, part) in enumerate(rows):
        found = of(part)
        known = math.isfinite(found.low) and math.isfinite(found.high)
        reach = [[max(0.0, found.estimate - found.low)], [max(0.0, found.high - found.estimate)]] if known else None
        axes.errorbar(
            [found.estimate], [index + shift], xerr=reach, color=colour, marker="o" if known else "x",
            markersize=6 if index == 0 else 4.5, linewidth=1.6, capsize=2.5, label=label if index == 0 and label else None,
        )  # fmt: skip


def _boundaries(comparison: Comparison) -> list[float]:
    tiers, lengths = len(comparison.by_tier), len(comparison.by_length)
    return [place for place, there in ((0.5, tiers or lengths), (0.5 + tiers, tiers and lengths)) if there]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST + 1 :]}"
