"""Sums of the last so many days, by each of what pages show sums by. Everybody's are made beforehand (`keeper`), because adding
up months of a large team takes seconds; a visitor's own, and those of one language or generator, are added up when asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any

from coderl_store.daily import Daily
from coderl_store.day_sums import DaySums, total

from .visit import Scope

SHOWN = ("day", "language", "generator_id", "gate_id")
"""What pages show sums by."""
GROUPED = ("user_key", *SHOWN)
EVERY_S: Mapping[int, float] = MappingProxyType({7: 60.0, 30: 120.0, 90: 600.0, 365: 3600.0})
"""Days of the periods that are made beforehand → how old they may get while records come in."""


@dataclass(frozen=True, slots=True)
class Period:
    """The sums of some days, today included."""

    days: tuple[str, ...]
    sums: Mapping[str, Mapping[str, DaySums]]
    """By each of `GROUPED`: the same requests."""
    members: Mapping[str, Mapping[str, Collection[str]]] = field(default_factory=dict)
    """By each of `SHOWN`: user keys. Empty for one programmer's own."""
    made_at: datetime | None = None
    """None: just now."""

    @property
    def users(self) -> frozenset[str]:
        """Everybody who is in it."""
        return frozenset(self.sums["user_key"])

    @property
    def total(self) -> DaySums:
        """All of it, without `reasons`."""
        return total(self.sums["day"].values())


def period(
    daily: Daily,
    scope: Scope,
    today: date,
    days: int,
    languages: Collection[str] = (),
    generators: Collection[str] = (),
) -> Period:
    """Of the last `days` days, made beforehand where that was done today. Raises `DatabaseError`."""
    if scope.everybody and not languages and not generators and days in EVERY_S:
        found = daily.figure(name_of(days))
        if found is not None and found[1]["today"] == today.isoformat():
            return _read(found[1], found[0])
    return live(daily, scope.user_key, today, days, languages, generators)


def live(
    daily: Daily,
    user_key: str | None,
    today: date,
    days: int,
    languages: Collection[str] = (),
    generators: Collection[str] = (),
) -> Period:
    """Added up now. Raises `DatabaseError`."""
    since = today - timedelta(days=days - 1)
    sums = {}
    for name in GROUPED:
        found = daily.sums((name,), since=since, user_key=user_key, languages=languages, generators=generators)
        sums[name] = {key[0]: one for key, one in found.items()}
    members: dict[str, dict[str, set[str]]] = {}
    if user_key is None:
        members = {name: daily.members(name, since=since, languages=languages, generators=generators) for name in SHOWN}
    return Period(tuple((since + timedelta(days=index)).isoformat() for index in range(days)), sums, members)


def name_of(days: int) -> str:
    """Under which it is kept."""
    return f"period-{days}"


def due(daily: Daily, now: datetime, days: int) -> bool:
    """Whether the period is to be made again."""
    found = daily.figure(name_of(days))
    return found is None or found[1]["today"] != now.date().isoformat() or (now - found[0]).total_seconds() >= EVERY_S[days]


def make(daily: Daily, now: datetime, days: int) -> None:
    """Add up everybody's period and keep it. Raises `DatabaseError`."""
    daily.put_figure(name_of(days), now, _plain(live(daily, None, now.date(), days), now.date()))


def _plain(made: Period, today: date) -> dict[str, Any]:
    """Members by their number among the users, which is short."""
    users = sorted(made.users)
    place = {key: index for index, key in enumerate(users)}
    return {
        "today": today.isoformat(),
        "days": list(made.days),
        "users": users,
        "sums": {name: {key: asdict(one) for key, one in part.items()} for name, part in made.sums.items()},
        "members": {
            name: {key: sorted(place[user] for user in keys) for key, keys in part.items()}
            for name, part in made.members.items()
        },
    }


def _read(plain: Mapping[str, Any], made_at: datetime) -> Period:
    users = plain["users"]
    return Period(
        days=tuple(plain["days"]),
        sums={name: {key: DaySums(**one) for key, one in part.items()} for name, part in plain["sums"].items()},
        members={
            name: {key: [users[index] for index in keys] for key, keys in part.items()}
            for name, part in plain["members"].items()
        },
        made_at=made_at,
    )
