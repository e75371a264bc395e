"""A context in, a decision out, for clients that speak HTTP: the language server's own code on a place that came in one piece.

What a language server learns from the stream of edits (rhythm, what was accepted lately) the client may say; what it does not
say is not known, and the gate has its own value for that. Each caller has an `Intervener`, so the memory of generated texts
stays apart. Sessions and interveners that were used longest ago are forgotten; the log has their rows.

Not done here, unlike in a language server: outcomes are not inferred (the client sends them), nothing is generated ahead, other
documents are not read, and online adaptation has nothing to go by.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from importlib.metadata import version
from urllib.parse import quote

from coderl_gate.tendency import NOBODY
from coderl_store.clock import utc
from coderl_store.home import salt
from coderl_store.privacy import admit
from coderl_store.records import Origin, Privacy, Reason, Record, Trigger
from coderl_store.records import Session as SessionRecord
from coderl_store.snapshot import Syntax

from ..asked import Answer, Asked
from ..capture import context_of, snapshot
from ..documents import Document, Place
from ..intervene import Intervener
from ..positions import Encoding
from ..rows import rows_of
from ..rules import Situation, objection
from ..session import RECENT, Identity, Session
from ..settings import Settings, resolve
from .decision_wire import DecisionRequest
from .generation import Generation, gate_of
from .parts import TeamParts
from .rights import Caller

MOST_SESSIONS = 5000
MOST_CALLERS = 500
_LEVELS = (Privacy.OFF, Privacy.METRICS, Privacy.CODE)


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that was read and not decided yet."""

    asked: Asked
    intervener: Intervener
    session: Session
    begun: SessionRecord
    """The row of its session."""
    problems: tuple[str, ...]
    """Settings that could not be used."""

    async def decided(self) -> Answer:
        """Decide it. Cancelling this stops the generation."""
        answer = await self.intervener.answer(self.asked)
        if answer.explored:
            self.session.explored(self.asked.at_s)
        return answer

    def superseded(self) -> Answer:
        """The answer where the client left before there was one."""
        return self.intervener.superseded(self.asked)

    def rows(self, answer: Answer) -> tuple[Record, ...]:
        """What the log gets, at the privacy level of the request. The session's row comes with each: ids make it one."""
        made = rows_of(self.asked, answer)
        rows = (self.begun, *made) if made else ()
        return tuple(kept for row in rows if (kept := admit(row, self.asked.settings.privacy)) is not None)


