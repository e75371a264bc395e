"""From editor events to outcomes in the log, and to what the session learns from them (history, cooldown, rejection memory);
and from what is typed next to the labels of what was not taken."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from coderl_store.clock import Clock, utc
from coderl_store.ids import IdSource
from coderl_store.records import Outcome, OutcomeKind, Reason, Route, Survival
from coderl_store.shadow import Shadow

from .asked import Answer
from .documents import DocumentStore, Place
from .journal import Journal
from .outcomes import RESERVED, OutcomeTracker
from .positions import Edit, Encoding
from .ranges import InlineEdit, accepted_chars, inline_edit
from .served import Along, Ended, Served
from .session import Session
from .settings import Settings
from .shadows import Looked, ShadowTracker
from .survival import SurvivalTracker

REMEMBERED = 500


@dataclass(frozen=True, slots=True)
class _Offer:
    """What is remembered of a shown suggestion until it got its outcome."""

    uri: str
    line_prefix: str
    text: str
    edit: InlineEdit
    p2: float | None
    """Stage 2's estimate of it, for a draft too; None where there is none."""
    p: float | None
    """P(kept) it was shown with, a draft too; None where it was asked for."""
    settings: Settings
    """Those in force when it was sent."""


class Feedback:
    """Feeds the outcome tracker and turns what it says into records and session state."""

    def __init__(
        self,
        session: Session,
        journal: Journal,
        documents: DocumentStore,
        clock: Clock,
        ids: IdSource,
        judged: Callable[[float, bool], None],
    ) -> None:
        self._judged = judged
        self._session = session
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._tracker = OutcomeTracker()
        self._survival = SurvivalTracker()
        self._documents = documents
        self._shadows = ShadowTracker(documents.text_between)
        self._offers: OrderedDict[str, _Offer] = OrderedDict()
        self._beside: OrderedDict[str, tuple[Answer, Place, InlineEdit]] = OrderedDict()

    # --- what the server does

    def served(self, answer: Answer, place: Place, edit: InlineEdit) -> None:
        """A suggestion was sent as `edit`."""
        suggestion = answer.suggestion
        assert suggestion is not None
        estimates = answer.decision.p2, _estimate(answer)
        offer = _Offer(place.uri, place.line_prefix, answer.text, edit, *estimates, self._session.settings)
        self._remember(suggestion.id, offer)
        self._follow(answer, place)
        self._take(
            self._tracker.served(
                Served(
                    suggestion_id=suggestion.id,
                    decision_id=suggestion.decision_id,
                    lineage_id=suggestion.lineage_id,
                    uri=place.uri,
                    version=place.version,
                    line=place.line,
                    character=place.character,
                    text=answer.text,
                    at_s=self._clock.now_s(),
                    suffix=place.suffix,
                    indented=not place.line_prefix.strip(),
                )
            )
        )

    def offered(self, answer: Answer, place: Place, encoding: Encoding) -> list[tuple[str, InlineEdit]]:
        """The ids and edits of the further candidates, to be sent beside the suggestion. Each counts as served when the editor
        says that it came to it."""
        edits: list[tuple[str, InlineEdit]] = []
        for other in answer.others:
            text = other.suggestion.text or ""
            edit = inline_edit(place, text, encoding)
            as_answer = replace(
                answer, decision=replace(answer.decision, p2=other.p2), suggestion=other.suggestion, text=text, others=()
            )
            self._beside[other.suggestion.id] = (as_answer, place, edit)
            edits.append((other.suggestion.id, edit))
        while len(self._beside) > REMEMBERED:
            self._beside.popitem(last=False)
        return edits

    def _came_to(self, suggestion_id: str) -> None:
        """The editor names a suggestion; where it is a further candidate, that one is on the screen now."""
        beside = self._beside.pop(suggestion_id, None)
        if beside is not None:
            self.served(*beside)

    def typed_along(self, place: Place) -> Along | None:
        """The suggestion on the screen that is being typed at a place; None where none is, where other settings hold by now,
        and where nothing is reused."""
        along = self._tracker.typed_along(place.uri, (place.line, place.character))
        offer = None if along is None else self._offers.get(along.suggestion_id)
        if along is None or not along.rest.strip() or offer is None or offer.settings is not self._session.settings:
            return None
        return along if offer.settings.reuse else None

    def stays(self, along: Along, suggestion_id: str, place: Place, edit: InlineEdit) -> None:
        """A suggestion that is typed along was sent again at a place, under another id, as `edit`."""
        self._tracker.also(suggestion_id, along.suggestion_id)
        offer = self._offers[along.suggestion_id]
        self._remember(suggestion_id, replace(offer, line_prefix=place.line_prefix, text=along.rest, edit=edit))

    def _remember(self, suggestion_id: str, offer: _Offer) -> None:
        self._offers[suggestion_id] = offer
        while len(self._offers) > REMEMBERED:
            self._offers.popitem(last=False)

    def lineage(self, place: Place, text: str) -> str | None:
        """The lineage that a text at a place goes on: that of an open suggestion whose remaining text it is."""
        return self._tracker.continued(place.uri, (place.line, place.character), text)

    def withheld(self, answer: Answer, uri: str, place: Place | None) -> None:
        """A request in this document was answered with nothing, though something may have been generated for it.

        Where the text had changed meanwhile, that says nothing of what is on the screen.
        """
        if answer.decision.reason is Reason.SUPERSEDED:
            return
        if place is not None:
            self._follow(answer, place)
        self._take(self._tracker.withdrawn(uri, self._clock.now_s()))

    def _follow(self, answer: Answer, place: Place) -> None:
        """Compare the suggestion later with what is typed at its place."""
        made = answer.suggestion
        if made is not None and made.text:
            at = place.line, place.character
            self._label(self._shadows.follow(made.id, made.decision_id, place.uri, at, made.text, self._clock.now_s()))

    # --- what the client says and does

    def shown(self, suggestion_id: str) -> None:
        self._came_to(suggestion_id)
        self._take(self._tracker.shown(suggestion_id, self._clock.now_s()))

    def accepted(self, suggestion_id: str) -> None:
        self._came_to(suggestion_id)
        self._take(self._tracker.accepted_by_command(suggestion_id, self._clock.now_s()))

    def partially(self, suggestion_id: str, length_units: int) -> None:
        """`length_units`: UTF-16 units from the start of the inserted text, cumulative (Copilot's convention)."""
        self._came_to(suggestion_id)
        offer = self._offers.get(suggestion_id)
        if offer is None:
            return
        chars = accepted_chars(offer.edit, length_units)
        self._take(self._tracker.partially(suggestion_id, chars, self._clock.now_s()))

    def reported(self, suggestion_id: str, kind: OutcomeKind, accepted_chars: int | None, visible_ms: float | None) -> None:
        """The client's own word on how it ended; `accepted_chars` in code points of the suggestion."""
        self._came_to(suggestion_id)
        now_s = self._clock.now_s()
        offer = self._offers.get(suggestion_id)
        if offer is not None and kind is OutcomeKind.DISMISSED:
            # On the word itself, not on the outcome: a no within 250 ms is not seen, but it is a no.
            self._session.dismissed(offer.uri, offer.line_prefix, offer.text, now_s)
        self._take(self._tracker.ended(suggestion_id, kind, now_s, accepted_chars=accepted_chars, visible_ms=visible_ms))

    def changed(self, uri: str, edits: Sequence[Edit]) -> None:
        now_s = self._clock.now_s()
        self._survival.changed(uri, edits)
        self._shadows.changed(uri, edits)
        self._take(self._tracker.changed(uri, edits, now_s))

    def requested(self, uri: str, line: int, character: int, invoked: bool) -> None:
        self._take(self._tracker.requested(uri, line, character, invoked, self._clock.now_s()))

    def focused(self, uri: str) -> None:
        self._take(self._tracker.focus(uri, self._clock.now_s()))

    def closed(self, uri: str) -> None:
        """The document is about to be closed; its text is still known."""
        self._take(self._tracker.closed(uri, self._clock.now_s()))
        self._survival.closed(uri)
        self._label(self._shadows.closed(uri, self._clock.now_s()))

    def tick(self) -> None:
        """Time passes: waiting outcomes become final, survival and labels are measured where they are due."""
        now_s = self._clock.now_s()
        self._take(self._tracker.tick(now_s))
        self._journal.write(
            *(
                Survival(self._ids.new(), utc(now_s), self._session.identity.session_id, suggestion_id, after_s, share)
                for suggestion_id, after_s, share in self._survival.due(now_s, self._documents.text_between)
            )
        )
        self._label(self._shadows.due(now_s))

    def close(self) -> None:
        self._take(self._tracker.finish(self._clock.now_s()))
        self._label(self._shadows.finish(self._clock.now_s()))

    def _take(self, ended: Sequence[Ended]) -> None:
        for one in ended:
            self._record(one)

    def _record(self, ended: Ended) -> None:
        now_s = self._clock.now_s()
        outcome = Outcome(
            id=self._ids.new(),
            at=utc(now_s),
            session_id=self._session.identity.session_id,
            suggestion_id=ended.suggestion_id,
            decision_id=ended.decision_id,
            kind=ended.kind,
            evidence=ended.evidence,
            visible_ms=round(ended.visible_ms, 3),
            accepted_chars=ended.accepted_chars,
            detail=ended.detail,
        )
        self._journal.write(outcome)
        offer = self._offers.pop(ended.suggestion_id, None)
        if outcome.accepted_chars or outcome.detail == RESERVED:
            self._shadows.forget(ended.suggestion_id)
        if outcome.seen:
            text, p = ("", None) if offer is None else (offer.text, offer.p)
            self._session.seen(outcome.kept, now_s, text, p)
            if offer is not None and offer.p2 is not None:
                self._judged(offer.p2, outcome.kept)
        if offer is not None and outcome.kept and ended.taken is not None:
            self._survival.accepted(ended.suggestion_id, offer.uri, *ended.taken, ended.taken_text, now_s)

    def _label(self, looked: Sequence[Looked]) -> None:
        now_s = self._clock.now_s()
        self._journal.write(
            *(
                Shadow(
                    id=self._ids.new(),
                    at=utc(now_s),
                    session_id=self._session.identity.session_id,
                    suggestion_id=one.suggestion_id,
                    decision_id=one.decision_id,
                    verdict=one.label.verdict,
                    agreed_chars=one.label.agreed_chars,
                    typed_chars=one.label.typed_chars,
                    taken_chars=one.taken_chars,
                    horizon_s=round(one.after_s, 3),
                )
                for one in looked
            )
        )


def _estimate(answer: Answer) -> float | None:
    """P(kept) that a suggestion was shown with: stage 2's, for a draft stage 1's; None for what was asked for."""
    decision = answer.decision
    if decision.reason is Reason.ASKED_FOR:
        return None
    return decision.p1 if decision.route is Route.DRAFT else decision.p2
