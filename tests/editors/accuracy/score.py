"""What was done against what was logged: read from the database, compared, counted.

An interaction counts as right where exactly one outcome was logged for it, of the true kind, and with the true number of
accepted characters. The evidence is reported, not judged. What was served again under the same idea (detail `reserved`) is one
row with its successor and is left out.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from coderl_store.home import hashed, salt
from coderl_store.records import Evidence, OutcomeKind

from .plan import Client, Interaction, Truth

PATIENCE_S = 10.0
RESERVED = "reserved"
NOTHING = "no outcome"
SEVERAL = "several outcomes"


@dataclass(frozen=True, slots=True)
class Logged:
    """One row of the log's outcomes."""

    kind: OutcomeKind
    evidence: Evidence
    detail: str
    accepted_chars: int

    def __str__(self) -> str:
        chars = f" {self.accepted_chars} chars" if self.accepted_chars else ""
        return f"{self.kind}{chars} ({self.evidence}{', ' if self.detail else ''}{self.detail})"


def read(home: Path, documents: Mapping[int, str]) -> dict[int, tuple[Logged, ...]]:
    """The outcomes of each document in the order of the log. `documents`: their URIs by number of interaction."""
    keys = {hashed(salt(home), uri): number for number, uri in documents.items()}
    query = (
        "SELECT c.document_key, o.kind, o.evidence, o.detail, o.accepted_chars FROM outcomes o"
        " JOIN decisions d ON d.id = o.decision_id JOIN contexts c ON c.id = d.context_id ORDER BY o.rowid"
    )
    found: dict[int, list[Logged]] = {number: [] for number in documents}
    if not (home / "coderl.db").exists():
        return dict.fromkeys(documents, ())
    database = sqlite3.connect(f"file:{home / 'coderl.db'}?mode=ro", uri=True)
    try:
        for key, kind, evidence, detail, chars in database.execute(query):
            if key in keys and detail != RESERVED:
                found[keys[key]].append(Logged(OutcomeKind(kind), Evidence(evidence), detail, chars))
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):  # the server is about to make it
            raise
    finally:
        database.close()
    return {number: tuple(rows) for number, rows in found.items()}


def read_all(home: Path, documents: Mapping[int, str]) -> dict[int, tuple[Logged, ...]]:
    """The same, once every document has an outcome: a server writes the last ones while it ends. Waits at most `PATIENCE_S`."""
    end_s = time.monotonic() + PATIENCE_S
    while not all((found := read(home, documents)).values()) and time.monotonic() < end_s:
        time.sleep(0.1)
    return found


@dataclass(frozen=True, slots=True)
class Scored:
    """One interaction and what was logged for it."""

    client: str
    number: int
    move: str
    place: str
    truth: Truth
    logged: tuple[Logged, ...]

    @property
    def right(self) -> bool:
        return len(self.logged) == 1 and Truth(self.logged[0].kind, self.logged[0].accepted_chars) == self.truth

    @property
    def kind(self) -> str:
        """As what it was logged."""
        return NOTHING if not self.logged else SEVERAL if len(self.logged) > 1 else self.logged[0].kind.value

    @property
    def evidence(self) -> str:
        return self.logged[0].evidence.value if len(self.logged) == 1 else "none"

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "move": self.move,
            "place": self.place,
            "true_kind": self.truth.kind.value,
            "true_chars": self.truth.accepted_chars,
            "logged": [str(one) for one in self.logged],
            "right": self.right,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All interactions of one client."""

    client: Client
    scored: tuple[Scored, ...]

    @property
    def right(self) -> int:
        return sum(one.right for one in self.scored)

    @property
    def accuracy(self) -> float:
        """Share of right interactions; 0 where there were none."""
        return self.right / len(self.scored) if self.scored else 0.0

    @property
    def good(self) -> bool:
        """Whether it reaches what is asked of the client."""
        return self.accuracy >= self.client.least

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.right, len(self.scored))

    @property
    def confusion(self) -> dict[tuple[str, str], int]:
        """Counts by (true kind, logged kind), the most frequent first."""
        return dict(Counter((one.truth.kind.value, one.kind) for one in self.scored).most_common())

    def by(self, name: str) -> dict[str, tuple[int, int]]:
        """(right, all) by an attribute of the interactions: `evidence`, `move` or `place`."""
        found: dict[str, tuple[int, int]] = {}
        for one in self.scored:
            right, total = found.get(getattr(one, name), (0, 0))
            found[getattr(one, name)] = right + one.right, total + 1
        return dict(sorted(found.items()))

    def wrong(self) -> tuple[Scored, ...]:
        return tuple(one for one in self.scored if not one.right)

    def to_json(self) -> dict[str, Any]:
        return {
            "client": self.client.name,
            "interactions": len(self.scored),
            "right": self.right,
            "accuracy": round(self.accuracy, 4),
            "interval": [round(end, 4) for end in self.interval],
            "least": self.client.least,
            "by_evidence": self.by("evidence"),
            "by_move": self.by("move"),
            "by_place": self.by("place"),
            "confusion": [[true, logged, count] for (true, logged), count in self.confusion.items()],
            "wrong": [one.to_json() for one in self.wrong()],
        }


def score(client: Client, interactions: Iterable[Interaction], logged: Mapping[int, Sequence[Logged]]) -> Report:
    """Compare what was done with what was logged, by number of interaction."""
    return Report(
        client,
        tuple(
            Scored(client.name, one.number, one.move.value, one.place, one.truth, tuple(logged.get(one.number, ())))
            for one in interactions
        ),
    )


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927); (0, 1) where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


EVIDENCE = tuple(one for one in Evidence if one is not Evidence.IMPORTED)


def row(report: Report) -> str:
    """A client's row of the table."""
    return row_of(report.to_json())


def row_of(told: Mapping[str, Any]) -> str:
    """The same, of a report's JSON."""
    low, high = told["interval"]
    by = told["by_evidence"]
    counts = ["/".join(map(str, by[one.value])) if one.value in by else "–" for one in EVIDENCE]
    share = f"{100 * told['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return f"| {told['client']} | {told['interactions']} | {share} | {' | '.join(counts)} |"


def head() -> str:
    """The head of the table: clients, and evidence classes (right/all)."""
    names = ["client", "interactions", "right, 95 % interval", *(f"`{one.value}`" for one in EVIDENCE)]
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"


def table(reports: Iterable[Report]) -> str:
    """Clients and evidence classes, in Markdown."""
    return "\n".join([head(), *map(row, reports)])


BEGIN, END = "<!-- outcome-accuracy: written by `make outcome-accuracy` -->", "<!-- /outcome-accuracy -->"


def written(page: str, rows: Iterable[str]) -> str:
    """A page with these rows in its table between the two marks; rows of other clients stay. ValueError without the marks."""
    before, began, rest = page.partition(BEGIN)
    old, ended, after = rest.partition(END)
    if not began or not ended:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}")
    stood = [line for line in old.splitlines() if line.startswith("| ") and line not in head().splitlines()]
    named = {line.split("|")[1].strip(): line for line in (*stood, *rows)}
    return f"{before}{BEGIN}\n\n{head()}\n" + "".join(f"{line}\n" for line in named.values()) + f"\n{END}{after}"
