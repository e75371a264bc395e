"""What the gate may see of a request, taken down the moment the request is read."""

from __future__ import annotations

import math

from coderl_store.clock import utc
from coderl_store.home import hashed
from coderl_store.ids import IdSource
from coderl_store.records import Context, Trigger
from coderl_store.snapshot import Syntax

from .documents import Document, Place
from .positions import Encoding
from .session import Session, since_ms

PREFIX_CHARS = 6000
SUFFIX_CHARS = 2000
"""Windows of text a request carries: room for the 2,048-token context of the embedded model at 3 characters a token."""
ANCHOR_CHARS = 1000
"""The prefix window begins at a multiple of this in the document, so that consecutive requests share their beginning and the
generator reuses its KV cache (`coderl_generator.prompt.render` moves its own window in the same steps)."""


def snapshot(document: Document, line: int, units: int, encoding: Encoding) -> Place:
    """The view of a document that a request at a client's position gets. Raises DocumentError for a dropped document."""
    offset = document.offset(*document.position(line, units, encoding))
    start = max(0, math.ceil((offset - PREFIX_CHARS) / ANCHOR_CHARS) * ANCHOR_CHARS)
    return document.snapshot(line, units, encoding, offset - start, SUFFIX_CHARS)


def context_of(
    session: Session,
    ids: IdSource,
    uri: str,
    language: str,
    line: int,
    place: Place | None,
    syntax: Syntax | None,
    trigger: Trigger,
    now_s: float,
) -> Context:
    """The context of a request at `line` of a document; without `place` (a rule objected) it holds nothing of the text."""
    activity = None if place is None else session.edits.activity(now_s, uri, place.line, session.rhythm.spread_ms())
    return Context(
        id=ids.new(),
        at=utc(now_s),
        session_id=session.identity.session_id,
        language=language,
        document_key=hashed(session.identity.salt, uri),
        line=max(0, line) if place is None else place.line,
        character=0 if place is None else place.character,
        trigger=trigger,
        document_version=None if place is None else place.version,
        document_chars=None if place is None else place.document_chars,
        document_lines=None if place is None else place.document_lines,
        offset_chars=None if place is None else place.offset_chars,
        prefix=None if place is None else place.prefix,
        suffix=None if place is None else place.suffix,
        typing_interval_ms=session.rhythm.interval_ms(),
        since_edit_ms=since_ms(session.last_edit_s, now_s),
        since_decision_ms=since_ms(session.last_outcome_s, now_s),
        recent_accepts=tuple(session.recent_accepts),
        session_s=now_s - session.started_s,
        syntax=syntax,
        activity=activity,
        since_dismissal_ms=since_ms(session.last_dismissal_s, now_s),
        cooldown_ms=max(0.0, round((session.cooldown_until_s - now_s) * 1000, 3)),
        recent_rejections=None if place is None else tuple(session.not_kept),
    )