class Deciders:
    """Of one worker; used on its event loop."""

    def __init__(self, parts: TeamParts, generation: Generation) -> None:
        self._parts = parts
        self._generation = generation
        self._made_at = generation.changes
        self._rng = random.Random(secrets.randbits(64))
        self._interveners: OrderedDict[str, Intervener] = OrderedDict()
        self._sessions: OrderedDict[tuple[str, str], tuple[Session, SessionRecord]] = OrderedDict()
        # Nothing is written ahead for a client that may not come again; it has waited for its programmer's next key itself.
        self._defaults = Settings(privacy=parts.privacy, max_debounce_ms=0.0, work_ahead=False)

    async def read(self, request: DecisionRequest, caller: Caller) -> Pending:
        """Everything the decision depends on."""
        settings, problems = self._settings(request)
        uri = request.path if "://" in request.path else f"file:///{quote(request.path.lstrip('/'))}"
        document = Document(uri, request.language, None, request.prefix + request.suffix, settings.max_document_chars)
        place, syntax = await asyncio.to_thread(_place_of, document, request.prefix)
        intervener, (session, begun) = self._intervener(caller), self._session(request, caller)
        now_s = self._parts.clock.now_s()
        _told(session, request, settings, now_s)
        reason = self._objection(document, request.trigger, session, now_s)
        if reason is not None:
            place, syntax = None, None
        line = request.prefix.count("\n")
        context = context_of(session, self._parts.ids, uri, request.language, line, place, syntax, request.trigger, now_s)
        asked = Asked(
            uri=uri,
            encoding=Encoding.UTF32,
            at_s=now_s,
            context=replace(context, activity=None, recent_rejections=None, typing_interval_ms=request.typing_interval_ms),
            place=place,
            settings=settings,
            costs=session.pace.moved(intervener.gate.costs(caller.user_key), now_s),
            coin_before=self._rng.random(),
            coin_after=self._rng.random(),
            may_explore=session.may_explore(now_s),
            objection=reason,
            rejected_before=lambda text: False,
        )
        intervener.expect(asked)
        return Pending(asked, intervener, session, begun, tuple(problems))

    def _settings(self, request: DecisionRequest) -> tuple[Settings, list[str]]:
        settings, problems = resolve(request.settings, self._defaults)
        if _LEVELS.index(settings.privacy) > _LEVELS.index(self._parts.privacy):
            problems.append(f"Setting coderl.privacy is limited to {self._parts.privacy.value} by the server.")
            settings = replace(settings, privacy=self._parts.privacy)
        return replace(settings, work_ahead=False), problems

    def _objection(self, document: Document, trigger: Trigger, session: Session, now_s: float) -> Reason | None:
        situation = Situation(
            document.uri, document.language, document.chars, trigger, now_s, cooldown_until_s=session.cooldown_until_s
        )
        found = objection(situation, session.settings)
        return Reason.TOO_LARGE if found is None and document.dropped else found

    def _intervener(self, caller: Caller) -> Intervener:
        """The caller's, made anew where model or gate were changed since."""
        generation = self._generation
        if self._made_at != generation.changes:
            self._interveners.clear()
            self._made_at = generation.changes
        made = self._interveners.get(caller.id)
        if made is None:
            generator_id, artifact = generation.generator_id, generation.artifact
            gate = gate_of(artifact, generator_id, artifact.tendencies.get(caller.user_key, NOBODY))
            backend = generation.of(caller.id)
            made = Intervener(gate, backend, self._parts.clock, self._parts.ids, generation.template)
            self._interveners[caller.id] = made
            if len(self._interveners) > MOST_CALLERS:
                self._interveners.popitem(last=False)
        self._interveners.move_to_end(caller.id)
        return made

    def _session(self, request: DecisionRequest, caller: Caller) -> tuple[Session, SessionRecord]:
        named = self._parts.ids.new() if request.session_id is None else str(request.session_id)
        known = self._sessions.get((caller.id, named))
        if known is None:
            known = self._sessions[caller.id, named] = self._begun(named, request, caller)
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end((caller.id, named))
        return known

    def _begun(self, session_id: str, request: DecisionRequest, caller: Caller) -> tuple[Session, SessionRecord]:
        now_s = self._parts.clock.now_s()
        record = SessionRecord(
            id=session_id,
            at=utc(now_s),
            origin=Origin.EDITOR,
            user_key=caller.user_key,
            client_name=request.client_name,
            client_version=request.client_version,
            server_version=version("coderl"),
            generator_id=self._generation.generator_id,
            gate_id=self._generation.artifact.id,
        )
        identity = Identity(session_id, caller.user_key, salt(self._parts.home))
        return Session(identity, self._defaults, now_s), record


def _place_of(document: Document, prefix: str) -> tuple[Place | None, Syntax | None]:
    """In a thread: a large document takes its time."""
    if document.dropped:
        return None, None
    before = Document(document.uri, document.language, None, prefix)
    line = before.line_count - 1
    character = len(before.line(line))
    return snapshot(document, line, character, Encoding.UTF32), document.syntax(line, character)


def _told(session: Session, request: DecisionRequest, settings: Settings, now_s: float) -> None:
    """The session as the client knows it."""
    edit, outcome, dismissal = (
        None if since_ms is None else now_s - since_ms / 1000
        for since_ms in (request.since_edit_ms, request.since_outcome_ms, request.since_dismissal_ms)
    )
    session.settings = settings
    session.last_edit_s, session.last_outcome_s, session.last_dismissal_s = edit, outcome, dismissal
    session.cooldown_until_s = 0.0 if dismissal is None else dismissal + settings.cooldown_s
    session.recent_accepts = deque(request.recent_accepts, maxlen=RECENT)
