"""Who may do what: pure, and the one place that says it."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from coderl_store.members import Role, Token

_TEXT = re.compile(r"coderl_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


class Right(StrEnum):
    """What a route may ask of its caller."""

    WRITE = "write"
    """Send records of one's own, ask for suggestions."""
    OWN = "own"
    """Read, export and erase one's own rows; agree to be seen in small groups."""
    MODELS = "models"
    """Take the active gate and the facts of the generator."""
    AGGREGATES = "aggregates"
    """See figures of groups that are large enough."""
    METRICS = "metrics"
    """See how the server itself does."""
    MANAGE = "manage"
    """Export and erase anybody's rows, read the audit, start jobs, promote and roll back. Leaves an audit row."""


_EVERYBODY = frozenset({Right.OWN, Right.MODELS})
RIGHTS: Mapping[Role, frozenset[Right]] = MappingProxyType(
    {
        Role.INGEST: _EVERYBODY | {Right.WRITE},
        Role.READ: _EVERYBODY | {Right.AGGREGATES, Right.METRICS},
        Role.ADMIN: _EVERYBODY | {Right.AGGREGATES, Right.METRICS, Right.MANAGE},
    }
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    id: str
    """Of the token; `local` on a server without tokens."""
    name: str
    user_key: str
    """Whose rows are the caller's own."""
    rights: frozenset[Right]


def local_caller(name: str, user_key: str) -> Caller:
    """Who asks a loopback server without tokens: the programmer of this machine, who may do everything."""
    return Caller("local", name, user_key, frozenset(Right))


def caller_of(token: Token) -> Caller:
    """Who asks with a token that was found to be right and live."""
    return Caller(token.id, token.name, token.user_key, RIGHTS[token.role])


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token: what is stored, and the text that is shown once."""

    token: Token
    text: str


def mint(role: Role, name: str, user_key: str, at: datetime, expires_at: datetime | None = None) -> Minted:
    """A new token. Its text holds its public id and 256 random bits."""
    token_id = secrets.token_hex(8)
    text = f"coderl_{token_id}_{secrets.token_urlsafe(32)}"
    return Minted(Token(token_id, at, role, name, user_key, _digest(text), expires_at), text)


def id_in(text: str) -> str | None:
    """The public id in a token's text; None where it has not the form of one."""
    found = _TEXT.fullmatch(text)
    return None if found is None else found[1]


def matches(token: Token, text: str) -> bool:
    """Whether the text is the token's; in constant time."""
    return hmac.compare_digest(token.sha256, _digest(text))


def group_shown(members: Collection[str], agreed: Collection[str], minimum: int) -> bool:
    """Whether figures of a group of user keys may be seen: it is large enough, or all in it agreed. An empty one has none."""
    keys = set(members)
    return bool(keys) and (len(keys) >= minimum or keys <= set(agreed))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
