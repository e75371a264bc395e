"""What the rooms of the team server share. Built by `workers` (or a test) and passed in; a room takes what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coderl_store.clock import Clock
from coderl_store.ids import IdSource
from coderl_store.records import Privacy
from coderl_store.sink import RecordSink

from .access import Access
from .afterwards import Afterwards, Drain
from .database import Database
from .generation import Generation
from .metrics import Metrics
from .settings import TeamSettings


@dataclass(frozen=True, slots=True)
class TeamParts:
    """One worker's objects. A room is a function `router(parts) -> APIRouter`, listed in `app.create_app`."""

    settings: TeamSettings
    home: Path
    """The data folder: spool, gates, models."""
    privacy: Privacy
    """The most that is recorded here."""
    log: RecordSink
    """Where records go; started and closed with the application."""
    database: Database
    access: Access
    metrics: Metrics
    clock: Clock
    ids: IdSource
    drain: Drain
    afterwards: Afterwards
    generation: Generation | None = None
    """The model that is served here, if any; loaded and closed with the application."""

    def later(self, delay_s: float, work: Callable[[], object]) -> None:
        """Do some work that may block after a delay, or when the server ends."""
        self.afterwards.later(delay_s, work)
