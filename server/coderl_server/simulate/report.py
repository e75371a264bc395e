"""What a simulated programmer felt: counters per file and in all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from coderl_store.records import Route


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which `share` of the values lie, linear between neighbours (NumPy's default); None without values."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(slots=True)
class Counters:
    """What happened in one file, or in all of them.

    Counted by the server's own decisions, one per request: `routes`, `generated` (a generation was paid for, whatever came of
    it), `shown`, `withheld`. Counted at the client: everything else. `shown` = seen + `late` (came after the pause had ended).
    """

    requests: int = 0
    routes: dict[str, int] = field(default_factory=lambda: {route.value: 0 for route in Route})
    generated: int = 0
    shown: int = 0
    withheld: int = 0
    late: int = 0
    superseded: int = 0
    """The pause ended before the server answered."""
    accepted: int = 0
    partially_accepted: int = 0
    wrong_suggestions_seen: int = 0
    dismissed: int = 0
    """Those of the wrong ones that were sent away with Esc."""
    keystrokes: int = 0
    """Keys typed by hand."""
    keystrokes_without: int = 0
    """Keys the same text takes without any suggestion."""
    keystrokes_saved: int = 0
    """Keys that accepted text would have taken, minus one key per accept."""
    seconds_saved: float = 0.0
    """Sum of `coderl_gate.costs.realised_s` over the suggestions seen; negative = lost. Waiting is hidden in the pause, so
    t_wait = 0."""
    session_s: float = 0.0
    """Virtual time from the first key to the last."""
    latencies_ms: list[float] = field(default_factory=list)
    """Real time from request to answer at the client, of requests answered without waiting for the virtual clock."""
    readings: list[tuple[int, float]] = field(default_factory=list)
    """(Characters, seconds saved) of each suggestion that was seen."""

    @property
    def seen(self) -> int:
        return self.accepted + self.partially_accepted + self.wrong_suggestions_seen

    @property
    def seconds_saved_per_1000_keystrokes(self) -> float | None:
        """Per thousand keys of `keystrokes_without`, so that policies over the same text compare. None where nothing was
        typed."""
        return 1000.0 * self.seconds_saved / self.keystrokes_without if self.keystrokes_without else None

    def add(self, other: Counters) -> None:
        """Count the other's events too."""
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                setattr(self, name, {key: mine[key] + theirs[key] for key in mine})
            else:
                setattr(self, name, mine + theirs)

    def to_json(self) -> dict[str, Any]:
        """Stable keys (docs/protocol.md); seconds are rounded to the microsecond."""
        counted = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("latencies_ms", "readings")}
        rate = self.seconds_saved_per_1000_keystrokes
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return {
            **counted,
            "seconds_saved": round(self.seconds_saved, 6),
            "session_s": round(self.session_s, 6),
            "seen": self.seen,
            "seconds_saved_per_1000_keystrokes": None if rate is None else round(rate, 6),
            "latency_ms": {name: _rounded(percentile(self.latencies_ms, share)) for name, share in shares.items()},
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file's counters."""

    file: str
    counters: Counters


@dataclass(frozen=True, slots=True)
class SimulateReport:
    """A whole session."""

    seed: int
    files: tuple[FileReport, ...]
    total: Counters
    records_acknowledged: int
    """Records the server said are safe (`coderl/recorded`)."""
    records_lost: int | None
    """Those of them that are not in the database after `coderl/flush`. Anything but 0 is a defect. None where the log could not
    be flushed, so that it cannot be said."""
    digest: str
    """SHA-256 over all decisions, all outcomes and all the programmer did, in order: same seed, same digest (with a
    generator that repeats itself, see `SimulateOptions.seed`)."""
    messages: tuple[str, ...] = ()
    """What the server said to the user."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object: the counters in all at the top, `files` with the same counters per file."""
        return {
            "seed": self.seed,
            **self.total.to_json(),
            "records_acknowledged": self.records_acknowledged,
            "records_lost": self.records_lost,
            "digest": self.digest,
            "messages": list(self.messages),
            "files": [{"file": part.file, **part.counters.to_json()} for part in self.files],
        }

    def render(self, console: Console) -> None:
        """A table for people: one row per file, one in all."""
        table = Table(title=f"Simulated session, seed {self.seed}", title_justify="left")
        table.add_column("file", no_wrap=True)
        for heading in ("asked", "made", "seen", "taken", "part", "wrong", "keys", "keys saved", "seconds saved"):
            table.add_column(heading, justify="right")
        rows = [(Path(part.file).name, part.counters) for part in self.files]
        if len(rows) > 1:
            rows.append(("in all", self.total))
        for name, counters in rows:
            table.add_row(name, *_cells(counters), end_section=name == rows[-2][0] if len(rows) > 1 else False)
        console.print(table)
        console.print(self._sentence(), highlight=False)
        for message in self.messages:
            console.print(f"The server said: {message}", highlight=False, markup=False)

    def _sentence(self) -> str:
        rate, latency = self.total.seconds_saved_per_1000_keystrokes, percentile(self.total.latencies_ms, 0.5)
        felt = (
            "nothing was typed" if rate is None else f"{rate:+.1f} s per 1000 keystrokes ({'saved' if rate >= 0 else 'lost'})"
        )
        answered = "" if latency is None else f"; half of the answers came within {latency:.0f} ms"
        lost = f"; {self.records_lost} acknowledged records are MISSING from the log" if self.records_lost else ""
        return f"{felt}{answered}{lost}."


def _cells(counters: Counters) -> list[str]:
    return [
        str(counters.requests),
        str(counters.generated),
        str(counters.seen),
        str(counters.accepted),
        str(counters.partially_accepted),
        str(counters.wrong_suggestions_seen),
        str(counters.keystrokes),
        str(counters.keystrokes_saved),
        f"{counters.seconds_saved:+.1f}",
    ]
