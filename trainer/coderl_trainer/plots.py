"""Pictures of a run, as PNG bytes (matplotlib's Agg canvas; no window, no global state).

What is measured once per rollout step stands over the rollout step; what belongs to gradient steps (divergence, entropy, loss)
stands over the gradient step where the run says how many there were. Single steps are noisy, so they are drawn pale, with the
mean over neighbouring steps on top; what adds up to a whole (skipped groups, time) is drawn as means over equal stretches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from coderl_gate.plots import png

from .run_reading import Run
from .statistics import share

Floats = NDArray[np.float64]

BLUE, ORANGE, GREEN, PINK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"
"""Of Okabe and Ito's palette: told apart by colour-blind readers and in grey print."""
_SIZE, _DPI = (6.4, 3.4), 110
_ROLLOUT, _GRADIENT = "rollout step", "gradient step"
_WINDOWS: Final = 25
"""About as many independent means as a smoothed curve shows."""
_STRETCHES: Final = 60
_SKIPPED: Final = (
    ("skipped/all_pass", "all right: too easy", GREEN),
    ("skipped/all_fail", "all wrong: too hard", ORANGE),
    ("skipped/tie", "tie in between", PINK),
    ("skipped/too_few", "too few graded", GREY),
)
_TIMES: Final = (
    ("time/sample_s", "sampling", BLUE),
    ("time/judge_s", "judging", ORANGE),
    ("time/learn_s", "learning", GREEN),
)


def reward(run: Run) -> bytes | None:
    """Mean reward, with one standard deviation within groups to either side; None where no step has a reward."""
    steps, values = run.column("reward")
    if not steps:
        return None
    figure, axes = _canvas("Reward", _ROLLOUT, "reward")
    spreads = dict(zip(*run.column("reward_std"), strict=True))
    known = [index for index, step in enumerate(steps) if step in spreads]
    if known:
        x, y = np.array(steps)[known], smoothed(values)[known]
        spread = smoothed([spreads[steps[index]] for index in known])
        axes.fill_between(x, y - spread, y + spread, color=BLUE, alpha=0.15, linewidth=0, label="±1 sd within a group")
    _curve(axes, steps, values, BLUE, "mean of the samples")
    return _done(figure, axes)


def solve_rate(run: Run) -> bytes | None:
    """Share of samples that pass the visible and the hidden tests, and of held-out tasks solved with Wilson's interval."""
    figure, axes = _canvas("Solved", _ROLLOUT, "share solved")
    drawn = False
    for name, label, colour in (
        ("solve/visible", "training, visible tests", BLUE),
        ("solve/hidden", "training, hidden tests too", ORANGE),
    ):
        drawn |= _curve(axes, *run.column(name), colour, label)
    looks = run.held_out()
    if looks:
        intervals = [share(round(value * count), count) if count else None for _, value, count in looks]
        values = [value for _, value, _ in looks]
        low = [0.0 if found is None else max(0.0, value - found.low) for value, found in zip(values, intervals, strict=True)]
        high = [0.0 if found is None else max(0.0, found.high - value) for value, found in zip(values, intervals, strict=True)]
        axes.errorbar(
            [step for step, _, _ in looks], values, yerr=[low, high], color="#222222", marker="o", markersize=4, linewidth=1,
            capsize=2, label="held out, greedy, 95 %" if any(low) or any(high) else "held out, greedy",
        )  # fmt: skip
        drawn = True
    axes.set_ylim(0, min(1.0, max(0.1, axes.get_ylim()[1])))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return _done(figure, axes) if drawn else None


def divergence(run: Run) -> bytes | None:
    """KL divergence from the reference."""
    return _learned(run, "kl", "Divergence from the reference", "KL per token (nats)", PINK)


def entropy(run: Run) -> bytes | None:
    """Entropy of the policy."""
    return _learned(run, "entropy", "Entropy of the policy", "entropy per token (nats)", GREEN)


def gradient(run: Run) -> bytes | None:
    """Norm of the gradient on a logarithmic scale: it says first when a run comes apart."""
    if not any(value > 0 for value in run.column("grad_norm")[1]):
        return None
    return _learned(run, "grad_norm", "Gradient", "L2 norm before clipping", BLUE, log=True)


def loss(run: Run) -> bytes | None:
    """The loss, for those who ask; it says little in reinforcement learning."""
    return _learned(run, "loss", "Loss", "loss", GREY)


def lengths(run: Run) -> bytes | None:
    """Mean length of the samples, between the shortest and the longest, and the share that was cut off."""
    steps, values = run.column("completions/mean_length")
    if not steps:
        return None
    figure, axes = _canvas("Length of the samples", _ROLLOUT, "tokens")
    low, high = (dict(zip(*run.column(f"completions/{end}_length"), strict=True)) for end in ("min", "max"))
    known = [step for step in steps if step in low and step in high]
    if known:
        edges = [smoothed([end[step] for step in known]) for end in (low, high)]
        axes.fill_between(known, edges[0], edges[1], color=BLUE, alpha=0.12, linewidth=0, label="shortest to longest")
    _curve(axes, steps, values, BLUE, "mean")
    axes.set_ylim(bottom=0)
    cut_steps, cut = run.column("completions/clipped_ratio")
    if cut_steps:
        other = axes.twinx()
        other.plot(cut_steps, smoothed(cut), color=ORANGE, linewidth=1.4, linestyle="--")
        axes.plot([], [], color=ORANGE, linewidth=1.4, linestyle="--", label="cut off (right)")
        other.set_ylim(0, 1)
        other.set_ylabel("share cut off at the budget", color=ORANGE)
        other.yaxis.set_major_formatter(PercentFormatter(1.0))
        other.spines[["top", "left"]].set_visible(False)
    return _done(figure, axes)


