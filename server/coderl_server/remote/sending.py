"""Log rows to a team server: a `RecordStore` for `coderl_store.log.Log`, so that the spool forwards instead of committing.

So the promises are those of the log: what was acknowledged here is on this machine's disk; it stays there until the team server
has answered that it is on its disk; while that cannot be reached it is tried again and again, by the next process too; and ids
make it exactly once, however often it is sent. The spool of a team server is a folder of its own: rows that were meant for this
machine alone are never forwarded.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import Any

import httpx

from coderl_store.codec import encode
from coderl_store.errors import DatabaseError, RecordError
from coderl_store.records import Record

from ..errors import InputError
from .address import TeamServer

MEDIA_TYPE = "application/x-ndjson"
TIMEOUT_S = 30.0
CONNECT_S = 3.0
_WAITS = "Records wait on this machine until it takes them."


class SendingStore:
    """Stores records by sending them. Used by the one thread of the log that writes."""

    def __init__(self, server: TeamServer) -> None:
        self._server = server
        self._client = httpx.Client(timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S))

    def append(self, records: Iterable[Record]) -> int:
        """Return how many are safe there. Raises `DatabaseError` where it is to be tried again, `RecordError` where a record of
        these is refused for good (`Log` then finds out which)."""
        lines = [encode(record) for record in records]
        body = gzip.compress("".join(f"{line}\n" for line in lines).encode(), 6)
        try:
            headers = {"Content-Type": MEDIA_TYPE, "Content-Encoding": "gzip", **self._server.headers()}
            answer = self._client.post(f"{self._server.url}/v1/records", content=body, headers=headers)
        except InputError as error:
            raise DatabaseError(f"{error} {_WAITS}") from error
        except httpx.HTTPError as error:
            raise DatabaseError(f"The team's server cannot be reached ({type(error).__name__}). {_WAITS}") from error
        if answer.status_code == 413:
            raise RecordError("The team's server refuses a record as too large.")
        if answer.status_code in (401, 403):
            raise DatabaseError(f"The team's server refuses the token (HTTP {answer.status_code}). {_WAITS}")
        if answer.status_code != 200:
            raise DatabaseError(f"The team's server takes no records (HTTP {answer.status_code}). {_WAITS}")
        return _accepted(answer, len(lines))

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


def _accepted(answer: httpx.Response, sent: int) -> int:
    try:
        found: dict[str, Any] = answer.json()
        accepted, rejected = int(found["accepted"]), list(found["rejected"])
    except (ValueError, KeyError, TypeError) as error:
        raise DatabaseError(f"What answers at --server is no team server. {_WAITS}") from error
    if rejected:
        raise RecordError(f"The team's server refuses {len(rejected)} of {sent} records.")
    if accepted != sent:
        raise DatabaseError(f"The team's server took {accepted} of {sent} records. {_WAITS}")
    return accepted
