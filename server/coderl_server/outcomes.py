"""What became of every suggestion that was sent: exactly one terminal outcome each, with the evidence for it.

A pure state machine: every event carries its time in seconds (any one clock), nothing is read from the machine. Explicit
signals (`accepted_by_command`, `shown`, `partially`, `dismissed`, `ended`) are Copilot's notifications and our own
`coderl/outcome`; where a client sends none, document changes and requests speak (`coderl_server.inference`).

Rules:

1. Explicit beats inferred. What edits say is held back for `GRACE_S` where it could have been an accept, so that the
   command, which editors send after the text, can claim it. Single keys that disagree and deletions end at once, but
   for an indentation: an editor takes that of an empty line away, and then says that the programmer has left.
2. A command whose text is not in the document within the grace is believed, with detail `text_mismatch`; if only a part was
   inserted just before, it is a partial accept (Neovim's `on_accept` may shorten the item and still run its command).
3. Typing what was suggested keeps it alive; words or lines taken are kept account of until the end, which is then
   `partially_accepted` whatever ended it (its detail says what). What the client names was taken, however short it is.
4. Less than `UNSEEN_MS` on screen and not accepted is `not_seen`, as is what a client that reports `shown` never reported.
   (Continue drops what was visible under 250 to 500 ms, GhostTextAcceptanceTracker and its completion logging.)
5. `TIMEOUT_S` without a reaction is `timed_out` (Continue's 10 s). Limit: who reads longer and then accepts is missed.
6. What is typed along and sent again as it stands keeps its row: the new id is another name for it (`also`).
   One idea, one row: when a suggestion is served again under the same lineage and its text continues the old one, the old
   entry ends as `not_seen` with detail `reserved`, and its visible time and accepted characters are carried over to the
   new one. Signals that still name the old id count for the new one.
7. Asking again by hand at the same place (cycling) keeps both; of several that the text agrees with, the newest is taken.

`accepted_chars` counts what was taken over, not what was typed along, earlier servings of the lineage included.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from coderl_store.records import Evidence, OutcomeKind

from .inference import Anchor, Reading
from .positions import Edit
from .served import Along, Ended, Served

GRACE_S = 1.0
TIMEOUT_S = 10.0
UNSEEN_MS = 250.0
RESERVED = "reserved"
"""Detail of what another serving of the same idea carries on (rule 6)."""
REMEMBERED = 2000
"""Ended suggestions whose ids are remembered, so that a late signal cannot end them twice."""


@dataclass(slots=True)
class _Item:
    served: Served
    anchor: Anchor
    since_s: float
    touched_s: float
    must_be_shown: bool
    shown: bool = False
    cycling: bool = False
    carried_chars: int = 0
    notified_chars: int = 0
    partial: Evidence | None = None
    partial_s: float = 0.0
    held: Ended | None = None
    until_s: float = 0.0
    commanded: bool = False

    @property
    def accepted_chars(self) -> int:
        return self.carried_chars + max(self.anchor.taken_chars, self.notified_chars - self.anchor.typed_chars)

    @property
    def all_chars(self) -> int:
        """What an accept of all that remains takes over."""
        taken = self.anchor.taken_chars + len(self.anchor.remaining)
        return self.carried_chars + min(len(self.served.text), max(taken, self.notified_chars - self.anchor.typed_chars))

    def visible_ms(self, at_s: float) -> float:
        return max(0.0, (at_s - self.since_s) * 1000.0)

    def taken(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        start = self.anchor.taken_from
        return None if start is None else (start, self.anchor.position)

    def unseen(self, detail: str) -> Ended:
        """The terminal outcome of what was never on screen, or whose time on screen counts elsewhere."""
        ids = self.served.suggestion_id, self.served.decision_id
        return Ended(*ids, OutcomeKind.NOT_SEEN, Evidence.INFERRED, 0.0, 0, detail)

    def outcome(self, kind: OutcomeKind, evidence: Evidence, at_s: float, detail: str = "") -> Ended:
        """The terminal outcome if it ended now, after rules 3 and 4."""
        chars, visible_ms = self.accepted_chars, self.visible_ms(at_s)
        if chars and kind is not OutcomeKind.ACCEPTED:
            detail = detail or ("" if kind is OutcomeKind.PARTIALLY_ACCEPTED else kind.value)
            kind, evidence = OutcomeKind.PARTIALLY_ACCEPTED, self.partial or evidence
        elif kind not in (OutcomeKind.ACCEPTED, OutcomeKind.PARTIALLY_ACCEPTED):
            if self.must_be_shown and not self.shown and evidence is not Evidence.NOTIFICATION:
                kind, detail = OutcomeKind.NOT_SEEN, "not_rendered"
            elif visible_ms < UNSEEN_MS and kind is not OutcomeKind.NOT_SEEN:
                kind, detail = OutcomeKind.NOT_SEEN, "too_short"
        ids = self.served.suggestion_id, self.served.decision_id
        return Ended(*ids, kind, evidence, visible_ms, chars, detail)


class OutcomeTracker:
    """All suggestions of one session. Every method returns the outcomes that became final through it, oldest first.

    `timeout_s` replaces `TIMEOUT_S`. Signals about unknown or ended suggestions change nothing.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._open: dict[str, _Item] = {}
        # Ended ids; the value says which suggestion carries the idea on, and how many characters further it begins.
        self._ended: OrderedDict[str, tuple[str, int] | None] = OrderedDict()
        self._reports_shown = False

    def __len__(self) -> int:
        return len(self._open)

    def continued(self, uri: str, position: tuple[int, int], text: str) -> str | None:
        """The lineage that `text` at (line, character) goes on: that of an open suggestion whose remaining text it is."""
        for item in self._open.values():
            if item.served.uri == uri and item.anchor.position == position and item.anchor.remaining == text:
                return item.served.lineage_id
        return None

    def typed_along(self, uri: str, position: tuple[int, int]) -> Along | None:
        """The open suggestion that was typed, and in no other way taken, up to (line, character)."""
        for item in self._open.values():
            anchor = item.anchor
            here = item.served.uri == uri and anchor.position == position and bool(anchor.remaining) and item.held is None
            plain = not (anchor.taken_chars or item.notified_chars or item.carried_chars or "\r" in item.served.text)
            if here and plain and anchor.typed_chars:
                return Along(item.served.suggestion_id, anchor.remaining)
        return None

    def also(self, other_id: str, suggestion_id: str) -> None:
        """From now on signals that name `other_id` mean an open suggestion that was sent again under it."""
        item = self._open.get(suggestion_id)
        self._remember(other_id, (suggestion_id, 0 if item is None else -item.anchor.done_chars))

    def served(self, served: Served) -> list[Ended]:
        """A suggestion was sent. It replaces what was open (rules 6 and 7); an id is taken once only."""
        ended = self._expire(served.at_s)
        if served.suggestion_id in self._open or served.suggestion_id in self._ended:
            return ended
        anchor = Anchor((served.line, served.character), served.text, served.suffix, served.indented)
        new = _Item(served, anchor, served.at_s, served.at_s, self._reports_shown)
        for old in [item for item in self._open.values() if item.held is None]:
            if _same_idea(old, served):
                ended.append(self._carry(old, new))
            elif not (old.cycling and old.served.uri == served.uri):
                ended.append(self._end(old, OutcomeKind.MOVED_ON, Evidence.INFERRED, served.at_s, "replaced"))
        self._open[served.suggestion_id] = new
        return ended

    def cancelled(self, suggestion_id: str, at_s: float, detail: str = "cancelled") -> list[Ended]:
        """The answer never reached the client (cancelled) or was stale when it did."""
        ended = self._expire(at_s)
        item, _ = self._find(suggestion_id)
        if item is not None:
            never = Ended(
                item.served.suggestion_id, item.served.decision_id, OutcomeKind.NOT_SEEN, Evidence.INFERRED, 0.0, 0, detail
            )
            ended.append(self._close(item, never))
        return ended

    def withdrawn(self, uri: str, at_s: float) -> list[Ended]:
        """The server answered a request in this document with nothing, which takes the suggestion off the screen."""
        return self._leave((item for item in self._open.values() if item.served.uri == uri), at_s, "withdrawn")

    # --- what the client says in words

    def shown(self, suggestion_id: str, at_s: float) -> list[Ended]:
        """It is on screen. From the first such signal on, what is never reported as shown counts as not seen."""
        ended = self._expire(at_s)
        self._reports_shown = True
        item, _ = self._find(suggestion_id)
        if item is not None and item.held is None:
            if not item.shown and item.must_be_shown:
                item.since_s = at_s
            item.shown, item.touched_s = True, at_s
        return ended

    def partially(self, suggestion_id: str, accepted_chars: int, at_s: float) -> list[Ended]:
        """A part was accepted; `accepted_chars` counts from the start of the suggestion and is cumulative."""
        ended = self._expire(at_s)
        item, offset = self._find(suggestion_id)
        if item is None or accepted_chars <= max(0, offset) or item.commanded:
            return ended
        whole = len(item.served.text)
        item.notified_chars = max(item.notified_chars, min(accepted_chars - offset, whole))
        item.anchor.told(item.notified_chars)
        item.partial, item.touched_s, item.shown, item.partial_s = Evidence.NOTIFICATION, at_s, True, at_s
        if item.held is not None:
            if item.held.kind is not OutcomeKind.ACCEPTED:
                item.held = item.outcome(OutcomeKind.PARTIALLY_ACCEPTED, Evidence.NOTIFICATION, at_s)
        elif item.notified_chars >= whole:
            self._hold(item, item.outcome(OutcomeKind.ACCEPTED, Evidence.NOTIFICATION, at_s), at_s)
        return ended

    def accepted_by_command(self, suggestion_id: str, at_s: float) -> list[Ended]:
        """The item's command arrived (rules 1 and 2)."""
        ended = self._expire(at_s)
        item, _ = self._find(suggestion_id)
        if item is None or item.commanded:
            return ended
        item.commanded = item.shown = True
        anchor = item.anchor
        if not anchor.remaining or item.held is not None:
            ended.append(self._claim(item, at_s))
            return ended
        if item.partial is not None and at_s - item.partial_s <= GRACE_S:
            held = replace(item.outcome(OutcomeKind.PARTIALLY_ACCEPTED, Evidence.COMMAND, at_s), evidence=Evidence.COMMAND)
        else:
            held = item.outcome(OutcomeKind.ACCEPTED, Evidence.COMMAND, at_s, "text_mismatch")
            held = replace(held, accepted_chars=item.all_chars)
        self._hold(item, held, at_s)
        return ended

    def dismissed(self, suggestion_id: str, at_s: float) -> list[Ended]:
        """The programmer waved it away."""
        return self.ended(suggestion_id, OutcomeKind.DISMISSED, at_s)

    def ended(
        self,
        suggestion_id: str,
        kind: OutcomeKind,
        at_s: float,
        *,
        accepted_chars: int | None = None,
        visible_ms: float | None = None,
        detail: str = "",
    ) -> list[Ended]:
        """The client's own word on how it ended (`coderl/outcome`); its numbers go before ours where it gives any.

        `accepted_chars` counts as in `partially`.
        """
        ended = self._expire(at_s)
        item, offset = self._find(suggestion_id)
        if item is None:
            return ended
        if item.commanded and item.held is not None:
            ended.append(self._close(item, item.held))
            return ended
        if visible_ms is not None:
            item.since_s = at_s - max(0.0, visible_ms) / 1000.0
        item.shown = item.shown or kind is not OutcomeKind.NOT_SEEN
        anchor = item.anchor
        if kind is OutcomeKind.ACCEPTED:
            item.notified_chars = max(item.notified_chars, anchor.done_chars + len(anchor.remaining))
        elif item.held is not None and item.held.kind is OutcomeKind.ACCEPTED:
            # The client knows better than what the text looked like.
            anchor.taken_chars, anchor.taken_from = 0, None
        if accepted_chars is not None:
            item.notified_chars = min(max(0, accepted_chars - offset), len(item.served.text))
            item.partial = Evidence.NOTIFICATION
        ended.append(self._end(item, kind, Evidence.NOTIFICATION, at_s, detail))
        return ended

    # --- what the client does

    def changed(self, uri: str, edits: Sequence[Edit], at_s: float) -> list[Ended]:
        """One didChange was applied."""
        ended = self._expire(at_s)
        taken = False
        for item in reversed([item for item in self._open.values() if item.served.uri == uri]):
            reading = item.anchor.read(edits)
            if reading is Reading.ACCEPTED and taken:
                item.anchor.taken_chars, item.anchor.taken_from = 0, None
                ended.append(self._end(item, OutcomeKind.DISAGREED, Evidence.INFERRED, at_s, "other_taken"))
                continue
            taken = taken or reading is Reading.ACCEPTED
            ended += self._react(item, reading, at_s)
        return ended

    def requested(self, uri: str, line: int, character: int, invoked: bool, at_s: float) -> list[Ended]:
        """The client asks again: at the same place everything lives on, anywhere else it has moved on."""
        ended = self._expire(at_s)
        gone = []
        for item in self._open.values():
            if item.served.uri == uri and item.anchor.position == (line, character):
                item.cycling = item.cycling or invoked
            else:
                gone.append(item)
        return ended + self._leave(gone, at_s, "requested_elsewhere")

    def focus(self, uri: str, at_s: float) -> list[Ended]:
        """Another document has the focus now."""
        return self._leave((item for item in self._open.values() if item.served.uri != uri), at_s, "other_document")

    def closed(self, uri: str, at_s: float) -> list[Ended]:
        """The document was closed: nothing more can be learned there."""
        ended = self._expire(at_s)
        return ended + self._flush([item for item in self._open.values() if item.served.uri == uri], at_s, "closed")

    def finish(self, at_s: float) -> list[Ended]:
        """The session ends: every suggestion still open gets its outcome."""
        ended = self._expire(at_s)
        return ended + self._flush(list(self._open.values()), at_s, "session_end")

    def tick(self, at_s: float) -> list[Ended]:
        """Time passes. Call it about once a second while anything is open."""
        return self._expire(at_s)

    # --- inside

    def _react(self, item: _Item, reading: Reading, at_s: float) -> list[Ended]:
        if item.commanded:
            return [self._claim(item, at_s)] if reading in (Reading.ACCEPTED, Reading.TYPED_THROUGH) else []
        if item.held is not None or reading is Reading.UNTOUCHED:
            return []
        item.touched_s = at_s
        if reading is Reading.PARTIAL:
            item.partial, item.partial_s = item.partial or Evidence.INFERRED, at_s
        if reading in (Reading.TYPED, Reading.PARTIAL):
            return []
        deleted = reading is Reading.DELETED and not item.anchor.unindented
        if deleted or (reading is Reading.DISAGREED and item.anchor.last_chars <= 1):
            return [self._end(item, OutcomeKind(reading.value), Evidence.INFERRED, at_s)]
        if reading is Reading.MULTI_CURSOR:
            held = item.outcome(OutcomeKind.MOVED_ON, Evidence.INFERRED, at_s, "multi_cursor")
        else:
            held = item.outcome(OutcomeKind(reading.value), Evidence.INFERRED, at_s)
        self._hold(item, held, at_s)
        return []

    def _claim(self, item: _Item, at_s: float) -> Ended:
        """End as accepted by command; the text decides about the detail."""
        anchor, missing = item.anchor, len(item.anchor.remaining)
        if item.held is not None and item.held.kind is not OutcomeKind.ACCEPTED and not missing:
            anchor.recount()  # typed to the end, it seemed: but the last insertion was the accept
        accepted = item.outcome(OutcomeKind.ACCEPTED, Evidence.COMMAND, at_s, "text_mismatch" if missing else "")
        visible_ms = accepted.visible_ms if item.held is None else item.held.visible_ms
        return self._close(item, replace(accepted, visible_ms=visible_ms, accepted_chars=item.all_chars))

    def _leave(self, items: Iterable[_Item], at_s: float, detail: str) -> list[Ended]:
        leaving = [item for item in items if item.held is None]
        ended = self._expire(at_s)
        for item in leaving:
            if item.held is None and item.served.suggestion_id in self._open:
                ended.append(self._end(item, OutcomeKind.MOVED_ON, Evidence.INFERRED, at_s, detail))
        return ended

    def _flush(self, items: Iterable[_Item], at_s: float, detail: str) -> list[Ended]:
        return [
            self._close(item, item.held or item.outcome(OutcomeKind.MOVED_ON, Evidence.INFERRED, at_s, detail))
            for item in items
        ]

    def _expire(self, at_s: float) -> list[Ended]:
        ended = []
        for item in list(self._open.values()):
            if item.held is not None:
                if at_s >= item.until_s:
                    ended.append(self._close(item, item.held))
            elif at_s - item.touched_s >= self._timeout_s:
                ended.append(self._end(item, OutcomeKind.TIMED_OUT, Evidence.TIMEOUT, item.touched_s + self._timeout_s))
        return ended

    def _carry(self, old: _Item, new: _Item) -> Ended:
        new.since_s, new.shown, new.must_be_shown = old.since_s, old.shown, old.must_be_shown
        new.carried_chars, new.partial, new.partial_s = old.accepted_chars, old.partial, old.partial_s
        new.anchor.carry(old.anchor)
        return self._close(old, old.unseen(RESERVED), (new.served.suggestion_id, old.anchor.done_chars))

    def _hold(self, item: _Item, held: Ended, at_s: float) -> None:
        item.held, item.until_s = held, at_s + GRACE_S

    def _end(self, item: _Item, kind: OutcomeKind, evidence: Evidence, at_s: float, detail: str = "") -> Ended:
        return self._close(item, item.outcome(kind, evidence, at_s, detail))

    def _close(self, item: _Item, outcome: Ended, heir: tuple[str, int] | None = None) -> Ended:
        del self._open[item.served.suggestion_id]
        self._remember(item.served.suggestion_id, heir)
        taken = item.taken() if outcome.accepted_chars else None
        undone = taken is not None and taken[0] == taken[1] and outcome.kind is OutcomeKind.ACCEPTED
        text = "" if taken is None else item.anchor.taken_text
        return replace(outcome, taken=taken, taken_text=text, detail="undone" if undone else outcome.detail)

    def _remember(self, suggestion_id: str, heir: tuple[str, int] | None) -> None:
        self._ended[suggestion_id] = heir
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)

    def _find(self, suggestion_id: str) -> tuple[_Item | None, int]:
        offset = 0
        while (heir := self._ended.get(suggestion_id)) is not None:
            suggestion_id, further = heir
            offset += further
        return self._open.get(suggestion_id), offset


def _same_idea(old: _Item, served: Served) -> bool:
    if old.served.lineage_id != served.lineage_id or old.served.uri != served.uri:
        return False
    text, remaining = served.text.replace("\r\n", "\n"), old.anchor.remaining
    here = old.anchor.position == (served.line, served.character)
    return here and (text.startswith(remaining) or remaining.startswith(text))
