"""From editor events to outcomes in the log, and to what the session learns from them (history, cooldown, rejection memory)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from coderl_store.clock import Clock, utc
from coderl_store.ids import IdSource
from coderl_store.records import Outcome, OutcomeKind, Reason, Route, Survival

from .documents import DocumentStore, Place
from .intervene import Answer
from .journal import Journal
from .outcomes import OutcomeTracker
from .positions import Edit
from .ranges import InlineEdit, accepted_chars
from .served import Ended, Served
from .session import Session
from .survival import SurvivalTracker

REMEMBERED = 500


@dataclass(frozen=True, slots=True)
class _Offer:
    """What is remembered of a shown suggestion until it got its outcome."""

    uri: str
    line_prefix: str
    text: str
    edit: InlineEdit
    p: float | None
    """P(kept) it was shown with; None where it was asked for."""


class Feedback:
    """Feeds the outcome tracker and turns what it says into records and session state."""

    def __init__(self, session: Session, journal: Journal, clock: Clock, ids: IdSource) -> None:
        self._session = session
        self._journal = journal
        self._clock = clock
        self._ids = ids
        self._tracker = OutcomeTracker()
        self._survival = SurvivalTracker()
        self._offers: OrderedDict[str, _Offer] = OrderedDict()

    # --- what the server does

    def served(self, answer: Answer, place: Place, edit: InlineEdit) -> None:
        """A suggestion was sent as `edit`."""
        suggestion = answer.suggestion
        assert suggestion is not None
        self._offers[suggestion.id] = _Offer(place.uri, place.line_prefix, answer.text, edit, _estimate(answer))
        while len(self._offers) > REMEMBERED:
            self._offers.popitem(last=False)
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
                )
            )
        )

    def lineage(self, place: Place, text: str) -> str | None:
        """The lineage that a text at a place goes on: that of an open suggestion whose remaining text it is."""
        return self._tracker.continued(place.uri, (place.line, place.character), text)

    def withdrawn(self, uri: str) -> None:
        """A request in this document was answered with nothing."""
        self._take(self._tracker.withdrawn(uri, self._clock.now_s()))

    # --- what the client says and does

    def shown(self, suggestion_id: str) -> None:
        self._take(self._tracker.shown(suggestion_id, self._clock.now_s()))

    def accepted(self, suggestion_id: str) -> None:
        self._take(self._tracker.accepted_by_command(suggestion_id, self._clock.now_s()))

    def partially(self, suggestion_id: str, length_units: int) -> None:
        """`length_units`: UTF-16 units from the start of the inserted text, cumulative (Copilot's convention)."""
        offer = self._offers.get(suggestion_id)
        if offer is None:
            return
        chars = accepted_chars(offer.edit, length_units)
        self._take(self._tracker.partially(suggestion_id, chars, self._clock.now_s()))

    def reported(self, suggestion_id: str, kind: OutcomeKind, accepted_chars: int | None, visible_ms: float | None) -> None:
        """The client's own word on how it ended; `accepted_chars` in code points of the suggestion."""
        now_s = self._clock.now_s()
        offer = self._offers.get(suggestion_id)
        if offer is not None and kind is OutcomeKind.DISMISSED:
            # On the word itself, not on the outcome: a no within 250 ms is not seen, but it is a no.
            self._session.dismissed(offer.uri, offer.line_prefix, offer.text, now_s)
        self._take(self._tracker.ended(suggestion_id, kind, now_s, accepted_chars=accepted_chars, visible_ms=visible_ms))

    def changed(self, uri: str, edits: Sequence[Edit]) -> None:
        now_s = self._clock.now_s()
        self._survival.changed(uri, edits)
        self._take(self._tracker.changed(uri, edits, now_s))

    def requested(self, uri: str, line: int, character: int, invoked: bool) -> None:
        self._take(self._tracker.requested(uri, line, character, invoked, self._clock.now_s()))

    def focused(self, uri: str) -> None:
        self._take(self._tracker.focus(uri, self._clock.now_s()))

    def closed(self, uri: str) -> None:
        self._take(self._tracker.closed(uri, self._clock.now_s()))
        self._survival.closed(uri)

    def tick(self, documents: DocumentStore) -> None:
        """Time passes: waiting outcomes become final, survival is measured where it is due."""
        now_s = self._clock.now_s()
        self._take(self._tracker.tick(now_s))
        self._journal.write(
            *(
                Survival(self._ids.new(), utc(now_s), self._session.identity.session_id, suggestion_id, after_s, share)
                for suggestion_id, after_s, share in self._survival.due(now_s, documents.text_between)
            )
        )

    def close(self) -> None:
        self._take(self._tracker.finish(self._clock.now_s()))

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
        if outcome.seen:
            self._session.seen(outcome.kept, now_s, None if offer is None else offer.p)
        if offer is not None and outcome.kept and ended.taken is not None:
            self._survival.accepted(ended.suggestion_id, offer.uri, *ended.taken, ended.taken_text, now_s)


def _estimate(answer: Answer) -> float | None:
    """P(kept) that a suggestion was shown with: stage 2's, for a draft stage 1's; None for what was asked for."""
    decision = answer.decision
    if decision.reason is Reason.ASKED_FOR:
        return None
    return decision.p1 if decision.route is Route.DRAFT else decision.p2
