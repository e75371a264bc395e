"""The parameters of the time model, from the log (architecture §4): what can be estimated is, the rest keeps its prior, and
says so. For the population, and for each programmer shrunk to the population (`coderl_gate.shrinkage`).

t_verify = a_u + b_u·n: lines through the seconds of reading. The mean, not the median, is wanted, because costs add up; but
decision times contain other activities (in the CUPS telemetry the 90th percentile of the seconds to a rejection is 30 s,
the median 3.5 s). So they are clipped, only the share that is spent on reading counts
(`coderl_gate.dataset.reading_seconds`), and what still looks like something else is weighted down (`coderl_gate.reading`).

v_u is the geometric mean of 1000/(mean gap between keystrokes in ms): gaps are skewed, and half and double speed are equally
far off. ρ_u is the mean rewritten share of accepted texts at the last look. t_wait is the mean wait as logged, clipped; it
is the machine's, not the programmer's, so there is one for all.

k, thinking time per line, keeps its prior. A log of shown suggestions does not show it, because the pause before a line also
holds the reading of what was shown there. In the CUPS telemetry programmers labelled 2.3 s [0.7, 4.8] of "thinking about new
code to write" per line written by hand between two suggestions: an upper limit, because part of it is thought whoever then
writes.

Intervals are 95 %: of the population by Student's t over programmers, of one programmer the posterior's. They take the rows
of one programmer for independent; typing rhythms that follow on each other are not, so the intervals of v are too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from .costs import MAX_PERSONAL, CostParameters
from .dataset import CLIP_S, Dataset, Floats
from .errors import DataError
from .reading import Rows, fit_reading
from .shrinkage import shrink, sums

MIN_DECISIONS: Final = 30
"""Fewer timed decisions say nothing about reading."""
MIN_SURVIVALS: Final = 10
"""Fewer accepted texts looked at again say nothing about editing."""
MIN_RHYTHMS: Final = 30
"""Fewer known typing rhythms say nothing about typing speed."""
TYPING_RANGE: Final = (0.5, 15.0)
"""Characters per second; what lies outside counts as its ends (15 are 180 words per minute)."""
TYPING_SPREAD: Final = 0.4
"""Prior of how typing speeds differ (standard deviation of the logarithm): 51.6 words per minute with a standard deviation
of 20.2 among 168,000 people (Dhakal et al., "Observations on Typing from 136 Million Keystrokes", CHI 2018)."""
EDIT_SPREAD: Final = 0.1
"""Prior of how edit shares differ (standard deviation); 0.1 among the 14 programmers of the CUPS telemetry, chance included."""

Interval = tuple[float, float]
Members = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PersonalCosts:
    """What is known of one programmer beyond the population."""

    rows: int
    """How many judged suggestions it rests on."""
    values: Mapping[str, float]
    """Those parameters of `CostParameters` that differ from the population's."""
    intervals: Mapping[str, Interval]
    """Low and high end of each of `values`, 95 % of the posterior."""


@dataclass(frozen=True, slots=True)
class CostFit:
    """The parameters, how sure they are, whose differ, and what had to keep its prior."""

    parameters: CostParameters
    """The population's."""
    not_estimated: tuple[str, ...]
    """One sentence each."""
    intervals: Mapping[str, Interval]
    """Population parameter → low and high end; a parameter that kept its prior is absent, and so is one whose interval is
    not known."""
    personal: Mapping[str, PersonalCosts]
    """User key → what is known of that programmer; those with the most rows."""
    elsewhere: float | None
    """Share of the reading times above 0 taken for something else; None where reading keeps its prior."""


@dataclass(frozen=True, slots=True)
class _Found:
    """One fitted parameter: of the population, and of each of U users."""

    name: str
    value: float
    low: float
    high: float
    own: Floats
    own_low: Floats
    own_high: Floats


def fit_costs(dataset: Dataset, prior: CostParameters | None = None, *, most_personal: int = MAX_PERSONAL) -> CostFit:
    """Estimate what the rows of `dataset` can tell; everything else stays as in `prior`.

    Parameters of their own are given for the `most_personal` programmers with the most rows. Deterministic. Raises `DataError`
    for negative or endless times and for edit shares outside [0, 1].
    """
    _check(dataset)
    parameters = prior or CostParameters()
    names, member = _members(dataset.users)
    found: list[_Found] = []
    missing: list[str] = []
    elsewhere: float | None = None
    timed = np.isfinite(dataset.reading_s)
    if timed.sum() >= MIN_DECISIONS:
        reading, elsewhere = _reading(dataset, timed, member, len(names))
        found += reading
    else:
        missing.append(f"Reading time keeps its prior: {timed.sum()} timed decisions, {MIN_DECISIONS} are needed.")
    looked = np.isfinite(dataset.edited)
    if looked.sum() >= MIN_SURVIVALS:
        found.append(_editing(dataset, looked, member, len(names)))
    else:
        missing.append(
            f"The edit share keeps its prior: {looked.sum()} accepted texts were looked at again, {MIN_SURVIVALS} are needed."
        )
    known = np.isfinite(dataset.typing_chars_per_s)
    if known.sum() >= MIN_RHYTHMS:
        found.append(_typing(dataset, known, member, len(names)))
    else:
        missing.append(f"Typing speed keeps its prior: {known.sum()} typing rhythms are known, {MIN_RHYTHMS} are needed.")
    missing.append("Thinking time per line keeps its prior: no log shows it.")
    values: dict[str, Any] = {item.name: _rounded(item.value) for item in found}
    means = {"expected_chars": dataset.chars, "expected_lines": dataset.lines, "expected_wait_s": dataset.waited_s}
    for name, rows in means.items():
        there = np.isfinite(rows)
        if there.any():
            capped = np.minimum(CLIP_S, rows[there]) if name == "expected_wait_s" else rows[there]
            values[name] = _rounded(float(np.average(capped, weights=dataset.weight[there])))
    return CostFit(
        replace(parameters, **values),
        tuple(missing),
        MappingProxyType({item.name: (_rounded(item.low), _rounded(item.high)) for item in found if np.isfinite(item.low)}),
        _personal(found, names, member, most_personal),
        elsewhere,
    )


