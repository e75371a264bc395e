"""*What if?* The last days' requests under another eagerness and entropy limit, while the slider moves."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta

from coderl_gate.replay_report import ReplayReport
from coderl_gate.whatif import Dial
from coderl_store.clock import utc
from coderl_store.daily import Daily
from coderl_store.decided import read_decided

from ..parts import TeamParts
from . import charts, numbers
from .charts import Range
from .groups import shown_groups
from .visit import Scope

MOST_REQUESTS = 4_000
"""About so many are re-decided, drawn from all days alike: enough for the answer, few enough for a slider."""
FIRST_DAYS = 30
"""What the page begins with."""
KEPT_S = 300.0
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Basis:
    """The requests a slider works on."""

    dial: Dial | None
    requests: int
    """Read."""
    of: int
    """… of so many in these days."""
    users: frozenset[str]
    eagerness: float
    """In force at the last request."""
    h_bits: float


class Dials:
    """Of one worker: what was read for the sliders, kept for some minutes. Safe to use from several threads."""

    def __init__(self, parts: TeamParts) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str | None, int], tuple[float, Basis]] = OrderedDict()

    def basis(self, scope: Scope, days: int) -> Basis:
        """Raises `DatabaseError`."""
        key, now_s = (scope.user_key, days), self._parts.clock.now_s()
        with self._lock:
            found = self._known.get(key)
        if found is not None and now_s - found[0] <= KEPT_S:
            return found[1]
        made = self._made(scope, days)
        self._keep(key, now_s, made)
        return made

    def warm(self) -> None:
        """Read what the page begins with, unless that was done lately. Raises `DatabaseError`."""
        key, now_s = (None, FIRST_DAYS), self._parts.clock.now_s()
        with self._lock:
            found = self._known.get(key)
        if found is None or now_s - found[0] > KEPT_S / 2:
            self._keep(key, now_s, self._made(Scope(None, 1), FIRST_DAYS))

    def forget(self) -> None:
        """Read anew: rows were erased."""
        with self._lock:
            self._known.clear()

    def too_few(self, scope: Scope, basis: Basis) -> bool:
        """Whether the group is too small to be shown. Raises `DatabaseError`."""
        if not scope.everybody or not basis.users:
            return False
        return not shown_groups({"": basis.users}, self._parts.database.register.agreed(), scope.minimum)

    def _keep(self, key: tuple[str | None, int], now_s: float, made: Basis) -> None:
        with self._lock:
            self._known[key] = (now_s, made)
            self._known.move_to_end(key)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def _made(self, scope: Scope, days: int) -> Basis:
        since = utc(self._parts.clock.now_s()) - timedelta(days=days)
        engine = self._parts.database.repository.engine
        daily = Daily(engine)
        if scope.everybody:
            whole = daily.decisions(since.date())
        else:
            whole = sum(one.requests for one in daily.sums((), since=since.date(), user_key=scope.user_key).values())
        share = min(1.0, MOST_REQUESTS / whole) if whole else 1.0
        rows = read_decided(engine, since=since, user_key=scope.user_key, newest=round(1.2 * MOST_REQUESTS), share=share)
        limits = [row.h_bits for row in rows if row.h_bits is not None]
        return Basis(
            dial=Dial.of(rows),
            requests=len(rows),
            of=whole,
            users=frozenset(row.user_key for row in rows),
            eagerness=rows[0].eagerness if rows else 0.0,
            h_bits=limits[0] if limits else 0.65,
        )


def picture(report: ReplayReport) -> str:
    """Seconds per request, as it was and under the dial."""
    rows = [Range("as it was", report.logged)]
    for name, one, style in (
        ("with these settings", report.seconds, "c2"),
        ("doubly robust", report.estimators["dr"], "c3"),
        ("difference", report.difference, "c1"),
    ):
        rows.append(Range(name, one.estimate, one.low, one.high, style))
    return charts.ranges(rows, "Seconds saved per request: as it was, and with these settings", numbers.seconds)
