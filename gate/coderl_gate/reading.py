"""Reading times, per programmer: t_verify = a_u + b_u·n seconds for n characters, from times that also contain other
activities.

Two estimates that need each other are made in turns until they settle: the lines (`coderl_gate.shrinkage`, each row
weighted by its probability of being reading alone) and those probabilities (`coderl_gate.contamination`, around the lines).
A slow reader's times are judged by that reader's own line. Kept suggestions are read longer than rejected ones, so each
kind has its own level, and the weights lost to other activities are given back to the rows of the same kind: what is thrown
out must not change how much of the mean is kept suggestions.

Rows are divided by the root of the time to expect of them: the spread of reading times grows with their mean, and with
these weights the fitted times still add up to the measured ones (quasi-Poisson; costs add up).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .contamination import Mixture, Times, densities, prefers_two, refit
from .shrinkage import STEPS, Shrunk, not_negative, shrink, sums

Floats = NDArray[np.float64]

SPREAD: Final = 0.2
"""Prior of how programmers' reading times differ: standard deviation over mean, of a and of b, with correlation ½. In the
CUPS telemetry the labelled times of one half of a programmer's decisions say nothing about the other half beyond the
population: a narrow prior."""
ROUNDS: Final = 40
"""Most turns; it ends earlier where no row's probability moves by more than `SETTLED` on average."""
SETTLED: Final = 5e-4
FLOOR: Final = 0.25
"""No suggestion is expected to take less than this part of the mean time: short ones would outweigh all others."""
_WARM_STEPS: Final = 5


@dataclass(frozen=True, slots=True)
class Rows:
    """n timed decisions, aligned; arrays are (n,)."""

    chars: Floats
    seconds: Floats
    """Not negative and finite; clipped."""
    kept: Floats
    weight: Floats
    member: NDArray[np.intp]
    """Which user, 0 … users − 1."""
    users: int

    @property
    def kinds(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which rows were kept and which were not."""
        return self.kept == 1, self.kept != 1


@dataclass(frozen=True, slots=True)
class ReadingFit:
    """The lines, and what was taken for something else."""

    population: Floats
    """(a, b), not negative."""
    population_cov: Floats
    """(2, 2)."""
    own: Floats
    """(a_u, b_u), not negative, (U, 2); exactly the population's where a user has no rows."""
    own_cov: Floats
    """(U, 2, 2)."""
    reading: Floats
    """Each row's probability of being reading alone, (n,)."""
    elsewhere: float
    """Share of the times above 0 that contain something else; 0 where one component explains them as well."""


@dataclass(slots=True)
class _State:
    """Where the turns stand."""

    rows: Rows
    reading: Floats
    expected_s: Floats
    """Time to expect of each row by the population's line, (n,)."""
    lines: Shrunk | None = None
    mixture: Mixture = field(default_factory=Mixture)

    def fit_lines(self, steps: int = STEPS) -> Shrunk:
        """The lines under the present probabilities, from where they stand, by `steps` of `shrink`."""
        rows, weight = self.rows, self.rows.weight * self.reading
        for kind in rows.kinds:
            left = float(weight[kind].sum())
            if left > 0:
                weight[kind] *= float(rows.weight[kind].sum()) / left
        root = np.sqrt(self.expected_s)
        x = np.stack([1 / root, rows.chars / root], axis=1)
        data = sums(x, rows.seconds / root, weight, rows.member, rows.users)
        prior = _prior(rows, weight)
        lines = shrink(data, prior, start=self.lines, steps=steps)
        level = float(np.average(rows.seconds, weights=weight))
        a, b = lines.population
        self.expected_s = np.maximum(FLOOR * level, a + b * rows.chars)
        self.lines = lines
        return lines

    def positive_s(self, positive: NDArray[np.bool_]) -> Floats:
        """The mean time above 0 to expect of each row of `positive`, by its user's line and its kind's level."""
        assert self.lines is not None
        rows = self.rows
        own = self.lines.own[rows.member[positive]]
        line_s = np.maximum(FLOOR * self.expected_s[positive], own[:, 0] + own[:, 1] * rows.chars[positive])
        weight = (rows.weight * self.reading)[positive]
        kept, seconds = rows.kept[positive] == 1, rows.seconds[positive]
        for kind in (kept, ~kept):
            if (weight[kind] > 0).any():
                line_s[kind] *= float((weight[kind] * seconds[kind]).sum() / (weight[kind] * line_s[kind]).sum())
        return line_s


def fit_reading(rows: Rows) -> ReadingFit:
    """Fit the lines. At least one row is needed; times that are all 0 give lines of 0."""
    positive = rows.seconds > 0
    everything = np.ones(len(rows.seconds))
    if not positive.any():
        return ReadingFit(
            np.zeros(2), np.zeros((2, 2)), np.zeros((rows.users, 2)), np.zeros((rows.users, 2, 2)), everything, 0.0
        )
    mean_s = np.full(len(rows.seconds), float(np.average(rows.seconds, weights=rows.weight)))
    times = Times(rows.seconds[positive], _clips(rows)[positive], rows.weight[positive])
    one = _State(rows, everything, mean_s)
    for _ in range(3):
        one.fit_lines(_WARM_STEPS)
    two = _State(rows, _first_guess(rows, positive), mean_s)
    for _ in range(ROUNDS):
        two.fit_lines(_WARM_STEPS)
        expected_s = two.positive_s(positive)
        two.mixture = refit(times, expected_s, two.reading[positive])
        alone, elsewhere = densities(times, expected_s, two.mixture)
        after = alone / (alone + elsewhere)
        moved = float(np.abs(after - two.reading[positive]).mean())
        two.reading[positive] = after
        if moved <= SETTLED:
            break
    mixed = prefers_two(times, one.positive_s(positive), two.positive_s(positive), two.mixture)
    chosen = two if mixed else one
    lines = chosen.fit_lines()
    population = not_negative(lines.population[None], lines.population_cov[None])[0]
    own = not_negative(lines.own, lines.own_cov)
    own[np.bincount(rows.member, minlength=rows.users) == 0] = population
    share = two.mixture.elsewhere if mixed else 0.0
    return ReadingFit(population, lines.population_cov, own, lines.own_cov, chosen.reading, share)


def _prior(rows: Rows, weight: Floats) -> Floats:
    """How the lines of users differ, beforehand: `SPREAD` of a line on which half of the time is base, half grows with
    length."""
    level = max(1e-6, float(np.average(rows.seconds, weights=weight)))
    length = max(1.0, float(np.average(rows.chars, weights=weight)))
    scale = SPREAD * np.array([level / 2, level / 2 / length])
    return np.array([[1.0, 0.5], [0.5, 1.0]]) * scale * scale[:, None]


def _clips(rows: Rows) -> Floats:
    """Where the times of a row's kind end, (n,): the largest of them. Where the clip bit, that is the clip."""
    clips = np.empty(len(rows.seconds))
    for kind in rows.kinds:
        clips[kind] = rows.seconds[kind].max(initial=0.0)
    return clips


def _first_guess(rows: Rows, positive: NDArray[np.bool_]) -> Floats:
    """Times above three times their kind's median are probably something else, (n,)."""
    guess = np.ones(len(rows.seconds))
    for kind in rows.kinds:
        some = kind & positive
        if some.any():
            guess[some] = np.where(rows.seconds[some] > 3 * float(np.median(rows.seconds[some])), 0.05, 0.95)
    return guess
