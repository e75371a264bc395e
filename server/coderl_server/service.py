"""The language service: what happens on each event of the editor, free of any protocol library.

It joins the session, the documents, the intervener, the outcome tracker and the journal. One thread (the event loop) calls it.
"""

from __future__ import annotations

import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from coderl_gate.policy import Rule
from coderl_generator.backend import Backend
from coderl_generator.errors import GeneratorError
from coderl_store.clock import Clock, utc
from coderl_store.codec import encode
from coderl_store.ids import IdSource
from coderl_store.records import Decision, OutcomeKind, Privacy, Reason, Severity, Trigger
from coderl_store.records import Session as SessionRecord
from coderl_store.sink import RecordSink

from .asked import Answer, Asked, Shown, outdated
from .capture import context_of, snapshot
from .debounce import idle_s
from .documents import Change, Document, DocumentStore, Place
from .feedback import Feedback
from .intervene import SHORT_CHARS, Intervener
from .journal import Journal
from .positions import Encoding
from .ranges import inline_edit
from .rows import rows_of
from .rules import Situation, objection
from .session import Identity, Session, since_ms
from .settings import Settings, resolve
from .surroundings import Surroundings
from .wording import explanation, failure_sentence, health_words

logger = logging.getLogger(__name__)

REMEMBERED_DECISIONS = 10_000
_LEVELS = (Privacy.OFF, Privacy.METRICS, Privacy.CODE)
FAILURES: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.NO_MODEL: "no_model",
        Reason.GENERATOR_FAILED: "generator",
        Reason.TIMED_OUT: "generator_timeout",
        Reason.GATE_FAILED: "gate",
        Reason.INTERNAL_ERROR: "internal_error",
    }
)


