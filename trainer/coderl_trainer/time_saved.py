"""Seconds that a model saves a programmer who types files: the figure of one model, and two of them paired by file. Pure.

A file's figure is its seconds saved per 1000 of the keystrokes it takes without suggestions, so that files of unlike length
count the same. The intervals draw files; with fewer than about 20 files they are somewhat too short, and with one they are not
known. Both models must have typed the same files with the same keys and pauses: the simulator's seed sees to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coderl_gate.offpolicy import Interval, cluster_bootstrap

from .errors import FigureError
from .statistics import cohens_d, cohens_d_paired, paired_difference


@dataclass(frozen=True, slots=True)
class SavedPair:
    """One file that was typed with both models; seconds per 1000 keystrokes, negative = lost."""

    file: str
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class SavedCompared:
    """Means over files, and their difference."""

    n: int
    """Files."""
    a: Interval
    b: Interval
    difference: Interval
    """b − a; positive where b saves more."""
    cohens_d: float | None
    """Of unpaired samples; None with fewer than two files, or where nothing varies and the means differ."""
    cohens_d_paired: float | None
    """In standard deviations of the differences (d_z); None for the same reasons."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {
            "n": self.n,
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "difference": self.difference.to_json(),
            "cohens_d": self.cohens_d,
            "cohens_d_paired": self.cohens_d_paired,
        }


def mean_saved(files: Sequence[str], seconds: Sequence[float], *, seed: int = 0) -> Interval:
    """Mean over files, with the interval of a bootstrap that draws files. Raises `FigureError` for no file."""
    if not files or len(files) != len(seconds):
        raise FigureError(f"{len(files)} files and {len(seconds)} figures give no mean.")
    values = np.asarray(seconds, dtype=np.float64)
    return cluster_bootstrap(lambda rows: float(values[rows].mean()), np.asarray(files, dtype=str), seed=seed)


def compare_saved(pairs: Sequence[SavedPair], *, seed: int = 0) -> SavedCompared:
    """Compare two models by file. Same seed, same figures. Raises `FigureError` for no file, and one twice."""
    files = [pair.file for pair in pairs]
    if len(set(files)) < len(files):
        raise FigureError("A file stands twice among the pairs.")
    a, b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    difference = paired_difference(a, b, files, seed=seed)
    several = len(pairs) > 1
    return SavedCompared(
        n=len(pairs),
        a=mean_saved(files, a, seed=seed),
        b=mean_saved(files, b, seed=seed),
        difference=difference,
        cohens_d=_finite(cohens_d(a, b)) if several else None,
        cohens_d_paired=_finite(cohens_d_paired(a, b)) if several else None,
    )


def verdict(compared: SavedCompared) -> str:
    """What the interval says, in a sentence."""
    low, high = compared.difference.low, compared.difference.high
    if math.isnan(low):
        return "One file was typed, so nobody can say how sure the difference in seconds is."
    if low > 0 or high < 0:
        return f"{'B' if low > 0 else 'A'} saves more time, and the interval leaves out 0."
    return "The interval of the seconds holds 0: these files do not tell which one saves more."


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
