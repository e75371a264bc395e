"""*Is it worth it?* What was shown, withheld and kept, the seconds it saved, and how that stands against showing everything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from coderl_gate.daily import Against, against_showing_all
from coderl_store.daily import Daily
from coderl_store.day_sums import DaySums, total

from . import charts, numbers
from .charts import Range, Series
from .groups import shown_groups
from .visit import Scope

RESAMPLES = 400
"""Of the intervals on this page."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    name: str
    sums: DaySums

    @property
    def per_shown(self) -> float | None:
        """Seconds saved per suggestion that was shown and seen."""
        return self.sums.seconds / self.sums.priced if self.sums.priced else None


@dataclass(frozen=True, slots=True)
class Worth:
    """What the page shows."""

    total: DaySums
    by_day: Mapping[str, DaySums | None]
    """ISO date → sums; None where they may not be shown."""
    languages: tuple[Row, ...]
    generators: tuple[Row, ...]
    gates: tuple[Row, ...]
    users: int
    hidden: int
    """Lines and days that are not shown because they are about too few programmers."""
    against: Against | None
    too_few: bool
    """The whole group is too small to be shown."""


def worth(
    daily: Daily,
    scope: Scope,
    agreed: Collection[str],
    today: date,
    days: int,
    languages: Collection[str] = (),
    generators: Collection[str] = (),
) -> Worth:
    """Of the last `days` days, today included. Raises `DatabaseError`."""
    since = today - timedelta(days=days - 1)
    rows = daily.sums(
        ("day", "user_key", "language", "generator_id", "gate_id"),
        since=since, user_key=scope.user_key, languages=languages, generators=generators,
    )  # fmt: skip
    return summarise(rows, scope, agreed, [(since + timedelta(days=index)).isoformat() for index in range(days)])


def summarise(rows: Mapping[tuple[str, ...], DaySums], scope: Scope, agreed: Collection[str], days: Collection[str]) -> Worth:
    """The page of sums by (day, user, language, generator, gate). Pure."""
    grouped = [_grouped(rows, place) for place in range(5)]
    users = set(grouped[1][0])
    if scope.everybody and not shown_groups({"": users}, agreed, scope.minimum):
        return Worth(DaySums(), dict.fromkeys(days), (), (), (), len(users), 0, None, too_few=True)
    hidden = 0
    visible: list[dict[str, DaySums | None]] = []
    for sums, members in (grouped[0], *grouped[2:]):
        shown = set(sums) if not scope.everybody else shown_groups(members, agreed, scope.minimum)
        hidden += len(sums) - len(shown)
        visible.append({name: one if name in shown else None for name, one in sums.items()})
    by_day = {day: visible[0].get(day, DaySums()) for day in days}
    tables = [
        tuple(sorted((Row(name, one) for name, one in part.items() if one is not None), key=_most)) for part in visible[1:]
    ]
    return Worth(
        total=total(rows.values()),
        by_day=by_day,
        languages=tables[0],
        generators=tables[1],
        gates=tables[2],
        users=len(users),
        hidden=hidden,
        against=against_showing_all(grouped[1][0], grouped[0][0], resamples=RESAMPLES),
        too_few=False,
    )


def pictures(found: Worth) -> dict[str, str]:
    """The page's charts, by name."""
    labels = [day[5:] for day in found.by_day]
    sums = list(found.by_day.values())

    def of(value: str) -> list[float | None]:
        return [None if one is None else float(getattr(one, value)) for one in sums]

    passed = [None if one is None else float(one.shown - one.kept) for one in sums]
    requests = [
        Series("kept", of("kept"), "c1"), Series("shown, not kept", passed, "c2"), Series("withheld", of("withheld"), "c3"),
    ]  # fmt: skip
    unit, name = numbers.unit_of([one.seconds for one in sums if one is not None])
    saved = [None if value is None else value / unit for value in of("seconds")]
    made = {
        "decisions": charts.stacked(requests, labels, "Requests per day: kept, shown and not kept, withheld"),
        "seconds": charts.lines([Series(f"{name} saved", saved, "c1")], labels, f"{name} saved per day by what was shown"),
        "unit": name,
    }
    if found.against is not None:
        words = "Seconds per request: as it was, and showing everything"
        made["against"] = charts.ranges(_ranges(found.against), words, numbers.seconds)
    return made


def _ranges(against: Against) -> list[Range]:
    """What the log cannot tell is left out, but for what leans on the gate's own probabilities."""
    estimates = {"showing everything": (against.show_all, "c2"), "the same, doubly robust": (against.robust, "c3")}
    if against.verdict == "refused":
        del estimates["showing everything"]
    else:
        estimates["difference"] = (against.difference, "c1")
    rows = [Range("as it was", against.logged)]
    return rows + [Range(name, one.estimate, one.low, one.high, style) for name, (one, style) in estimates.items()]


def _grouped(rows: Mapping[tuple[str, ...], DaySums], place: int) -> tuple[dict[str, DaySums], dict[str, set[str]]]:
    """Sums and user keys by one part of the key."""
    sums: dict[str, DaySums] = {}
    members: dict[str, set[str]] = {}
    for key, one in rows.items():
        sums.setdefault(key[place], DaySums()).add(one)
        members.setdefault(key[place], set()).add(key[1])
    return sums, members


def _most(row: Row) -> tuple[int, str]:
    return -row.sums.requests, row.name
