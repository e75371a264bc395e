"""Who may do what at a team's server: tokens, what was done with them, and who agreed to be seen. Facts beside the log.

A token names a programmer to the server. Their rows bear `user_key`, a keyed hash of the name, as everywhere in the log; the
name itself stands here only, because whoever manages tokens has to know whose they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a token is for. One person may hold several tokens."""

    INGEST = "ingest"
    """An editor: writes rows of its own programmer, reads, exports and erases those rows, takes gate and generator."""
    READ = "read"
    """A lead or a dashboard: aggregates over groups large enough, metrics, and the own rows of whom it names."""
    ADMIN = "admin"
    """Manages: what `read` may, and the export and erasure of any user; everything of it leaves an audit row."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token. The secret itself is nowhere: `sha256` is that of the whole text that was shown once.

    A plain hash is right, because the secret is 256 random bits: nobody can guess it, so nothing is won by a slow hash, which
    is for passwords, and every request would pay for it.
    """

    id: str
    """Public; part of the token's text, stands in lists and audit rows."""
    at: datetime
    role: Role
    name: str
    """Of the programmer or the service."""
    user_key: str
    """Whose rows are the token's own."""
    sha256: str
    """Hex digits."""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def live(self, now: datetime) -> bool:
        """Whether it opens anything at this moment."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Audit:
    """One action of somebody who manages, or of somebody on what is kept about them. Holds no code and no secret."""

    id: str
    at: datetime
    actor: str
    """The id of the token, `console` for the command line, `local` for a server without tokens."""
    action: str
    """Such as `token.created` or `records.erased`."""
    subject: str
    """A token's id or a user key."""
    rows: int | None = None
    """How many rows it touched, where that has a meaning."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A programmer agreed to be seen in groups below the minimum size. Taking it back deletes the row."""

    id: str
    """The user key."""
    at: datetime
