"""Log-probs of different generators made comparable: each value becomes its quantile within its own generator's values.

A mean token log-prob of −0.4 is confident for one model and doubtful for another, so a gate fitted with one generator would
be nonsense with the next. The rank within the running generator's own distribution keeps its meaning; this is quantile
(rank) normalisation, with distributions kept as 101-point grids.
"""

from __future__ import annotations

import json
import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from .errors import ArtifactError, DataError

GRID_POINTS = 101
"""Grid at 0, 1, … 100 percent."""
LOGPROB_NAMES: tuple[str, ...] = ("mean", "lowest", "first", "total", "spread")
MIN_VALUES = 30
"""Fewer values than this say nothing about a distribution: no table."""
REFERENCE_WEIGHT = 200.0
"""How many of the running generator's own values weigh as much as the shipped reference."""
CAPACITY = 500
"""Size of the reservoir: the standard error of a quantile is then at most √(¼/500) = 0.022."""
REFRESH_EVERY = 16
"""The table is worked out anew after so many additions."""


@dataclass(frozen=True, slots=True)
class LogprobSummary:
    """What is left of a suggestion's token log-probs (natural logarithm); None = the log does not hold it."""

    mean: float | None
    lowest: float | None
    first: float | None
    total: float | None
    tokens: int | None
    spread: float | None = None
    """Standard deviation over the tokens, in nats; None below two tokens, and where one is impossible (−∞)."""

    @classmethod
    def of(cls, logprobs: Sequence[float]) -> LogprobSummary | None:
        """Summary of the log-probs of all tokens, in order; None for an empty sequence.

        Raises DataError where one is not a number.
        """
        if not logprobs:
            return None
        total = math.fsum(logprobs) if all(map(math.isfinite, logprobs)) else sum(logprobs)
        if math.isnan(total):
            raise DataError("A token's log-probability is not a number.")
        mean = total / len(logprobs)
        known = len(logprobs) > 1 and math.isfinite(total)
        spread = math.sqrt(math.fsum((one - mean) ** 2 for one in logprobs) / len(logprobs)) if known else None
        return cls(mean, min(logprobs), logprobs[0], total, len(logprobs), spread)