def _check(dataset: Dataset) -> None:
    for name in ("reading_s", "waited_s"):
        seconds = getattr(dataset, name)
        if np.isinf(seconds).any() or (seconds < 0).any():
            raise DataError(f"The data set holds a {name} that is negative or endless: leave such rows out.")
    if (dataset.edited < 0).any() or (dataset.edited > 1).any():
        raise DataError("The data set holds an edit share outside [0, 1]: leave such rows out.")


def _members(users: NDArray[np.str_]) -> tuple[NDArray[np.str_], Members]:
    """The users, sorted, and the index of each row's; fast where the rows of a user follow on each other."""
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
    names, member = np.unique(users[starts], return_inverse=True)
    return names, np.repeat(member, np.diff(np.append(starts, len(users))))


def _reading(dataset: Dataset, rows: NDArray[np.bool_], member: Members, users: int) -> tuple[list[_Found], float]:
    fit = fit_reading(
        Rows(dataset.chars[rows], dataset.reading_s[rows], dataset.kept[rows], dataset.weight[rows], member[rows], users)
    )
    found = []
    for place, name in enumerate(("verify_base_s", "verify_s_per_char")):
        error = float(np.sqrt(fit.population_cov[place, place]))
        own, own_error = fit.own[:, place], np.sqrt(fit.own_cov[:, place, place])
        found.append(_found(name, float(fit.population[place]), error, own, own_error, member[rows], lowest=0.0))
    return found, fit.elsewhere


def _editing(dataset: Dataset, rows: NDArray[np.bool_], member: Members, users: int) -> _Found:
    value, error, own, own_error = _level(dataset.edited[rows], dataset.weight[rows], member[rows], users, EDIT_SPREAD)
    own = np.clip(own, 0.0, 1.0)
    return _found("edit_share", min(1.0, max(0.0, value)), error, own, own_error, member[rows], lowest=0.0, highest=1.0)


def _typing(dataset: Dataset, rows: NDArray[np.bool_], member: Members, users: int) -> _Found:
    speeds = np.log(np.clip(dataset.typing_chars_per_s[rows], *TYPING_RANGE))
    value, error, own, own_error = _level(speeds, dataset.weight[rows], member[rows], users, TYPING_SPREAD)
    found = _found("typing_chars_per_s", value, error, own, own_error, member[rows])
    return _Found(found.name, *(np.exp(getattr(found, item.name)) for item in fields(found) if item.name != "name"))


def _level(values: Floats, weight: Floats, member: Members, users: int, spread: float) -> tuple[float, float, Floats, Floats]:
    """A mean per user, shrunk: the population's, its error, each user's and its error, (U,)."""
    fit = shrink(sums(np.ones((len(values), 1)), values, weight, member, users), np.array([[spread**2]]))
    error = float(np.sqrt(fit.population_cov[0, 0]))
    return float(fit.population[0]), error, fit.own[:, 0], np.sqrt(fit.own_cov[:, 0, 0])


def _found(
    name: str,
    value: float,
    error: float,
    own: Floats,
    own_error: Floats,
    member: Members,
    *,
    lowest: float = -np.inf,
    highest: float = np.inf,
) -> _Found:
    """With intervals; NaN for the population where fewer than two users are known."""
    users = len(np.unique(member))
    reach = error * float(student.ppf(0.975, users - 1)) if users > 1 else float("nan")
    low, high = np.clip([value - reach, value + reach], lowest, highest)
    own_low, own_high = (np.clip(own + sign * 1.959964 * own_error, lowest, highest) for sign in (-1, 1))
    return _Found(name, value, float(low), float(high), own, own_low, own_high)


def _personal(found: list[_Found], names: NDArray[np.str_], member: Members, at_most: int) -> Mapping[str, PersonalCosts]:
    rows = np.bincount(member, minlength=len(names))
    most = np.sort(np.argsort(-rows, kind="stable")[:at_most])
    personal: dict[str, PersonalCosts] = {}
    for user in most.tolist():
        values, intervals = {}, {}
        for item in found:
            own = _rounded(float(item.own[user]))
            if own != _rounded(item.value):
                values[item.name] = own
                intervals[item.name] = (_rounded(float(item.own_low[user])), _rounded(float(item.own_high[user])))
        if values:
            personal[str(names[user])] = PersonalCosts(int(rows[user]), values, intervals)
    return MappingProxyType(personal)


def _rounded(value: float) -> float:
    """Six digits: more are noise, and would differ between machines."""
    return float(f"{value:.6g}")