class LanguageService:
    """See the module docstring. Times come from `clock`, randomness from `rng`; both may be deterministic."""

    def __init__(
        self,
        *,
        identity: Identity,
        intervener: Intervener,
        log: RecordSink,
        clock: Clock,
        ids: IdSource,
        rng: random.Random,
        settings: Settings,
        privacy_ceiling: Privacy = Privacy.CODE,
        backend: Backend | None = None,
        warnings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._identity = identity
        self._intervener = intervener
        self._clock = clock
        self._ids = ids
        self._rng = rng
        self._privacy_ceiling = privacy_ceiling
        self._client = ("", "")
        self._begun = False
        self._backend = backend
        self._warnings = {code: sentence for code, sentence in warnings.items() if sentence}
        self._session = Session(identity, settings, clock.now_s())
        self._documents = DocumentStore(settings.max_document_chars)
        self._journal = Journal(log, clock, ids, identity.session_id, settings.privacy)
        self._surroundings = Surroundings(self._documents, self._session.touched, clock.now_s)
        self._feedback = Feedback(
            self._session, self._journal, self._documents, clock, ids, lambda p2, kept: intervener.gate.judged(p2, kept)
        )
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._decisions: deque[Decision] = deque(maxlen=REMEMBERED_DECISIONS)
        self._closed = False
        # The name must differ between servers of one editor: VS Code makes every command of a server a global one.
        self.command = f"coderl.accepted.{rng.getrandbits(48):012x}"

    # --- life cycle

    def begin(self, client_name: str, client_version: str) -> None:
        """The client said who it is: the session starts."""
        self._begun = True
        self._client = (client_name[:100], client_version[:100])
        self._journal.write(
            SessionRecord(
                id=self._identity.session_id,
                at=utc(self._clock.now_s()),
                origin=self._identity.origin,
                user_key=self._identity.user_key,
                client_name=self._client[0],
                client_version=self._client[1],
                server_version=version("coderl"),
                generator_id=self._intervener.generator_id,
                gate_id=self._intervener.gate.artifact.id,
                seed=self._identity.seed,
            )
        )

    def ready(self, on_message: Callable[[str], None], on_recorded: Callable[[list[str]], None]) -> None:
        """The client can be spoken to."""
        self._journal.listen(on_message)
        self._journal.on_recorded = lambda ids: on_recorded(ids) if self._session.settings.report_recorded else None
        for code, sentence in self._warnings.items():
            self._journal.incident(Severity.WARNING, code, sentence)

    async def warm_up(self, load: Callable[[Backend], Awaitable[None]]) -> None:
        """Load the model before the first request needs it. A failure is told once; requests stay silent with a reason."""
        if self._backend is None:
            return
        try:
            await load(self._backend)
        except GeneratorError as error:
            self._journal.incident(Severity.ERROR, "generator", str(error))

    def configure(self, wire: object) -> list[str]:
        """Apply settings of the client; returns one sentence per unusable key."""
        settings, problems = resolve(wire, self._session.settings)
        if _LEVELS.index(settings.privacy) > _LEVELS.index(self._privacy_ceiling):
            ceiling = self._privacy_ceiling
            problems.append(f"Setting coderl.privacy is limited to {ceiling.value} by the command line or CODERL_PRIVACY.")
            settings = replace(settings, privacy=ceiling)
        if settings.rule is Rule.VALUE and self._intervener.gate.artifact.value_limit is None:
            problems.append("Setting coderl.rule stays at entropy: this gate has no value limit (fit one with gate-calibrate).")
            settings = replace(settings, rule=Rule.ENTROPY)
        self._session.settings = settings
        was_off = self._journal.privacy is Privacy.OFF
        self._journal.privacy = settings.privacy
        if was_off and self._begun:
            self.begin(*self._client)  # rows without their session could not be read
        return problems

    def close(self) -> None:
        """The session ends: every open suggestion gets its outcome."""
        if not self._closed:
            self._closed = True
            self._intervener.close()
            self._feedback.close()
        self._journal.settle()

    # --- documents

    def opened(self, uri: str, language: str, document_version: int | None, text: str) -> None:
        document = self._documents.open(uri, language, document_version, text)
        if document.chars <= SHORT_CHARS and self._objection(document, Trigger.AUTOMATIC) is None:
            self._intervener.opened(uri, language, text, self._session.settings)

    def changed(self, uri: str, document_version: int | None, changes: Sequence[Change], encoding: Encoding) -> None:
        now_s, edits = self._clock.now_s(), self._documents.change(uri, changes, document_version, encoding)
        if edits is None:
            return
        self._session.edited(now_s, uri, edits)
        if len(edits) == 1:
            self._session.rhythm.edited(now_s, typed_chars=len(edits[0].new_text))
        self._feedback.changed(uri, edits)

    def closed(self, uri: str) -> None:
        self._feedback.closed(uri)
        self._documents.close(uri)

    def focused(self, uri: str) -> None:
        self._feedback.focused(uri)

    def tick(self) -> None:
        """Let time pass: suggestions time out, survival is measured."""
        self._feedback.tick()

    # --- suggestions

    def capture(self, uri: str, line: int, units: int, encoding: Encoding, trigger: Trigger) -> Asked:
        """Freeze everything one request depends on, before any other message is read."""
        now_s = self._clock.now_s()
        session, settings = self._session, self._session.settings
        document = self._documents.get(uri)
        place: Place | None = None
        reason: Reason | None = Reason.UNKNOWN_DOCUMENT
        if document is not None:
            reason = self._objection(document, trigger)
            if reason is None and document.dropped:
                reason = Reason.TOO_LARGE
            if reason is None:
                place = snapshot(document, line, units, encoding)
                self._feedback.requested(uri, place.line, place.character, trigger is Trigger.INVOKED)
        prefix = "" if place is None else place.prefix
        language = "" if document is None else document.language
        along = None if place is None or trigger is Trigger.INVOKED else self._feedback.typed_along(place)
        syntax = None if document is None or place is None or along else document.syntax(place.line, place.character)
        asked = Asked(
            uri=uri,
            encoding=encoding,
            at_s=now_s,
            context=context_of(session, self._ids, uri, language, line, place, syntax, trigger, now_s),
            place=place,
            settings=settings,
            costs=session.pace.moved(self._intervener.gate.costs(self._identity.user_key), now_s),
            coin_before=self._rng.random(),
            coin_after=self._rng.random(),
            may_explore=session.may_explore(now_s),
            objection=reason,
            recent_blocks=session.recent_blocks(now_s),
            deleted="" if place is None else session.edits.deleted_at(now_s, place),
            typed_along=along,
            rejected_before=lambda text: session.rejected_before(uri, prefix, text),
            idle_s=idle_s(settings.min_idle_ms, since_ms(session.last_edit_s, now_s), trigger),
            adaptation=session.adaptation(now_s).offset if settings.adapt else None,
            gather=lambda template, budget: (
                self._surroundings.snippets(place, settings, template, budget) if place is not None else ()
            ),
        )
        self._intervener.expect(asked)
        return asked

    def _objection(self, document: Document, trigger: Trigger) -> Reason | None:
        """What the programmer's rules say now."""
        session = self._session
        return objection(
            Situation(
                uri=document.uri,
                language=document.language,
                document_chars=document.chars,
                trigger=trigger,
                now_s=self._clock.now_s(),
                snoozed_until_s=session.snoozed_until_s,
                cooldown_until_s=session.cooldown_until_s,
                several_cursors=session.several_cursors,
            ),
            session.settings,
        )

    def stays(self, asked: Asked) -> Shown | None:
        """The answer to a captured request where the suggestion on the screen is typed along, logged; None where it is not."""
        along, place = asked.typed_along, asked.place  # it may have got its outcome since the request was read
        if not along or not place or self._text_changed(asked) or self._feedback.typed_along(place) != along:
            return None
        self._record(asked, self._intervener.stays(asked, along.rest))
        shown = Shown(self._ids.new(), inline_edit(place, along.rest, asked.encoding))
        self._feedback.stays(along, shown.suggestion_id, place, shown.edit)
        return shown

    async def suggest(self, asked: Asked) -> Shown | None:
        """Decide a captured request and log it. None = silence. Raises only CancelledError."""
        if (shown := self.stays(asked)) is not None:
            return shown
        try:
            answer = await self._intervener.answer(asked)
        except Exception as error:  # the boundary: a bug of ours must not break typing; it is logged in full and told once
            logger.exception("A request could not be decided.")
            answer = self._intervener.failed(asked, error)
        if answer.shown and self._text_changed(asked):
            answer = outdated(answer)
        if answer.suggestion is not None and asked.place is not None:
            known = self._feedback.lineage(asked.place, answer.suggestion.text or "")
            if known is not None:
                answer = replace(answer, suggestion=replace(answer.suggestion, lineage_id=known))
        self._record(asked, answer)
        if not answer.shown or answer.suggestion is None or asked.place is None:
            self._feedback.withheld(answer, asked.uri, asked.place)
            return None
        edit = inline_edit(asked.place, answer.text, asked.encoding)
        self._feedback.served(answer, asked.place, edit)
        self._intervener.shown(asked, answer)
        others = self._feedback.offered(answer, asked.place, asked.encoding) if asked.context.trigger is Trigger.INVOKED else ()
        return Shown(answer.suggestion.id, edit, tuple(Shown(*other) for other in others))

    def _text_changed(self, asked: Asked) -> bool:
        document, place = self._documents.get(asked.uri), asked.place
        return document is None or place is None or document.version != place.version

    def superseded(self, asked: Asked) -> None:
        """A captured request was ended before it had an answer."""
        self._intervener.release(asked)
        self._record(asked, self._intervener.superseded(asked))

    def _record(self, asked: Asked, answer: Answer) -> None:
        decision = answer.decision
        self._decisions.append(decision)
        last = self._answers.get(asked.uri)
        if last is None or last.decision.id <= decision.id:  # a superseded request may end after the one that replaced it
            self._answers[asked.uri] = answer
            self._answers.move_to_end(asked.uri)
        if len(self._answers) > 100:
            self._answers.popitem(last=False)
        if answer.explored:
            self._session.explored(asked.at_s)
        if doubt := self._intervener.template_doubt:
            self._journal.incident_once(Severity.WARNING, "template", doubt)
        rows = rows_of(asked, answer)
        if not rows:
            return
        self._journal.write(*rows)
        code = FAILURES.get(decision.reason)
        if code is not None and not (decision.reason is Reason.NO_MODEL and "no_model" in self._warnings):
            self._journal.incident_once(Severity.ERROR, code, failure_sentence(decision.reason, answer.failure))

    # --- outcomes

    def accepted(self, suggestion_id: str) -> None:
        """The accept command of a suggestion ran."""
        self._feedback.accepted(suggestion_id)

    def shown(self, suggestion_id: str) -> None:
        """The editor says it shows the suggestion."""
        self._feedback.shown(suggestion_id)

    def partially(self, suggestion_id: str, length_units: int) -> None:
        """The editor says that so many UTF-16 units of the inserted text were accepted so far (cumulative)."""
        self._feedback.partially(suggestion_id, length_units)

    def reported(self, message: Mapping[str, Any]) -> None:
        """Our own notification `coderl/outcome`."""
        suggestion_id, kind = message.get("id"), message.get("kind")
        if not isinstance(suggestion_id, str) or kind not in tuple(OutcomeKind):
            self.malformed("A coderl/outcome notification needs `id` and one of the known kinds.")
            return
        chars, visible_ms = _number(message.get("acceptedChars")), _number(message.get("visibleMs"))
        self._feedback.reported(suggestion_id, OutcomeKind(kind), None if chars is None else int(chars), visible_ms)

    # --- questions

    def why(self, uri: str | None) -> dict[str, Any]:
        """Why the last request (of a document, or at all) ended as it did."""
        answer = self._answers.get(uri) if uri is not None else next(reversed(self._answers.values()), None)
        state = self._session.adaptation(self._clock.now_s())
        pace = self._session.pace.to_json(self._intervener.gate.costs(self._identity.user_key), self._clock.now_s())
        decision = None if answer is None else answer.decision
        return {**explanation(decision, state, self._session.settings, self._warnings), "pace": pace}

    def decisions(self) -> list[str]:
        """The session's last decisions as canonical JSON lines."""
        return [encode(decision) for decision in self._decisions]

    def status(self) -> dict[str, Any]:
        """Health in a shape that a status bar can show."""
        health, now_s = self._journal.health(), self._clock.now_s()
        snoozed = now_s < self._session.snoozed_until_s
        kind, message = health_words(self._warnings, health.last_error, enabled=self._session.settings.enabled, snoozed=snoozed)
        return {
            "kind": kind,
            "message": message,
            "generator": self._intervener.generator_id,
            "gate": self._intervener.gate.artifact.id,
            "privacy": self._session.settings.privacy.value,
            "pending": health.pending,
            "snoozed_s": max(0.0, self._session.snoozed_until_s - now_s),
        }

    def counters(self) -> dict[str, Any]:
        """What the session has cost so far, in numbers (docs/protocol.md): the generator's, and this process's processor
        seconds."""
        return {**self._intervener.counters(), "cpu_s": time.process_time()}

    def snooze(self, minutes: float) -> None:
        """Quiet for so many minutes; 0 ends it."""
        self._session.snoozed_until_s = self._clock.now_s() + 60 * minutes

    def flush(self, timeout_s: float) -> dict[str, Any]:
        """Wait until the log is in the database; call it off the event loop."""
        return {"committed": self._journal.flush(timeout_s), "pending": self._journal.health().pending}

    def noticed(self, code: str, sentence: str) -> None:
        """Something does not fit (said once, logged, shown by status and why), such as the gate; or nothing (any more)."""
        self._warnings.pop(code, None)
        if sentence:
            self._warnings[code] = sentence
            self._journal.incident_once(Severity.WARNING, code, sentence)

    def malformed(self, sentence: str) -> None:
        """The client sent bytes that were no message."""
        self._journal.incident_once(Severity.WARNING, "protocol", sentence)

    def log_trouble(self, code: str, sentence: str) -> None:
        """The log began to fail, or works again (codes of `coderl_store.log.Log`)."""
        severity = Severity.INFO if code == "database_recovered" else Severity.ERROR
        self._journal.incident(severity, code, sentence if severity is Severity.INFO else f"{sentence} Suggestions go on.")


def _number(value: object) -> float | None:
    """A length or a time that a client told, in [0, 2³¹); None for anything else."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**31
    return float(value) if usable else None  # type: ignore[arg-type]  # `usable` says it is a number