@dataclass(frozen=True, slots=True)
class QuantileTable:
    """The distribution of a generator's log-prob summaries.

    `grids[name]` are the values at 0, 1, … 100 percent, not falling, for some or all of `LOGPROB_NAMES`.
    """

    generator_id: str
    grids: Mapping[str, tuple[float, ...]]
    n: int
    """How many suggestions were measured."""

    def __post_init__(self) -> None:
        for name, grid in self.grids.items():
            if name not in LOGPROB_NAMES:
                raise ArtifactError(f"The quantile table of {self.generator_id!r} holds an unknown value {name!r}.")
            if len(grid) != GRID_POINTS or not all(a <= b for a, b in pairwise(grid)) or not all(map(math.isfinite, grid)):
                raise ArtifactError(
                    f"The quantile table of {self.generator_id!r} lacks {GRID_POINTS} rising numbers for {name!r}."
                )

    @classmethod
    def of(cls, generator_id: str, values: Mapping[str, Iterable[float | None]]) -> QuantileTable:
        """Measure a table. A name with fewer than `MIN_VALUES` known, finite values is left out; DataError where all are."""
        grids, n = {}, 0
        for name, column in values.items():
            known = sorted(value for value in column if value is not None and math.isfinite(value))
            if len(known) >= MIN_VALUES:
                grids[name], n = _grid(known), max(n, len(known))
        if not grids:
            raise DataError(f"Fewer than {MIN_VALUES} log-probs of {generator_id!r}: no quantiles can be measured.")
        return cls(generator_id, MappingProxyType(grids), n)

    def quantile(self, name: str, value: float | None) -> float | None:
        """Share of the generator's values below `value` (ties count half), in [0, 1]; not falling in `value`.

        None where the value or the grid of that name is missing.
        """
        grid = self.grids.get(name)
        if grid is None or value is None:
            return None
        left, right = bisect_left(grid, value), bisect_right(grid, value)
        if right > left:
            position = (left + right - 1) / 2
        elif left == 0:
            position = 0.0
        elif left == GRID_POINTS:
            position = GRID_POINTS - 1.0
        else:
            low, high = grid[left - 1], grid[left]
            position = left - 1 + (value - low) / (high - low)
        return position / (GRID_POINTS - 1)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        grids = {name: list(grid) for name, grid in self.grids.items()}
        return {"generator_id": self.generator_id, "n": self.n, "grids": grids}

    @classmethod
    def from_json(cls, data: Any) -> QuantileTable:
        """The table that `to_json` gave; ArtifactError where it is damaged."""
        try:
            grids = {str(name): tuple(float(value) for value in grid) for name, grid in data["grids"].items()}
            return cls(str(data["generator_id"]), MappingProxyType(grids), int(data["n"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"This is not a quantile table: {error!r}.") from error


def _grid(values: Sequence[float]) -> tuple[float, ...]:
    """101 quantiles of sorted values, linearly interpolated (type 7 of Hyndman and Fan 1996, numpy's default)."""
    last = len(values) - 1
    grid = []
    for percent in range(GRID_POINTS):
        whole, part = divmod(percent * last, GRID_POINTS - 1)
        low, high = values[whole], values[min(whole + 1, last)]
        grid.append(low if part == 0 or low == high else low + (high - low) * part / (GRID_POINTS - 1))
    for index in range(1, GRID_POINTS):  # rounding may break the order by one unit in the last place
        grid[index] = max(grid[index], grid[index - 1])
    return tuple(grid)


class OnlineQuantiles:
    """The running generator's distribution, learned while it runs.

    A bounded uniform sample of what it produced (reservoir sampling, Vitter 1985, algorithm R) is blended with the shipped
    reference by averaging the two quantile functions, the reference weighing as much as `REFERENCE_WEIGHT` values. Without a
    reference there is no table until `MIN_VALUES` suggestions were seen. Not safe for use from several threads.
    """

    def __init__(
        self, generator_id: str, rng: random.Random, reference: QuantileTable | None = None, capacity: int = CAPACITY
    ) -> None:
        self.generator_id = generator_id
        self.seen = 0
        """Suggestions added so far."""
        self._rng = rng
        self._reference = reference
        self._capacity = capacity
        self._sample: list[LogprobSummary] = []
        self._table = reference
        self._since_refresh = 0

    def add(self, summary: LogprobSummary) -> None:
        """Take one generated suggestion into account, shown or not."""
        self.seen += 1
        self._since_refresh += 1
        if len(self._sample) < self._capacity:
            self._sample.append(summary)
        else:
            place = self._rng.randrange(self.seen)
            if place < self._capacity:
                self._sample[place] = summary

    def table(self) -> QuantileTable | None:
        """The distribution as far as it is known; None where too little is."""
        due = self._since_refresh >= REFRESH_EVERY or (self._table is None and self._since_refresh > 0)
        if due and len(self._sample) >= MIN_VALUES:
            self._table = self._blend()
            self._since_refresh = 0
        return self._table

    def _blend(self) -> QuantileTable | None:
        reference = self._reference
        grids: dict[str, tuple[float, ...]] = dict(reference.grids) if reference else {}
        for name in LOGPROB_NAMES:
            own = sorted(value for s in self._sample if (value := getattr(s, name)) is not None and math.isfinite(value))
            if len(own) < MIN_VALUES:
                continue
            grid, old = _grid(own), grids.get(name)
            if old is not None:
                weight = REFERENCE_WEIGHT / (REFERENCE_WEIGHT + self.seen)
                blended = [weight * a + (1 - weight) * b for a, b in zip(old, grid, strict=True)]
                for index in range(1, GRID_POINTS):
                    blended[index] = max(blended[index], blended[index - 1])
                grid = tuple(blended)
            grids[name] = grid
        if not grids:
            return None
        return QuantileTable(self.generator_id, MappingProxyType(grids), self.seen + (reference.n if reference else 0))


def reference_table(generator_id: str) -> QuantileTable | None:
    """The table shipped for a known generator, else None. Raises ArtifactError where the shipped file is damaged."""
    if not generator_id or not all(c.isalnum() or c in "-_." for c in generator_id):
        return None
    source = resources.files("coderl_gate").joinpath("reference", f"{generator_id}.json")
    if not source.is_file():
        return None
    try:
        return QuantileTable.from_json(json.loads(source.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ArtifactError(f"The reference quantiles of {generator_id!r} are damaged: reinstall CodeRL.") from error
