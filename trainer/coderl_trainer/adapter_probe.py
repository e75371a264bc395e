"""Whether a server samples from the weights it was given: its log-probs of fixed tokens against the engine's own. Pure.

Two questions about a version v, for the log-probs s of the server and e of the engine on the same N tokens:

    gap         mean |s_v − e_v|                               one policy, two programs: rounding only
    following   b = ⟨s_v − s_r, e_v − e_r⟩ / |e_v − e_r|²      1 where the server moved as the engine did since version r,
                                                               0 where it did not move: it still serves r

b is the slope of a regression through the origin, of the server's change on the engine's. Its standard error is
√2·σ / |e_v − e_r| with σ the root mean square of s_0 − e_0, the rounding of the untrained model. Where three of them are more
than a half, the tokens cannot tell v from r, and nothing is said; else b below a half is a server that serves r.
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

_HALF: Final = 0.5
_ERRORS: Final = 3.0
_FLOOR_NATS: Final = 1e-5
"""Rounding that is there even where two programs agree on a model that was not trained."""


@dataclass(frozen=True, slots=True)
class Told:
    """One version's log-probs of all probe tokens, in nats, by the server and by the engine."""

    server_N: tuple[float, ...]
    engine_N: tuple[float, ...]

    @property
    def gap(self) -> float:
        """Mean absolute difference, nats."""
        return mean_gap(self.server_N, self.engine_N)


def mean_gap(one_N: Sequence[float], other_N: Sequence[float]) -> float:
    """Mean absolute difference in nats; 0 of nothing."""
    return sum(abs(a - b) for a, b in zip(one_N, other_N, strict=True)) / max(len(one_N), 1)


def following(now: Told, before: Told, untrained: Told) -> float | None:
    """b of the module's docstring, how far the server followed the engine from `before` to `now`; None = cannot be told."""
    moved_N = _difference(now.engine_N, before.engine_N)
    moved = math.sqrt(sum(one * one for one in moved_N))
    noise = math.sqrt(sum((s - e) ** 2 for s, e in zip(untrained.server_N, untrained.engine_N, strict=True)) / len(moved_N))
    if moved * _HALF < _ERRORS * math.sqrt(2.0) * max(noise, _FLOOR_NATS):
        return None
    served_N = _difference(now.server_N, before.server_N)
    return sum(s * e for s, e in zip(served_N, moved_N, strict=True)) / moved**2


def is_stale(follows: float | None) -> bool:
    """Whether the server still serves the version before."""
    return follows is not None and not follows >= _HALF


def _difference(one_N: Sequence[float], other_N: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one_N, other_N, strict=True)]
