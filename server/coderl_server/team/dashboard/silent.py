"""*Why was it silent?* Single decisions, searched; a visitor's own only, because a decision is about one person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from coderl_store.clock import utc
from coderl_store.daily import Daily
from coderl_store.decided import Decided, read_decided
from coderl_store.overviews import Texts, texts_of
from coderl_store.records import Action, Privacy, Reason

from ..parts import TeamParts
from ..problems import Problem
from .visit import Visitor

PER_PAGE = 50


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched for; empty means any."""

    days: int = 7
    action: str = Action.WITHHOLD.value
    reason: str = ""
    language: str = ""
    page: int = 0


@dataclass(frozen=True, slots=True)
class Silent:
    """What the page shows."""

    rows: Sequence[Decided]
    more: bool
    reasons: Sequence[tuple[str, str, int]]
    """Reason of silence, its sentence, how often in these days; the most frequent first."""
    total: int


def user_of(visitor: Visitor) -> str | None:
    """Whose decisions a visitor may read: their own; on an open server, whatever is there."""
    return None if visitor.open else visitor.caller.user_key


def search(parts: TeamParts, visitor: Visitor, asked: Asked) -> Silent:
    """Raises `DatabaseError`."""
    engine, now = parts.database.repository.engine, utc(parts.clock.now_s())
    since = now - timedelta(days=asked.days)
    rows = read_decided(
        engine,
        since=since,
        user_key=user_of(visitor),
        action=asked.action or None,
        reasons=[asked.reason] if asked.reason else (),
        languages=[asked.language] if asked.language else (),
        newest=PER_PAGE + 1,
        skip=asked.page * PER_PAGE,
    )
    sums = Daily(engine).sums((), since=since.date(), user_key=user_of(visitor), reasons=True).get(())
    counts = {} if sums is None else sums.reasons
    found = [(name, sentence_of(name), count) for name, count in sorted(counts.items(), key=lambda item: -item[1])]
    return Silent(rows[:PER_PAGE], len(rows) > PER_PAGE, found, sum(counts.values()))


def one(parts: TeamParts, visitor: Visitor, decision_id: str) -> tuple[Decided, Texts | None]:
    """A decision, with its text where this server and the row's own level say `code`. Raises `Problem` 404, `DatabaseError`."""
    engine = parts.database.repository.engine
    rows = read_decided(engine, decision_id=decision_id, user_key=user_of(visitor))
    if not rows:
        raise Problem(404, "not_found", "There is no such decision among yours.")
    return rows[0], texts_of(engine, decision_id) if parts.privacy is Privacy.CODE else None


def sentence_of(reason: str) -> str:
    """The reason in words; as it is where a later version wrote it."""
    return Reason(reason).sentence if reason in tuple(Reason) else reason
