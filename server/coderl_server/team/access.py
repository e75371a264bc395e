"""From a request to its caller: tokens, the open server of one machine, and how often somebody may ask.

A server on loopback without any token ever made is open: everything on it is the programmer's own, and a token on the same disk
would protect it from nobody who can read the log itself. Pages in a browser cannot use it (`guards`), and neither can what
a proxy on this machine passes on: that needs tokens. The first token closes the open server within seconds.

What was read of a token is remembered for some seconds, so a revoked token may work that long. While the database is away, a
token that this worker has seen keeps working for a quarter of an hour, and an open server stays open as long, so that records
still reach the spool.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from coderl_store.clock import Clock, utc
from coderl_store.errors import DatabaseError
from coderl_store.members import Token

from .buckets import Buckets
from .database import Database
from .problems import Problem, unavailable
from .rights import Caller, Right, caller_of, id_in, matches
from .settings import TeamSettings

FRESH_S = 5.0
"""How long what was read of a token counts."""
STALE_S = 900.0
"""The same while the database is away."""
_REMEMBERED = 10_000
_REFUSED_BURST_S = 4.0
BEARER = HTTPBearer(
    auto_error=False, description="A token of `coderl token create`. A server on loopback without any token needs none."
)


class Access:
    """Of one worker process; used on its event loop."""

    def __init__(self, database: Database, clock: Clock, settings: TeamSettings, local: Caller) -> None:
        """`local` is who asks a loopback server without tokens (`rights.local_caller`)."""
        limits = settings.limits
        self._database = database
        self._clock = clock
        self._local = local
        self._may_be_open = settings.loopback
        self._open_read_s = -math.inf
        self._seen: OrderedDict[str, tuple[Token, float]] = OrderedDict()
        self._asked = Buckets(limits.requests_per_s, limits.burst)
        self._refused = Buckets(limits.refused_per_s, limits.refused_per_s * _REFUSED_BURST_S)

    async def caller(self, connection: HTTPConnection, text: str | None) -> Caller:
        """Who asks, by the text of a token. Raises `Problem` 401, 429 and 503.

        For pages too, whose token comes in a cookie: they pass its text.
        """
        now_s = self._clock.now_s()
        if text is None:
            if not await self._open(connection, now_s):
                raise _unknown("A token is needed: send `Authorization: Bearer TOKEN`.")
            found = self._local
        else:
            found = caller_of(await self._token(connection, text, now_s))
        wait_s = self._asked.take(found.id, now_s)
        if wait_s:
            raise _slower(wait_s)
        return found

    async def _open(self, connection: HTTPConnection, now_s: float) -> bool:
        """Whether no token is needed. A token once made closes the server for good, a revoked one too."""
        if "forwarded" in connection.headers or "x-forwarded-for" in connection.headers:
            return False
        if self._may_be_open and now_s - self._open_read_s > FRESH_S:
            try:
                self._may_be_open = not await asyncio.to_thread(lambda: self._database.register.any_token())
                self._open_read_s = now_s
            except DatabaseError as error:
                if now_s - self._open_read_s > STALE_S:
                    raise unavailable("Whether a token is needed cannot be looked up now.") from error
        return self._may_be_open

    async def _token(self, connection: HTTPConnection, text: str, now_s: float) -> Token:
        peer = connection.client.host if connection.client else ""
        token_id = id_in(text)
        if token_id is None or token_id not in self._seen:  # what is about to be looked up or refused counts
            wait_s = self._refused.wait_s(peer, now_s)
            if wait_s:
                raise _slower(wait_s)
        token = None if token_id is None else await self._look_up(token_id, now_s)
        if token is None or not matches(token, text) or not token.live(utc(now_s)):
            self._refused.take(peer, now_s)
            raise _unknown("The token is not known, was revoked or has expired: ask for a new one.")
        return token

    async def _look_up(self, token_id: str, now_s: float) -> Token | None:
        seen, read_s = self._seen.get(token_id, (None, -math.inf))
        if now_s - read_s <= FRESH_S:
            return seen
        try:
            token = await asyncio.to_thread(lambda: self._database.register.token(token_id))
        except DatabaseError as error:
            if now_s - read_s <= STALE_S:
                return seen
            raise unavailable("Tokens cannot be looked up now.") from error
        if token is None:
            self._seen.pop(token_id, None)
            return None
        self._seen[token_id] = (token, now_s)
        self._seen.move_to_end(token_id)
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return token


def needs(right: Right) -> Callable[..., Awaitable[Caller]]:
    """A route's dependency: its caller, who has the right. Otherwise `Problem` 401 or 403.

    def gate(caller: Annotated[Caller, Depends(needs(Right.MODELS))]) -> Response: ...
    """

    async def permitted(caller: Annotated[Caller, Depends(current)]) -> Caller:
        if right not in caller.rights:
            raise Problem(403, "forbidden", f"The token has not the right `{right.value}`: another role has it.")
        return caller

    return permitted


async def current(request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]) -> Caller:
    """Whoever asks, with whatever rights. `app.state.access` is set by `create_app`."""
    access: Access = request.app.state.access
    if credentials is None and "authorization" in request.headers:
        raise _unknown("The Authorization header has not the form `Bearer TOKEN`.")
    return await access.caller(request, None if credentials is None else credentials.credentials)


def _unknown(detail: str) -> Problem:
    return Problem(401, "unauthorised", detail, headers={"WWW-Authenticate": "Bearer"})


def _slower(wait_s: float) -> Problem:
    headers = {"Retry-After": str(math.ceil(wait_s))}
    return Problem(429, "too_often", "More requests than are taken from one caller: wait as Retry-After says.", headers=headers)