def skipped(run: Run) -> bytes | None:
    """Share of the sampled groups that taught nothing, stacked by why."""

    def finish(axes: Axes) -> None:
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))

    return _stacked(run, _SKIPPED, "Groups skipped", "share of the sampled groups", finish)


def time_split(run: Run) -> bytes | None:
    """Seconds of a step, stacked by what they went into."""
    return _stacked(run, _TIMES, "Where the time goes", "seconds per step", lambda axes: axes.set_ylim(bottom=0))


PICTURES: Final[Mapping[str, tuple[Callable[[Run], bytes | None], str]]] = MappingProxyType(
    {
        "reward": (reward, "Mean reward per rollout step"),
        "solve": (solve_rate, "Solve rate per rollout step, visible and hidden tests, and held out"),
        "kl": (divergence, "Divergence from the reference"),
        "entropy": (entropy, "Entropy of the policy"),
        "lengths": (lengths, "Length of the samples"),
        "skipped": (skipped, "Share of the groups skipped, by reason"),
        "time": (time_split, "Seconds per step spent sampling, judging and learning"),
        "gradient": (gradient, "Norm of the gradient"),
        "loss": (loss, "Loss"),
    }
)
"""File name without its ending → how it is drawn, and what it shows in words."""


def draw_all(run: Run) -> dict[str, bytes]:
    """Every picture that the run has figures for, by file name without its ending."""
    drawn = {name: draw(run) for name, (draw, _) in PICTURES.items()}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def smoothed(values: Sequence[float]) -> Floats:
    """Centred moving mean (n,) over about a 25th of the values; at the ends over what there is."""
    array = np.asarray(values, dtype=np.float64)
    reach = max(0, len(array) // _WINDOWS // 2)
    sums = np.concatenate([[0.0], np.cumsum(array)])
    index = np.arange(len(array))
    low, high = np.maximum(0, index - reach), np.minimum(len(array), index + reach + 1)
    return np.asarray((sums[high] - sums[low]) / (high - low), dtype=np.float64)


def stretches(steps: Sequence[int], columns: Floats) -> tuple[Floats, Floats]:
    """Edges (b + 1,) and means (k, b) of columns (k, n) over at most 60 stretches of about equally many steps."""
    parts = np.array_split(np.arange(len(steps)), min(_STRETCHES, len(steps)))
    edges = [steps[part[0]] - 0.5 for part in parts] + [steps[-1] + 0.5]
    return np.asarray(edges), np.column_stack([columns[:, part].mean(axis=1) for part in parts])


def _stacked(
    run: Run, parts: Sequence[tuple[str, str, str]], title: str, label: str, finish: Callable[[Axes], Any]
) -> bytes | None:
    known = {name: dict(zip(*run.column(name), strict=True)) for name, _, _ in parts}
    steps = [row["step"] for row in run.rows if any(row["step"] in values for values in known.values())]
    if not steps:
        return None
    shown = [part for part in parts if any(known[part[0]].values())] or list(parts[:1])
    columns = np.array([[known[name].get(step, 0.0) for step in steps] for name, _, _ in shown])
    edges, means = stretches(steps, columns)
    each = -(-len(steps) // means.shape[1])
    figure, axes = _canvas(title, _ROLLOUT if each == 1 else f"{_ROLLOUT} (means over {each} steps)", label)
    base = np.zeros(means.shape[1])
    for (_, words, colour), values in zip(shown, means, strict=True):
        axes.stairs(base + values, edges, baseline=base, fill=True, color=colour, alpha=0.85, label=words)
        base = base + values
    axes.margins(x=0)
    finish(axes)
    return _done(figure, axes)


def _learned(run: Run, name: str, title: str, label: str, colour: str, *, log: bool = False) -> bytes | None:
    """A figure of the gradient steps, over them where the run counts them."""
    steps, values = run.column(name)
    if not steps:
        return None
    counted = dict(zip(*run.column("gradient_step"), strict=True))
    over_gradients = all(step in counted for step in steps)
    figure, axes = _canvas(title, _GRADIENT if over_gradients else _ROLLOUT, label)
    _curve(axes, [int(counted[step]) for step in steps] if over_gradients else steps, values, colour, "")
    if log:
        axes.set_yscale("log")
        plain = FuncFormatter(lambda value, _position: f"{value:g}")
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(plain)
    elif min(values) >= 0:
        axes.set_ylim(bottom=0)
    return _done(figure, axes)


def _curve(axes: Axes, x: Sequence[int], y: Sequence[float], colour: str, label: str) -> bool:
    if not len(x):
        return False
    mean = smoothed(y)
    if np.array_equal(mean, y):
        axes.plot(x, y, color=colour, linewidth=1.6, label=label, marker="o" if len(x) < 3 else "")
    else:
        axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.25)
        axes.plot(x, mean, color=colour, linewidth=1.8, label=label)
    return True


def _canvas(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _done(figure: Figure, axes: Axes) -> bytes:
    if axes.get_legend_handles_labels()[1]:
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9, columnspacing=1.2)
    return png(figure)
