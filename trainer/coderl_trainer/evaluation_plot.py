"""The picture of one model's evaluation: what it solves, in all and by part, and the seconds it saves, file by file."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from coderl_gate.offpolicy import Interval
from coderl_gate.plots import png

from .comparison_plot import Line, points, short, signed, tidy
from .plots import BLUE, GREY
from .solve_rates import Solved, SolveRates

_WIDTH, _AROUND, _ROW, _DPI = 7.2, 1.3, 0.36, 110


def evaluation_picture(solved: Solved | None, rates: Mapping[str, float], mean: Interval | None, name: str) -> bytes:
    """PNG: solve rates (`solved` None = no task was asked), and seconds saved per 1000 keystrokes by file (`mean` None = none
    was typed), with their 95 % intervals. Raises ValueError where there is neither."""
    groups = [] if solved is None else _groups(solved)
    lines = [line for group in groups for line in group]
    heights = [_AROUND + _ROW * len(lines)] if groups else []
    if mean is not None:
        heights.append(_AROUND + _ROW * (len(rates) + 1))
    if not heights:
        raise ValueError("There is nothing to draw: no task was asked and no file was typed.")
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, layout="constrained")
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    if groups:
        ends = [sum(map(len, groups[: index + 1])) - 0.5 for index in range(len(groups) - 1)]
        _panel(panels[0], lines, ends)
        panels[0].set_xlim(left=0)
        panels[0].set_xlabel("share of the tasks solved, 95 %")
        panels[0].xaxis.set_major_formatter(PercentFormatter(1.0))
    if mean is not None:
        _panel(panels[-1], [_line(f"mean of {len(rates)} files", mean), *(_file(*one) for one in rates.items())], [0.5])
        panels[-1].axvline(0, color=GREY, linewidth=1)
        panels[-1].set_xlabel("seconds saved per 1000 keystrokes, 95 % over files")
        panels[-1].xaxis.set_major_locator(MaxNLocator(6))
        panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _position: signed(value)))
    panels[0].set_title(short(name), loc="left", fontsize=10)
    return png(figure)


def _groups(solved: Solved) -> list[list[Line]]:
    """The lines that belong together, without empty groups."""
    overall = solved.overall
    first = [_of("all tasks", overall)]
    first += [_line(f"pass@{k}", found) for k, found in overall.pass_at_k.items() if k != 1]
    kinds = solved.by_kind if len(solved.by_kind) > 1 else {}
    groups = [
        first,
        *([_of(name, part) for name, part in parts.items()] for parts in (kinds, solved.by_tier, solved.by_length)),
    ]
    return [group for group in groups if group]


def _of(name: str, part: SolveRates) -> Line:
    unknown = Interval(math.nan, math.nan, math.nan)
    return _line(f"{name}  (n = {part.n})", part.pass_at_k.get(1, unknown))


def _line(label: str, found: Interval) -> Line:
    return Line(label, found, found, found)


def _file(name: str, rate: float) -> Line:
    one = Interval(rate, math.nan, math.nan)
    return Line(short(name), one, one, one, has_intervals=False)


def _panel(axes: Axes, lines: list[Line], boundaries: list[float]) -> None:
    points(axes, lines, lambda line: line.a, BLUE, 0.0, "")
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    tidy(axes, boundaries)
