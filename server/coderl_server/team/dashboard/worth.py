"""*Is it worth it?* What was shown, withheld and kept, the seconds it saved, and how that stands against showing everything."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from coderl_gate.daily import Against, against_showing_all
from coderl_store.day_sums import DaySums

from . import charts, numbers
from .charts import Range, Series
from .groups import shown_groups
from .periods import SHOWN, Period
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
    made_at: datetime | None = None
    """When the sums were added up; None: just now."""


def worth(found: Period, scope: Scope, agreed: Collection[str]) -> Worth:
    """The page of a period. Pure."""
    users, sums = found.users, found.sums
    if scope.everybody and users and not shown_groups({"": users}, agreed, scope.minimum):
        return Worth(DaySums(), dict.fromkeys(found.days), (), (), (), len(users), 0, None, too_few=True)
    shown = {
        name: shown_groups(found.members[name], agreed, scope.minimum) if scope.everybody else set(sums[name]) for name in SHOWN
    }
    tables = {
        name: tuple(sorted((Row(key, one) for key, one in sums[name].items() if key in shown[name]), key=_most))
        for name in SHOWN
    }
    hidden_days = set(sums["day"]) - shown["day"]
    return Worth(
        total=found.total,
        by_day={day: None if day in hidden_days else sums["day"].get(day, DaySums()) for day in found.days},
        languages=tables["language"],
        generators=tables["generator_id"],
        gates=tables["gate_id"],
        users=len(users),
        hidden=sum(len(sums[name]) - len(shown[name]) for name in SHOWN),
        against=against_showing_all(sums["user_key"], sums["day"], resamples=RESAMPLES),
        too_few=False,
        made_at=found.made_at,
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


def _most(row: Row) -> tuple[int, str]:
    return -row.sums.requests, row.name
