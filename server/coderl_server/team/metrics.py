"""Figures of the server itself, in the text format of Prometheus (0.0.4), the same whichever worker is asked.

Each worker writes what it counted into a file of the run's folder, about once a second; whoever is asked adds up its own
figures and the files of the others. Counts of workers that died stay, so a counter never goes back; their gauges do not. No
label holds a user, a token or anything of a request but its method, the route's pattern and the status.

Written here, because the well-known client library keeps its figures in module globals and its many-process mode in an
environment variable that must be set before it is imported.
"""

from __future__ import annotations

import json
import math
import os
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histograms' buckets."""


class Kind(StrEnum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    """Added up over the living workers."""
    HISTOGRAM = "histogram"
    """In seconds."""


KNOWN: Mapping[str, tuple[Kind, str]] = MappingProxyType(
    {
        "coderl_requests_total": (Kind.COUNTER, "Requests answered, by method, route and status."),
        "coderl_request_seconds": (Kind.HISTOGRAM, "From the head of a request to the end of its answer, by route."),
        "coderl_records_total": (Kind.COUNTER, "Records of batches, accepted or rejected."),
        "coderl_spool_pending": (Kind.GAUGE, "Records that are safe in the spool and not in the database yet."),
        "coderl_committed_total": (Kind.COUNTER, "New rows in the database."),
        "coderl_duplicates_total": (Kind.COUNTER, "Records that were in the database already."),
        "coderl_damaged_total": (Kind.COUNTER, "Spooled lines that were set aside."),
        "coderl_completions_total": (
            Kind.COUNTER,
            "Completions: finished, cancelled, refused, failed or cut.",
        ),
        "coderl_decisions_total": (Kind.COUNTER, "Decisions of `/v1/decisions`, by action."),
        "coderl_generated_tokens_total": (Kind.COUNTER, "Tokens that were relayed, those of cancelled completions included."),
        "coderl_first_token_seconds": (Kind.HISTOGRAM, "From a completion's arrival to its first token, waiting included."),
        "coderl_generations_running": (Kind.GAUGE, "Generations at the model."),
        "coderl_generations_waiting": (Kind.GAUGE, "Generations that wait for the model."),
        "coderl_jobs_total": (Kind.COUNTER, "Jobs that ended here, by kind and state."),
        "coderl_workers": (Kind.GAUGE, "Workers that answer."),
    }
)
"""Every figure there is: name → kind and meaning. Whoever counts something new adds it here."""

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]


@dataclass(slots=True)
class Histogram:
    """Durations, by the buckets of `BOUNDS_S`; the last bucket holds what is longer."""

    counts: list[int]
    total: float
    """Seconds of all of them."""

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def quantile_s(self, share: float) -> float:
        """Upper bound of the bucket in which that share of them ends; infinite in the last one, NaN where there are none."""
        below, wanted = 0, share * self.count
        for bound, one in zip((*BOUNDS_S, math.inf), self.counts, strict=True):
            below += one
            if one and below >= wanted:
                return bound
        return math.nan


class Metrics:
    """The figures of one worker. Safe to use from several threads."""

    def __init__(self, folder: Path | None = None, process_id: int | None = None) -> None:
        """`folder` is shared by the workers of a run; without it there is one worker."""
        self._folder = folder
        self._process_id = process_id or os.getpid()
        self._lock = threading.Lock()
        self._values: dict[Key, float] = defaultdict(float)
        self._histograms: dict[Key, Histogram] = {}

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = _key(name, Kind.COUNTER, labels)
        with self._lock:
            self._values[key] += by

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge, or a counter that is counted elsewhere, stands at a value now."""
        key = _key(name, KNOWN[name][0], labels)
        with self._lock:
            self._values[key] = value

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """One more duration in a histogram."""
        key = _key(name, Kind.HISTOGRAM, labels)
        with self._lock:
            histogram = self._histograms.setdefault(key, Histogram([0] * (len(BOUNDS_S) + 1), 0.0))
            histogram.counts[bisect_left(BOUNDS_S, seconds)] += 1
            histogram.total += seconds

    def publish(self) -> None:
        """Write the figures for the other workers. Raises `OSError`."""
        if self._folder is None:
            return
        path = self._folder / f"{self._process_id}.json"
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(self._snapshot()), encoding="utf-8")
        draft.replace(path)

    def gathered(self) -> tuple[Mapping[Key, float], Mapping[Key, Histogram]]:
        """Counters and gauges, and histograms, of all workers together."""
        values: dict[Key, float] = defaultdict(float)
        histograms: dict[Key, Histogram] = {}
        for snapshot, lives in self._snapshots():
            _add(snapshot, lives, values, histograms)
        return values, histograms

    def text(self) -> str:
        """The figures of all workers together."""
        values, histograms = self.gathered()
        lines: list[str] = []
        for name, (kind, meaning) in KNOWN.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind.value}"]
            lines += [f"{name}{_shown(key[1])} {value:.17g}" for key, value in sorted(values.items()) if key[0] == name]
            for key, histogram in sorted(histograms.items()):
                if key[0] == name:
                    lines += _histogram_lines(name, key[1], histogram)
        return "\n".join(lines) + "\n"

    def _snapshots(self) -> Iterable[tuple[Mapping[str, Any], bool]]:
        yield self._snapshot(), True
        if self._folder is None:
            return
        for path in sorted(self._folder.glob("*.json")):
            if path.stem != str(self._process_id):
                yield json.loads(path.read_text(encoding="utf-8")), _lives(int(path.stem))

    def _snapshot(self) -> dict[str, Any]:
        with self._lock:
            return {
                "values": [[name, labels, value] for (name, labels), value in self._values.items()],
                "histograms": [[name, labels, one.counts, one.total] for (name, labels), one in self._histograms.items()],
            }


def _add(snapshot: Mapping[str, Any], lives: bool, values: dict[Key, float], histograms: dict[Key, Histogram]) -> None:
    for name, labels, value in snapshot["values"]:
        if name in KNOWN and (lives or KNOWN[name][0] is Kind.COUNTER):
            values[name, _labels(labels)] += value
    for name, labels, counts, total in snapshot["histograms"]:
        one = histograms.setdefault((name, _labels(labels)), Histogram([0] * len(counts), 0.0))
        one.counts = [a + b for a, b in zip(one.counts, counts, strict=True)]
        one.total += total


def _labels(pairs: Iterable[Iterable[str]]) -> Labels:
    return tuple((name, value) for name, value in pairs)


def _key(name: str, kind: Kind, labels: Mapping[str, str]) -> Key:
    if KNOWN[name][0] is not kind:
        raise ValueError(f"{name} is a {KNOWN[name][0].value}, not a {kind.value}.")
    return name, tuple(sorted(labels.items()))


def _shown(labels: Labels) -> str:
    if not labels:
        return ""
    escaped = ((name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _histogram_lines(name: str, labels: Labels, histogram: Histogram) -> list[str]:
    lines, below = [], 0
    for bound, count in zip((*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"), histogram.counts, strict=True):
        below += count
        lines.append(f"{name}_bucket{_shown((*labels, ('le', bound)))} {below}")
    return [*lines, f"{name}_sum{_shown(labels)} {histogram.total:.17g}", f"{name}_count{_shown(labels)} {below}"]


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
