"""Looking for drift in the log: for the running server, for `coderl doctor` and for a metrics endpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from coderl_gate.drift import WINDOW_DAYS, Drift, DriftMonitor, judgement
from coderl_store.records import Origin
from coderl_store.repository import EDITOR_ONLY, Repository

LOOK_BACK = timedelta(days=2 * WINDOW_DAYS)
"""How much of the log is read: the window, and as much before it for comparison."""


def drifts_of(
    repository: Repository,
    now: datetime,
    *,
    origins: Collection[Origin] = EDITOR_ONLY,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[Drift, ...]:
    """The windows of every generator and gate of the last weeks, as they stand. Raises the store's errors.

    Reads page by page and looks at `stopped` between requests: a server that leaves need not wait for a long log.
    """
    monitor = DriftMonitor()
    for request in repository.requests(origins=origins, since=now - LOOK_BACK):
        if stopped():
            return ()
        one = judgement(request.decision, request.outcome, request.session.user_key)
        if one is not None:
            monitor.add(one)
    return monitor.drifts()


def alarms(database_url: str, now: datetime, stopped: Callable[[], bool]) -> list[str]:
    """One sentence per window that alarms, for the server's regular look; opens and closes the database."""
    repository = Repository(database_url)
    try:
        return [drift.sentence() for drift in drifts_of(repository, now, stopped=stopped) if drift.alarm]
    finally:
        repository.close()
