"""The register of a team's server in the database: tokens, audit rows, agreements.

Each call is one short transaction. Raises `DatabaseError` where the database cannot be reached or written now.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Engine, Table, delete, func, insert, select, update

from .codec import from_plain
from .dialect import PATIENT_TIMEOUT_S, insert_new, read_only, writing
from .members import Agreement, Audit, Token
from .tables import AGREEMENTS, AUDITS, SESSIONS, TOKENS, to_row

T = TypeVar("T", Token, Audit, Agreement)


class Register:
    """Safe to use from several threads. The engine is that of a migrated database (`Repository.engine`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def token(self, token_id: str) -> Token | None:
        """The token with this id, whatever its state; None where there is none."""
        found = self._read(Token, TOKENS, TOKENS.c.id == token_id)
        return found[0] if found else None

    def tokens(self) -> list[Token]:
        """All tokens, the earliest first, those that open nothing any more too."""
        return self._read(Token, TOKENS)

    def any_token(self) -> bool:
        """Whether a token was ever made: then the server is not an open one."""
        with read_only(self._engine) as connection:
            return connection.execute(select(TOKENS.c.id).limit(1)).first() is not None

    def add_token(self, token: Token, audit: Audit) -> None:
        """Commit a new token with its audit row."""
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            connection.execute(insert(TOKENS).values(**_token_row(token)))
            connection.execute(insert(AUDITS).values(**to_row(audit)))

    def revoke(self, token_id: str, at: datetime, audit: Audit) -> bool:
        """Revoke a token with its audit row; False where there is none that was not revoked already."""
        mine = (TOKENS.c.id == token_id) & TOKENS.c.revoked_at.is_(None)
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            changed = connection.execute(update(TOKENS).where(mine).values(revoked_at=at)).rowcount == 1
            if changed:
                connection.execute(insert(AUDITS).values(**to_row(audit)))
        return changed

    def add_audit(self, audit: Audit) -> None:
        """Commit one audit row."""
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            connection.execute(insert(AUDITS).values(**to_row(audit)))

    def audits(self, limit: int = 100) -> list[Audit]:
        """The last audit rows, the latest first."""
        query = select(AUDITS).order_by(AUDITS.c.at.desc(), AUDITS.c.id.desc()).limit(limit)
        with read_only(self._engine) as connection:
            return [from_plain(Audit, dict(row)) for row in connection.execute(query).mappings()]

    def agree(self, user_key: str, at: datetime) -> None:
        """The programmer may be seen in small groups from now on; once is enough."""
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            insert_new(connection, AGREEMENTS, [{"id": user_key, "at": at}])

    def disagree(self, user_key: str) -> None:
        """The agreement is taken back."""
        with writing(self._engine, PATIENT_TIMEOUT_S) as connection:
            connection.execute(delete(AGREEMENTS).where(AGREEMENTS.c.id == user_key))

    def agreed(self) -> frozenset[str]:
        """The keys of all who agreed."""
        return frozenset(agreement.id for agreement in self._read(Agreement, AGREEMENTS))

    def users(self) -> dict[str, int]:
        """User key → how many sessions the log holds of them."""
        query = select(SESSIONS.c.user_key, func.count()).group_by(SESSIONS.c.user_key).order_by(SESSIONS.c.user_key)
        with read_only(self._engine) as connection:
            return {user_key: int(count) for user_key, count in connection.execute(query)}

    def _read(self, kind: type[T], table: Table, *conditions: Any) -> list[T]:
        query = select(table).where(*conditions).order_by(table.c.at, table.c.id)
        with read_only(self._engine) as connection:
            return [from_plain(kind, dict(row)) for row in connection.execute(query).mappings()]


def _token_row(token: Token) -> dict[str, Any]:
    """`to_row` converts `at` alone: the other times go to the database as times too."""
    return {**to_row(token), "expires_at": token.expires_at, "revoked_at": token.revoked_at}
