"""The team's database, opened when it is first needed and reached from the event loop."""

from __future__ import annotations

import threading

from coderl_store.register import Register
from coderl_store.repository import Repository


class Database:
    """Opens the log's database on first use, so that a server comes up, and takes records into its spool, while it is away.

    Its methods may block: routes call them from functions that are not `async`, or through a thread. Each raises
    `DatabaseError` while the database cannot be used; the next call tries again.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._repository: Repository | None = None

    @property
    def repository(self) -> Repository:
        """The log, created and migrated where needed."""
        with self._lock:
            if self._repository is None:
                self._repository = Repository(self.url)
            return self._repository

    @property
    def register(self) -> Register:
        """Tokens, audit rows, agreements."""
        return Register(self.repository.engine)

    def close(self) -> None:
        """Give the connections back."""
        with self._lock:
            if self._repository is not None:
                self._repository.close()
                self._repository = None
