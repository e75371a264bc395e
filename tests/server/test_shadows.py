"""The tracker of what is typed next, on the real document store."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coderl_server import shadows
from coderl_server.documents import Change, DocumentStore
from coderl_server.positions import Encoding, advance
from coderl_server.shadows import Looked, ShadowTracker
from coderl_store.shadow import ShadowVerdict

URI = "file:///a.py"


class Desk:
    """One open document and a tracker that follows it."""

    def __init__(self, text: str) -> None:
        self.documents = DocumentStore(1_000_000)
        self.documents.open(URI, "python", 1, text)
        self.tracker = ShadowTracker(self.documents.text_between)

    def edit(self, start: tuple[int, int], end: tuple[int, int], text: str) -> None:
        edits = self.documents.change(URI, [Change((*start, *end), text)], None, Encoding.UTF32)
        assert edits is not None
        self.tracker.changed(URI, edits)

    def type(self, text: str, at: tuple[int, int]) -> tuple[int, int]:
        """Key by key; returns where the cursor stands then."""
        for key in text:
            self.edit(at, at, key)
            at = advance(*at, key)
        return at

    def follow(self, text: str, at: tuple[int, int], name: str = "s", at_s: float = 0.0) -> list[Looked]:
        return self.tracker.follow(name, f"d-{name}", URI, at, text, at_s)

    def look(self) -> Looked:
        (found,) = self.tracker.due(1000.0)
        return found


def test_what_was_typed_is_compared_when_its_time_has_come() -> None:
    desk = Desk("sum()\n")
    desk.follow("values", (0, 4))
    desk.type("values", (0, 4))
    assert desk.tracker.due(17.9) == []
    (found,) = desk.tracker.due(18.0)  # 15 s and half a second for each of 6 characters
    assert (found.suggestion_id, found.decision_id, found.after_s) == ("s", "d-s", 18.0)
    assert (found.label.verdict, found.label.agreed_chars, found.taken_chars) == (ShadowVerdict.WOULD_KEEP, 6, 0)
    assert len(desk.tracker) == 0


def test_corrections_and_edits_elsewhere_do_not_matter() -> None:
    desk = Desk("a\nsum()\nb\n")
    desk.follow("values", (1, 4))
    cursor = desk.type("valeus", (1, 4))
    desk.edit((0, 0), (0, 0), "new line\n")
    desk.edit((2, 7), (2, 10), "ues")  # the slip is mended
    desk.edit((3, 0), (3, 1), "")
    assert cursor == (1, 10)
    assert desk.look().label.verdict is ShadowVerdict.WOULD_KEEP


def test_something_else_is_a_rejection_and_silence_says_nothing() -> None:
    desk = Desk("x = \ny = \n")
    desk.follow("compute()", (0, 4), "typed")
    desk.follow("compute()", (1, 4), "left alone")
    desk.type("None", (0, 4))
    verdicts = {found.suggestion_id: found.label.verdict for found in desk.tracker.due(1000.0)}
    assert verdicts == {"typed": ShadowVerdict.WOULD_REJECT, "left alone": ShadowVerdict.UNKNOWN}


def test_what_came_in_one_piece_was_not_typed() -> None:
    desk = Desk("x = \n")
    desk.follow("compute(a)", (0, 4))
    desk.type("co", (0, 4))
    desk.edit((0, 6), (0, 6), "mpute(a)")
    found = desk.look()
    assert (found.label.verdict, found.taken_chars) == (ShadowVerdict.WOULD_KEEP, 8)


def test_a_bracket_that_the_editor_closes_is_no_disagreement() -> None:
    desk = Desk("f\n")
    desk.follow("(a, b)", (0, 1))
    desk.edit((0, 1), (0, 1), "()")
    desk.type("a, b", (0, 2))
    assert desk.look().label.verdict is ShadowVerdict.WOULD_KEEP


def test_text_that_is_replaced_behind_the_place_counts_as_put_there() -> None:
    desk = Desk("x = old\n")
    desk.follow("new", (0, 4))
    desk.edit((0, 4), (0, 7), "new")
    assert desk.look().label.verdict is ShadowVerdict.WOULD_KEEP


def test_a_place_that_is_gone_is_unknown() -> None:
    desk = Desk("value = \n")
    desk.follow("1", (0, 8))
    desk.edit((0, 3), (0, 8), "")
    desk.type("1", (0, 3))
    assert desk.look().label.verdict is ShadowVerdict.UNKNOWN


def test_a_document_nobody_knows_any_more_is_unknown() -> None:
    desk = Desk("x = \n")
    desk.follow("1", (0, 4))
    desk.documents.close(URI)
    assert desk.look().label.verdict is ShadowVerdict.UNKNOWN


def test_closing_and_ending_look_at_once() -> None:
    desk = Desk("x = \n")
    desk.follow("12", (0, 4), "a")
    desk.type("12", (0, 4))
    (found,) = desk.tracker.closed(URI, 3.0)
    assert (found.label.verdict, found.after_s) == (ShadowVerdict.WOULD_KEEP, 3.0)
    desk.follow("12", (0, 6), "b")
    assert desk.tracker.closed("file:///other.py", 4.0) == []
    assert [found.suggestion_id for found in desk.tracker.finish(5.0)] == ["b"]


def test_what_needs_no_label_is_forgotten_and_ids_are_followed_once() -> None:
    desk = Desk("x = \n")
    desk.follow("12", (0, 4))
    desk.follow("34", (0, 4))
    assert len(desk.tracker) == 1
    desk.tracker.forget("s")
    desk.tracker.forget("unknown")
    assert len(desk.tracker) == 0
    desk.follow("   ", (0, 4))
    assert len(desk.tracker) == 0


@pytest.mark.parametrize(("count", "chars"), [(200, 5), (10, shadows.MOST_CHARS // 4)])
def test_memory_is_bounded_and_the_oldest_are_looked_at_early(count: int, chars: int) -> None:
    desk = Desk("x = \n")
    early = [found for n in range(count) for found in desk.follow("y" * chars, (0, 4), str(n), float(n))]
    assert len(desk.tracker) <= shadows.MOST
    assert len(desk.tracker) * chars <= shadows.MOST_CHARS
    assert [found.suggestion_id for found in early] == [str(n) for n in range(count - len(desk.tracker))]
    assert desk.follow("y" * (shadows.MOST_CHARS + 1), (0, 4), "huge") == []


@settings(max_examples=60)
@given(
    st.text(alphabet="ab (\n", min_size=1, max_size=12).filter(lambda text: bool(text.strip())),
    st.lists(st.tuples(st.booleans(), st.text(alphabet="xy\n", min_size=1, max_size=4)), max_size=6),
)
def test_edits_before_and_behind_never_change_the_label(text: str, others: list[tuple[bool, str]]) -> None:
    """Typed to the letter, with other edits in between, it is kept."""
    desk = Desk("head\nplace:\ntail\n")
    line = 1
    desk.follow(text, (1, 6))
    for index, key in enumerate(text):
        at = advance(line, 6, text[:index])
        desk.edit(at, at, key)
        for before, other in others[index : index + 1]:
            if before:
                desk.edit((0, 0), (0, 0), other)
                line += other.count("\n")
            else:
                below = advance(line, 6, text[: index + 1])[0] + 1
                desk.edit((below, 0), (below, 0), other)
    assert desk.look().label.verdict is ShadowVerdict.WOULD_KEEP
