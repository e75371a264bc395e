"""Tokens from the command line: made, listed, revoked, each with its audit row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from coderl_store.clock import Clock, SystemClock, utc
from coderl_store.home import StoreSettings, hashed, salt
from coderl_store.ids import IdSource
from coderl_store.members import Audit, Role, Token
from coderl_store.register import Register
from coderl_store.repository import Repository

from .rights import Minted, mint

CONSOLE = "console"
"""Who acts on the command line, in audit rows."""


class Tokens:
    """The tokens of one database. The salt of the data folder makes names into user keys: use that of the server."""

    def __init__(self, register: Register, home: Path, clock: Clock) -> None:
        self._register = register
        self._home = home
        self._clock = clock
        self._ids = IdSource(clock)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, database_url: str | None) -> Iterator[Tokens]:
        """Those of the database given, or of the usual one. Raises `StoreError`."""
        settings = StoreSettings.from_environment(database_url)
        repository = Repository(settings.database_url)
        try:
            yield cls(Register(repository.engine), settings.home, SystemClock())
        finally:
            repository.close()

    def create(self, role: Role, name: str, lifetime: timedelta | None = None) -> Minted:
        """Make a token. Its text is in the answer and nowhere else."""
        now = utc(self._clock.now_s())
        user_key = hashed(salt(self._home), name)
        minted = mint(role, name, user_key, now, None if lifetime is None else now + lifetime)
        self._register.add_token(minted.token, Audit(self._ids.new(), now, CONSOLE, "token.created", minted.token.id))
        return minted

    def all(self) -> Sequence[Token]:
        """The earliest first."""
        return self._register.tokens()

    def revoke(self, token_id: str) -> bool:
        """False where there is nothing to revoke."""
        now = utc(self._clock.now_s())
        return self._register.revoke(token_id, now, Audit(self._ids.new(), now, CONSOLE, "token.revoked", token_id))

    def state(self, token: Token) -> str:
        """`live`, `expired` or `revoked`."""
        if token.revoked_at is not None:
            return "revoked"
        return "live" if token.live(utc(self._clock.now_s())) else "expired"
