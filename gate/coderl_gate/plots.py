"""Pictures of a calibration, as PNG bytes (matplotlib's Agg canvas; no window, no global state)."""

from __future__ import annotations

import io
from collections.abc import Mapping

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .dataset import Floats
from .metrics import reliability_curve

_KEPT, _REJECTED, _MODEL = "#0072b2", "#d55e00", "#222222"
"""Okabe and Ito's palette: told apart by colour-blind readers and in grey print."""
_DPI = 110


def reliability(p: Floats, kept: Floats, title: str) -> bytes:
    """Observed against predicted share of kept suggestions, in bins of equal mass with 95 % intervals."""
    curve = reliability_curve(kept.tolist(), p.tolist())
    x, y = [part.predicted for part in curve], [part.observed for part in curve]
    low = [part.observed - part.observed_low for part in curve]
    high = [part.observed_high - part.observed for part in curve]
    figure = Figure(figsize=(4.6, 4.2), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1, label="perfect")
    axes.errorbar(
        x, y, yerr=[low, high], color=_MODEL, marker="o", markersize=4, linewidth=1, capsize=2, label="held-out users"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted P(kept)", ylabel="share really kept", title=title, aspect="equal")
    axes.grid(color="#eeeeee")
    axes.legend(loc="upper left", frameon=False)
    return png(figure)


def histogram(p: Floats, kept: Floats, title: str) -> bytes:
    """How the predictions spread for kept and for rejected suggestions."""
    edges = [step / 25 for step in range(26)]
    figure = Figure(figsize=(4.6, 4.2), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.hist(p[kept == 0], edges, color=_REJECTED, alpha=0.55, label=f"rejected ({int((kept == 0).sum())})")
    axes.hist(p[kept == 1], edges, histtype="step", color=_KEPT, linewidth=2, label=f"kept ({int((kept == 1).sum())})")
    axes.set(xlim=(0, 1), xlabel="predicted P(kept)", ylabel="suggestions", title=title)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.legend(frameon=False)
    return png(figure)


def seconds(values: Mapping[str, float], title: str) -> bytes:
    """Seconds saved per suggestion under each policy."""
    figure = Figure(figsize=(6.4, 2.4), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    names = list(values)[::-1]
    lengths = [values[name] for name in names]
    bars = axes.barh(names, lengths, color=[_KEPT if length >= 0 else _REJECTED for length in lengths], height=0.6)
    axes.bar_label(bars, [f"{length:+.2f} s" for length in lengths], padding=4)
    axes.axvline(0, color=_MODEL, linewidth=1)
    axes.margins(x=0.18)
    axes.set(xlabel="seconds saved per suggestion (negative: lost)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def png(figure: Figure) -> bytes:
    """The picture as a file; the same data gives the same bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
