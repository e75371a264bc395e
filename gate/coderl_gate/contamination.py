"""Times that contain something else: which of the seconds a suggestion was visible were spent on it?

A mixture over the times t > 0 (t = 0: not looked at, certainly nothing else):

    with probability 1 − π   reading      Gamma of shape κ and the mean m that is expected of this suggestion
    with probability π       elsewhere    longer than m: uniform on (m, c), or, with probability q, beyond the clip c

Times are clipped at c, so what lies there counts by the probability of *reaching* c, not by a density. κ, π and q are
fitted by expectation-maximisation; m comes from outside and moves with it (`coderl_gate.timing`). Elsewhere is uniform
because pauses have no common shape, and never below m because it only adds.

Where two components explain the times no better than one (Schwarz, "Estimating the Dimension of a Model", 1978), all of it
is reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaincc, gammaln, polygamma

Floats = NDArray[np.float64]

MOST_ELSEWHERE: Final = 0.2
"""π is at most this. Left free on the visible times of the CUPS telemetry it becomes 0.37, the long looks that programmers
labelled as reading among them: the estimates per programmer then agree less with the labels (correlation 0.79) than with
this bound (0.85)."""
LEAST_SHAPE: Final = 0.5
"""κ below: so long a tail that everything is reading."""
MOST_SHAPE: Final = 1e4
_SMALLEST: Final = 1e-300


@dataclass(frozen=True, slots=True)
class Mixture:
    """The fitted shape of the times."""

    shape: float = 1.0
    """κ."""
    elsewhere: float = 0.1
    """π."""
    beyond: float = 0.5
    """q."""


@dataclass(frozen=True, slots=True)
class Times:
    """n times above 0, aligned. All (n,)."""

    seconds: Floats
    clip_s: Floats
    """c of each."""
    weight: Floats


def densities(times: Times, expected_s: Floats, mixture: Mixture) -> tuple[Floats, Floats]:
    """Likelihood of each time under reading and elsewhere, both (n,), with their probabilities multiplied in."""
    at_clip = times.seconds >= times.clip_s
    shape, scale = mixture.shape, expected_s / mixture.shape
    log_reading = (shape - 1) * np.log(times.seconds) - times.seconds / scale - shape * np.log(scale) - gammaln(shape)
    reading = np.exp(np.minimum(log_reading, 700.0))
    reading[at_clip] = gammaincc(shape, times.clip_s[at_clip] / scale[at_clip])
    room_s = times.clip_s - expected_s
    inside = (times.seconds > expected_s) & (room_s > 0)
    elsewhere = np.where(inside, (1 - mixture.beyond) / np.where(inside, room_s, 1.0), 0.0)
    elsewhere[at_clip] = mixture.beyond
    return (1 - mixture.elsewhere) * np.maximum(reading, _SMALLEST), mixture.elsewhere * elsewhere


def refit(times: Times, expected_s: Floats, reading: Floats) -> Mixture:
    """The mixture that fits best where `reading` (n,) is each time's probability of being reading alone."""
    weight = times.weight * reading
    away = times.weight * (1 - reading)
    total, lost = float(weight.sum()), float(away.sum())
    ratio = times.seconds / expected_s
    level = float((weight * ratio).sum()) / total
    gap = math.log(level) - float((weight * np.log(ratio)).sum()) / total
    beyond = min(1.0, float(away[times.seconds >= times.clip_s].sum()) / lost) if lost > 0 else 0.5
    return Mixture(_shape(gap), min(MOST_ELSEWHERE, lost / (total + lost)), beyond)


def prefers_two(times: Times, one_s: Floats, two_s: Floats, mixture: Mixture) -> bool:
    """Whether the mixture around the expectations `two_s` explains the times better than reading alone around `one_s`, its
    two more parameters paid for."""
    alone = refit(times, one_s, np.ones_like(one_s))
    single, _ = densities(times, one_s, Mixture(alone.shape, 0.0, 0.0))
    reading, elsewhere = densities(times, two_s, mixture)
    gain = float((times.weight * (np.log(reading + elsewhere) - np.log(single))).sum() / times.weight.mean())
    return gain > math.log(len(one_s))


def _shape(gap: float) -> float:
    """κ of a Gamma distribution by maximum likelihood: log κ − ψ(κ) = log(mean) − mean(log) (Minka 2002, one Newton step)."""
    if gap <= 1 / (2 * MOST_SHAPE):
        return MOST_SHAPE
    shape = (3 - gap + math.sqrt((gap - 3) ** 2 + 24 * gap)) / (12 * gap)
    wrong = math.log(shape) - float(digamma(shape)) - gap
    shape -= wrong / (1 / shape - float(polygamma(1, shape)))
    return min(MOST_SHAPE, max(LEAST_SHAPE, shape))
