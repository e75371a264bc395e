"""From the session to the log: submits records, counts what waits, and tells the programmer once when logging fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import MappingProxyType

from coderl_store.clock import Clock, utc
from coderl_store.errors import StoreError
from coderl_store.ids import IdSource
from coderl_store.privacy import admit
from coderl_store.records import Incident, Privacy, Record, Severity
from coderl_store.sink import LogHealth, RecordSink

logger = logging.getLogger(__name__)

MOST_INCIDENTS = 1000
"""Different incidents that one session records through `incident_once`."""
_LOG_LEVELS = MappingProxyType({Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ERROR: logging.ERROR})


class Journal:
    """The one place of the server that writes records. Never blocks, never raises.

    Turning records into lines takes a millisecond of this thread. So within an event loop what is written waits until the
    loop has done what it has at hand: the answer to the editor goes first.
    """

    def __init__(self, sink: RecordSink, clock: Clock, ids: IdSource, session_id: str, privacy: Privacy) -> None:
        self._sink = sink
        self._clock = clock
        self._ids = ids
        self._session_id = session_id
        self._told: set[str] = set()
        self._untold: list[str] = []
        self._on_message: Callable[[str], None] | None = None
        self._incidents: set[tuple[str, str]] = set()
        self._waiting: list[list[Record]] = []
        self._handing_over = threading.Lock()
        self.privacy = privacy
        """The level in force; rows are made at this level and no other."""
        self.on_recorded: Callable[[list[str]], None] | None = None
        """Told the ids of records that are safely in the spool; called on the spool's thread."""

    def write(self, *records: Record) -> None:
        """Hand records to the log."""
        admitted = [kept for record in records if (kept := admit(record, self.privacy)) is not None]
        if not admitted:
            return
        with self._handing_over:
            self._waiting.append(admitted)
        try:
            # A timer, because what is called soon would still run before the answer of the task that runs now.
            asyncio.get_running_loop().call_later(0, self.settle)
        except RuntimeError:
            self.settle()

    def settle(self) -> None:
        """Hand over what waits, in the order in which it was written. From any thread."""
        with self._handing_over:
            waiting, self._waiting = self._waiting, []
            for records in waiting:
                self._submit(records)

    def _submit(self, records: list[Record]) -> None:
        ids = [record.id for record in records]
        self._sink.submit(*records).add_done_callback(lambda done: self._written(ids, done))

    def listen(self, on_message: Callable[[str], None]) -> None:
        """From now on sentences for the programmer go there; those that came before are said now."""
        self._on_message = on_message
        untold, self._untold = self._untold, []
        for message in untold:
            on_message(message)

    def incident_once(self, severity: Severity, code: str, message: str) -> None:
        """The same, for what may happen with every key: only the first of each code and message is recorded."""
        if (code, message) not in self._incidents and len(self._incidents) < MOST_INCIDENTS:
            self._incidents.add((code, message))
            self.incident(severity, code, message)

    def incident(self, severity: Severity, code: str, message: str) -> None:
        """Record that something failed. The first of each `code` is also told to the programmer."""
        logger.log(_LOG_LEVELS[severity], "%s: %s", code, message)
        self.write(Incident(self._ids.new(), utc(self._clock.now_s()), self._session_id, severity, code, message))
        self.tell_once(code, message)

    def tell_once(self, code: str, message: str) -> None:
        """Say a sentence to the programmer, once per code and session."""
        if code not in self._told:
            self._told.add(code)
            if self._on_message is None:
                self._untold.append(message)
            else:
                self._on_message(message)

    def health(self) -> LogHealth:
        return self._sink.health()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is in the database (call it off the event loop)."""
        self.settle()
        return self._sink.flush(timeout_s)

    def _written(self, ids: list[str], done: Future[None]) -> None:
        error = done.exception()
        if error is None:
            if self.on_recorded is not None:
                self.on_recorded(ids)
        elif isinstance(error, StoreError):
            self.tell_once("log", f"The log cannot be written: {error} Suggestions go on.")
        else:
            logger.error("A record could not be logged.", exc_info=error)
