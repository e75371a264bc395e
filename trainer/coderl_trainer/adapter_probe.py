"""Whether a server samples from the weights it was given: its log-probs of fixed tokens against the engine's own. Pure.

For the log-probs s of the server and e of the engine on the same N tokens, version v after version r:

    gap      mean |s_v − e_v|              one policy, two programs: rounding only
    moved    S = s_v − s_r, E = e_v − e_r  how the server's and the engine's log-probs changed
    slope    b = ⟨S, E⟩ / |E|²             1 where the server changed as the engine did; standard error |S − bE| / (√N·|E|)

The server still serves r where the engine moved and it did not: S is no larger than what its answers differ by when it is
asked twice, and E is. Else it serves r where b is surely below a half and E is well above its rounding.

**A low slope alone is no old version.** A server that computes in bfloat16 adds what an adapter gives to outputs that are
rounded already: a change of less than half a step of theirs is lost, always, so small adapters show in part (docs/log.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PROBES: Final = (
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return total / len(values)\n",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, x):\n        self.items.append(x)\n",
    "import json\n\nwith open(path) as file:\n    rows = [json.loads(line) for line in file]\nprint(len(rows), rows[0])\n",
    "if x > limit:\n    raise ValueError(f'{x} is above {limit}')\nresult = {name: count for name, count in pairs if count}\n",
)
"""Texts whose tokens are asked about: ordinary code, nobody's."""

_LEAST_MOVE_NATS: Final = 1e-3
"""Root mean square of E below which nothing is said."""
_HALF: Final = 0.5
_ERRORS: Final = 3.0
_ABOVE_ROUNDING: Final = 2.0
_EXACT_NATS: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Told:
    """One version's log-probs of all probe tokens, in nats, by the server and by the engine."""

    server_N: tuple[float, ...]
    engine_N: tuple[float, ...]

    @property
    def gap(self) -> float:
        """Mean absolute difference, nats; 0 of no tokens."""
        return sum(abs(s - e) for s, e in zip(self.server_N, self.engine_N, strict=True)) / max(len(self.server_N), 1)

    @property
    def rounding(self) -> float:
        """Root mean square of the difference, nats."""
        return _rms(_difference(self.server_N, self.engine_N))


@dataclass(frozen=True, slots=True)
class Change:
    """How server and engine went from one version to another."""

    engine: float
    """Root mean square of E, nats."""
    server: float
    """Root mean square of S, nats."""
    slope: float
    """b; not a number where E is 0."""
    error: float
    """Standard error of b."""

    @staticmethod
    def of(now: Told, before: Told) -> Change:
        """From `before` to `now`."""
        moved_N, served_N = _difference(now.engine_N, before.engine_N), _difference(now.server_N, before.server_N)
        square = sum(one * one for one in moved_N)
        if not square:
            return Change(0.0, _rms(served_N), math.nan, math.inf)
        slope = sum(s * e for s, e in zip(served_N, moved_N, strict=True)) / square
        rest = _rms([s - slope * e for s, e in zip(served_N, moved_N, strict=True)])
        return Change(_rms(moved_N), _rms(served_N), slope, rest / math.sqrt(square))

    def is_stale(self, repeat: float, rounding: float) -> bool:
        """Whether the server still serves the version before. `repeat`: root mean square of what its answers differ by when it
        is asked twice; `rounding`: of its difference from the engine on the untrained model; nats."""
        if self.engine < _LEAST_MOVE_NATS:
            return False
        if self.engine >= _ERRORS * repeat and not self.has_moved(repeat):
            return True
        surely_low = self.slope + _ERRORS * self.error < _HALF
        return surely_low and self.engine > _ABOVE_ROUNDING * rounding

    def has_moved(self, repeat: float) -> bool:
        """Whether the server's answers are others than before, beyond what they differ by anyway."""
        return self.server > _ERRORS * repeat + _EXACT_NATS

    @property
    def is_rounded_away(self) -> bool:
        """Whether the server surely shows less than half of what the engine changed."""
        return self.engine >= _LEAST_MOVE_NATS and self.slope + _ERRORS * self.error < _HALF


def repeat_of(one_N: Sequence[float], again_N: Sequence[float]) -> float:
    """Root mean square of what two answers to one question differ by, nats."""
    return _rms(_difference(one_N, again_N))


def _difference(one_N: Sequence[float], other_N: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one_N, other_N, strict=True)]


def _rms(values_N: Sequence[float]) -> float:
    return math.sqrt(sum(one * one for one in values_N) / max(len(values_N), 1))
