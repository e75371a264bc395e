"""Keeps what the pages read up to date: sums of days that changed, and the figures that take long to make.

Every worker looks every `LOOK_S` seconds, at the last days mostly and at all days now and then, unless another one has just
done so. What two do at once is done twice and not wrong: a day's sums are replaced whole (`coderl_store.daily`).
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from datetime import UTC, date, datetime, timedelta

from coderl_gate.daily import sums_of
from coderl_gate.honesty import honesty
from coderl_store.clock import utc
from coderl_store.daily import Daily, bounds
from coderl_store.decided import by_the_hour, read_decided
from coderl_store.errors import StoreError

from ..parts import TeamParts
from . import periods
from .dial import Dials

FIRST_S = (2.0, 4.0)
"""The first look comes so long after the start."""
LOOK_S = 20.0
LONGEST_S = 600.0
SHARE = 0.05
"""Of its time a worker looks and sums: where a day is long, looks come further apart, up to `LONGEST_S`."""
RECENT = timedelta(days=8)
"""Days that are looked at each time; older ones change by late records, erasure and retention only."""
ALL_EVERY = 30
"""Looks after which all days are looked at."""
SUMMED = "summed"
"""When a worker summed last: the others wait."""
HONEST = "honesty"
HONEST_DAYS, HONEST_ROWS = 28, 10_000
"""What the page about honesty is made of: the latest judged suggestions."""
HONEST_EVERY_S = 300.0
logger = logging.getLogger(__name__)


class Keeper:
    """Of one worker."""

    def __init__(self, parts: TeamParts) -> None:
        self._parts = parts
        self._stop = threading.Event()
        self._looking = threading.Lock()
        self._looks = 0
        self.dials = Dials(parts)
        self.left = 0
        """Days that wait to be summed."""
        self.failed = False

    async def run(self) -> None:
        """Look until cancelled."""
        await asyncio.sleep(random.uniform(*FIRST_S))  # workers that start together do not begin with the same day
        while True:
            begun_s = time.monotonic()
            await asyncio.to_thread(self._look)
            spent_s = time.monotonic() - begun_s
            await asyncio.sleep(min(LONGEST_S, max(LOOK_S, spent_s / SHARE)))

    def close(self) -> None:
        """Begin no other day, and wait for the one that is being summed."""
        self._stop.set()
        with self._looking:
            pass

    def refresh(self, *, everything: bool = True) -> int:
        """Bring sums and figures up to date; how many days were summed. Raises `StoreError`."""
        engine = self._parts.database.repository.engine
        daily, today = Daily(engine), utc(self._parts.clock.now_s()).date()
        stale = daily.stale(None if everything else today - RECENT)
        recent, older = stale[: RECENT.days], stale[RECENT.days :]
        random.shuffle(older)  # so that workers share the sums of an old log
        done = 0
        for index, state in enumerate([*recent, *older]):
            self.left = len(stale) - index
            if self._stop.is_set():
                return done
            if daily.summed(state):
                continue
            day = date.fromisoformat(state.day)
            daily.put(state, sums_of(by_the_hour(engine, *bounds(day))))
            done += 1
        self.left = 0
        if done:
            daily.put_figure(SUMMED, utc(self._parts.clock.now_s()), {})
        if done or daily.decisions():
            self._make_figures(daily)
        return done

    def _make_figures(self, daily: Daily) -> None:
        now = utc(self._parts.clock.now_s())
        for days in periods.EVERY_S:
            if not self._stop.is_set() and periods.due(daily, now, days):
                periods.make(daily, now, days)
        if not self._stop.is_set():
            self.dials.warm()
        known = daily.figure(HONEST)
        if not self._stop.is_set() and (known is None or (now - known[0]).total_seconds() >= HONEST_EVERY_S):
            daily.put_figure(HONEST, now, honest_figure(self._parts, None, now))

    def _look(self) -> None:
        everything = self._looks % ALL_EVERY == 0
        try:
            with self._looking:
                if self._stop.is_set():
                    return
                if everything or not self._done_by_another():
                    self.refresh(everything=everything)
        except StoreError as error:
            logger.log(logging.DEBUG if self.failed else logging.WARNING, "The pages' sums are not up to date: %s", error)
            self.failed = True
            return
        self._looks += 1
        self.failed = False

    def _done_by_another(self) -> bool:
        found = Daily(self._parts.database.repository.engine).figure(SUMMED)
        return found is not None and (utc(self._parts.clock.now_s()) - found[0]).total_seconds() < LOOK_S / 2


def honest_figure(parts: TeamParts, user_key: str | None, now: datetime) -> dict[str, object]:
    """What the page about honesty shows, of everybody or of one programmer, as plain data. Raises `StoreError`."""
    database = parts.database
    rows = read_decided(
        database.repository.engine,
        since=now.astimezone(UTC) - timedelta(days=HONEST_DAYS),
        user_key=user_key,
        judged=True,
        newest=HONEST_ROWS,
    )
    found = honesty(rows)
    agreed = database.register.agreed() if user_key is None else frozenset()
    return {**found.to_json(), "users": len(found.users), "agreed": bool(found.users) and set(found.users) <= agreed}
