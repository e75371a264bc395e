"""Whose a session is, so that nobody adds to what is somebody else's.

Covered: sessions in the database, and those that this worker took rows for (the first who writes for a session has it).
What readers join, they join within one session (`Repository.requests`), so a row of one's own session that names somebody
else's decision changes nothing either.

Not covered: in the fraction of a second until a session is in the database, rows that somebody else sends for it to another
worker; and the same for as long as the database is away. Both need the session's id: 62 random bits,
shown to nobody else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Set

from coderl_store.errors import DatabaseError
from coderl_store.records import Record, Session

from .database import Database

_REMEMBERED = 50_000
logger = logging.getLogger(__name__)


class Ownership:
    """Of one worker; used on its event loop. Remembers the sessions used last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._owners: OrderedDict[str, str] = OrderedDict()

    async def foreign(self, session_ids: Set[str], user_key: str) -> Set[str]:
        """Those of the sessions that are somebody else's; the others are the user's from now on."""
        unknown = [one for one in session_ids if one not in self._owners]
        found: dict[str, str] = {}
        if unknown:
            try:
                found = await asyncio.to_thread(lambda: self._database.repository.owners(unknown))
            except DatabaseError as error:  # records are taken without the database too
                logger.info("Whose a session is cannot be looked up now: %s", error)
        foreign = set()
        for one in session_ids:
            owner = self._owners.setdefault(one, found.get(one, user_key))
            self._owners.move_to_end(one)
            if owner != user_key:
                foreign.add(one)
        while len(self._owners) > _REMEMBERED:
            self._owners.popitem(last=False)
        return foreign


def session_of(record: Record) -> str:
    """The id of the record's session; of a session its own."""
    return record.id if isinstance(record, Session) else record.session_id
