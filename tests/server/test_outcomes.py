"""Every scenario goes through a real `Document`, so that the edits are those a client's change produces."""

import random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coderl_server.documents import Change, Document
from coderl_server.outcomes import GRACE_S, TIMEOUT_S, UNSEEN_MS, OutcomeTracker
from coderl_server.positions import Encoding, advance
from coderl_server.served import Ended, Served
from coderl_store.records import Evidence, OutcomeKind

URI = "file:///a.py"


class Desk:
    """One document, one cursor, one tracker, and a clock that only `wait` moves."""

    def __init__(self, text: str = "x = \nrest\n", cursor: tuple[int, int] = (0, 4)) -> None:
        self.document = Document(URI, "python", 1, text)
        self.cursor = cursor
        self.tracker = OutcomeTracker()
        self.now_s = 100.0
        self.ended: list[Ended] = []

    def wait(self, seconds: float) -> "Desk":
        self.now_s += seconds
        self.ended += self.tracker.tick(self.now_s)
        return self

    def serve(self, text: str, suggestion_id: str = "s1", lineage: str = "", uri: str = URI, wait_s: float = 0.5) -> "Desk":
        line, character = self.cursor
        suffix = self.document.text_between((line, character), (line + 5, 0))
        served = Served(
            suggestion_id, "d-" + suggestion_id, lineage or suggestion_id, uri, 1, line, character, text, self.now_s, suffix
        )
        self.ended += self.tracker.served(served)
        return self.wait(wait_s)

    def change(self, *changes: Change) -> "Desk":
        edits = self.document.apply(changes, 2, Encoding.UTF32)
        self.ended += self.tracker.changed(URI, edits, self.now_s)
        return self

    def insert(self, text: str) -> "Desk":
        """Text goes in at the cursor in one piece."""
        where = self.cursor
        self.cursor = advance(*where, text.replace("\r\n", "\n"))
        return self.change(Change((*where, *where), text))

    def keys(self, text: str, wait_s: float = 0.1) -> "Desk":
        for key in text:
            self.insert(key).wait(wait_s)
        return self

    def command(self, suggestion_id: str = "s1") -> "Desk":
        self.ended += self.tracker.accepted_by_command(suggestion_id, self.now_s)
        return self

    def request(self, invoked: bool = False) -> "Desk":
        self.ended += self.tracker.requested(URI, *self.cursor, invoked, self.now_s)
        return self

    def only(self) -> Ended:
        assert len(self.ended) == 1, self.ended
        return self.ended[0]

    def summary(self) -> tuple[str, str, str, int]:
        end = self.only()
        return end.kind.value, end.evidence.value, end.detail, end.accepted_chars


class TestAccept:
    def test_a_whole_insertion_is_held_back_for_the_command(self) -> None:
        desk = Desk().serve("compute(1)").insert("compute(1)")
        assert desk.ended == []
        assert desk.wait(0.2).command().summary() == ("accepted", "command", "", 10)
        assert desk.only().visible_ms == pytest.approx(500)
        assert desk.only().taken == ((0, 4), (0, 14))

    def test_without_a_command_it_is_inferred_after_the_grace(self) -> None:
        desk = Desk().serve("compute(1)").insert("compute(1)").wait(GRACE_S)
        assert desk.summary() == ("accepted", "inferred", "", 10)
        assert desk.only().visible_ms == pytest.approx(500)

    def test_a_command_that_comes_before_its_text(self) -> None:
        assert Desk().serve("compute(1)").command().insert("compute(1)").summary() == ("accepted", "command", "", 10)

    def test_a_command_without_its_text_is_believed_and_marked(self) -> None:
        desk = Desk().serve("compute(1)").command()
        assert desk.ended == []
        assert desk.wait(GRACE_S).summary() == ("accepted", "command", "text_mismatch", 10)
        assert desk.only().taken is None

    def test_a_command_after_other_text_is_marked(self) -> None:
        assert Desk().serve("compute(1)").insert("COMPUTE").command().summary() == ("accepted", "command", "text_mismatch", 10)

    def test_a_command_that_ends_a_partial_accept(self) -> None:
        """Neovim's `on_accept` may shorten the item and run its command all the same."""
        desk = Desk().serve("compute(1)").insert("compute").command().wait(GRACE_S)
        assert desk.summary() == ("partially_accepted", "command", "", 7)

    @pytest.mark.parametrize(
        ("suggestion", "inserted"),
        [
            ("if y:\n        pass", "if y:\r\n        pass"),
            ("if y:\n        pass", "if y:\n    pass"),
            ("if y:\n        pass", "if y:\n\tpass"),
            ("compute(1", "compute(1)"),
        ],
        ids=["crlf", "indentation", "tabs", "closed bracket"],
    )
    def test_allowances(self, suggestion: str, inserted: str) -> None:
        kind, evidence, _, _ = Desk().serve(suggestion).insert(inserted).wait(GRACE_S).summary()
        assert (kind, evidence) == ("accepted", "inferred")

    def test_the_typed_token_is_replaced(self) -> None:
        desk = Desk("x = com\n", (0, 7)).serve("pute(1)").change(Change((0, 4, 0, 7), "compute(1)")).command()
        assert desk.summary() == ("accepted", "command", "", 7)
        assert desk.only().taken == ((0, 7), (0, 14))

    def test_the_indentation_before_it_is_rewritten(self) -> None:
        desk = Desk("if y:\n  \n", (1, 2)).serve("return compute(1)").change(Change((1, 0, 1, 2), "\treturn compute(1)"))
        assert desk.wait(GRACE_S).summary() == ("accepted", "inferred", "", 17)

    def test_the_tail_behind_the_cursor_is_left_out(self) -> None:
        desk = Desk("print()\n", (0, 6)).serve("name, 1)").insert("name, 1").wait(GRACE_S)
        assert desk.summary() == ("accepted", "inferred", "", 7)
        assert desk.only().taken_text == "name, 1"

    def test_the_tail_behind_the_cursor_is_replaced(self) -> None:
        desk = Desk("print()\n", (0, 6)).serve("name, 1)").change(Change((0, 6, 0, 7), "name, 1)")).wait(GRACE_S)
        assert desk.summary()[:3] == ("accepted", "inferred", "")

    def test_an_insertion_shifted_along_equal_text(self) -> None:
        """`f(|)` + `a)(b` is also: behind the bracket, `(b` … the client's diff may say either."""
        desk = Desk("f()\n", (0, 2)).serve(")(b").change(Change((0, 3, 0, 3), "(b)")).wait(GRACE_S)
        assert desk.document.line(0) == "f()(b)"
        assert desk.summary()[:2] == ("accepted", "inferred")

    def test_full_text_sync(self) -> None:
        desk = Desk().serve("compute(1)").change(Change(None, "x = compute(1)\nrest\n")).wait(GRACE_S)
        assert desk.summary()[:2] == ("accepted", "inferred")

    def test_the_range_follows_later_edits(self) -> None:
        desk = Desk().serve("compute(1)").insert("compute(1)").change(Change((0, 0, 0, 0), "# top\n")).wait(GRACE_S)
        assert desk.only().taken == ((1, 4), (1, 14))

    def test_undone_at_once(self) -> None:
        desk = Desk().serve("compute(1)").insert("compute(1)").wait(0.3).change(Change((0, 4, 0, 14), "")).wait(GRACE_S)
        assert desk.summary() == ("accepted", "inferred", "undone", 10)

    def test_the_same_text_at_two_cursors_is_no_accept(self) -> None:
        desk = Desk().serve("compute(1)").change(Change((1, 0, 1, 0), "compute(1)"), Change((0, 4, 0, 4), "compute(1)"))
        assert desk.wait(GRACE_S).summary()[:3] == ("moved_on", "inferred", "multi_cursor")

    def test_but_its_command_is_believed(self) -> None:
        desk = Desk().serve("compute(1)").change(Change((1, 0, 1, 0), "compute(1)"), Change((0, 4, 0, 4), "compute(1)"))
        assert desk.command().summary()[:2] == ("accepted", "command")

    def test_one_character_by_command(self) -> None:
        assert Desk().serve(")").insert(")").command().summary() == ("accepted", "command", "", 1)

    def test_a_very_quick_accept_is_an_accept(self) -> None:
        assert Desk().serve("compute(1)", wait_s=0.05).insert("compute(1)").command().summary()[0] == "accepted"


class TestTyping:
    def test_typed_to_the_end(self) -> None:
        desk = Desk().serve("ab").keys("ab")
        assert desk.ended == []
        assert desk.wait(GRACE_S).summary() == ("typed_through", "inferred", "", 0)

    def test_typed_in_one_batch(self) -> None:
        desk = Desk().serve("ab").change(Change((0, 4, 0, 4), "a"), Change((0, 5, 0, 5), "b")).wait(GRACE_S)
        assert desk.summary()[0] == "typed_through"

    def test_equal_keys_in_one_batch_are_not_several_cursors(self) -> None:
        desk = Desk().serve("aab").change(Change((0, 4, 0, 4), "a"), Change((0, 5, 0, 5), "a"))
        desk.cursor = (0, 6)
        assert desk.insert("b").wait(GRACE_S).summary()[0] == "typed_through"

    def test_typed_a_while_then_accepted(self) -> None:
        assert Desk().serve("compute(1)").keys("com").insert("pute(1)").command().summary() == ("accepted", "command", "", 7)

    def test_the_first_other_key_disagrees_at_once(self) -> None:
        assert Desk().serve("compute(1)").keys("co").insert("n").summary() == ("disagreed", "inferred", "", 0)

    def test_a_deletion_ends_it_at_once(self) -> None:
        assert Desk().serve("compute(1)").change(Change((0, 3, 0, 4), "")).summary() == ("deleted", "inferred", "", 0)

    def test_an_auto_closed_bracket_is_one_key(self) -> None:
        desk = Desk().serve("(a)").insert("()")
        desk.cursor = (0, 5)
        assert desk.insert("a").wait(GRACE_S).summary() == ("typed_through", "inferred", "", 0)

    def test_an_auto_closed_bracket_in_two_edits(self) -> None:
        desk = Desk().serve("(ab)").change(Change((0, 4, 0, 4), "("), Change((0, 5, 0, 5), ")"))
        assert desk.ended == []
        desk.cursor = (0, 5)
        assert desk.insert("ab").wait(GRACE_S).summary()[:2] == ("accepted", "inferred")

    def test_a_typed_newline_brings_indentation(self) -> None:
        desk = Desk().serve("\n    y = 1").insert("\n    ").wait(0.1)
        assert desk.ended == []
        assert desk.insert("y = 1").command().summary() == ("accepted", "command", "", 5)

    def test_edits_elsewhere_leave_it_alone(self) -> None:
        desk = Desk().serve("compute(1)").change(Change((1, 0, 1, 0), "# ")).change(Change((0, 0, 0, 0), "import a\n"))
        desk.cursor = (1, 4)
        assert desk.request().insert("compute(1)").command().summary()[:3] == ("accepted", "command", "")


class TestPartial:
    def test_words_then_something_else(self) -> None:
        desk = Desk().serve("alpha beta gamma").insert("alpha ").wait(0.5).insert("beta ").wait(0.5).insert("x")
        assert desk.summary() == ("partially_accepted", "inferred", "disagreed", 11)
        assert desk.only().taken_text == "alpha beta "
        assert desk.only().taken is not None
        assert desk.only().taken[0] == (0, 4)

    def test_words_to_the_end(self) -> None:
        desk = Desk().serve("alpha beta").insert("alpha ").wait(0.5).insert("beta").wait(GRACE_S)
        assert desk.summary() == ("accepted", "inferred", "", 10)

    def test_a_piece_that_cuts_a_word_is_typing(self) -> None:
        assert Desk().serve("alpha beta").insert("alp").insert("x").summary() == ("disagreed", "inferred", "", 0)

    def test_notified_counts_cumulatively(self) -> None:
        desk = Desk().serve("alpha beta gamma")
        for chars in (6, 11):
            desk.ended += desk.tracker.partially("s1", chars, desk.now_s)
            desk.wait(0.2)
        desk.ended += desk.tracker.dismissed("s1", desk.now_s)
        assert desk.summary() == ("partially_accepted", "notification", "dismissed", 11)

    def test_notified_to_the_end_waits_for_the_command(self) -> None:
        desk = Desk().serve("alpha").insert("alpha")
        desk.ended += desk.tracker.partially("s1", 5, desk.now_s)
        assert desk.ended == []
        assert desk.command().summary() == ("accepted", "command", "", 5)

    def test_notified_to_the_end_is_enough(self) -> None:
        desk = Desk().serve("alpha")
        desk.ended += desk.tracker.partially("s1", 5, desk.now_s)
        assert desk.insert("alpha").wait(GRACE_S).summary() == ("accepted", "notification", "", 5)
        assert desk.only().taken == ((0, 4), (0, 9))

    def test_it_times_out_as_a_partial_accept(self) -> None:
        desk = Desk().serve("alpha beta").insert("alpha ").wait(TIMEOUT_S)
        assert desk.summary() == ("partially_accepted", "inferred", "timed_out", 6)


class TestLeaving:
    def test_timeout(self) -> None:
        desk = Desk().serve("compute(1)", wait_s=TIMEOUT_S - 0.1)
        assert desk.ended == []
        assert desk.wait(5).summary() == ("timed_out", "timeout", "", 0)
        assert desk.only().visible_ms == pytest.approx(TIMEOUT_S * 1000)

    def test_typing_along_puts_the_timeout_off(self) -> None:
        desk = Desk().serve("abcdef", wait_s=8).keys("a").wait(8)
        assert desk.ended == []

    def test_a_request_elsewhere(self) -> None:
        desk = Desk().serve("compute(1)")
        desk.cursor = (1, 0)
        assert desk.request().summary() == ("moved_on", "inferred", "requested_elsewhere", 0)

    def test_a_request_at_the_same_place_after_typing_along(self) -> None:
        assert Desk().serve("compute(1)").keys("co").request().ended == []

    def test_another_document(self) -> None:
        desk = Desk().serve("compute(1)")
        desk.ended += desk.tracker.focus("file:///b.py", desk.now_s)
        assert desk.summary()[2] == "other_document"

    def test_the_same_document_keeps_it(self) -> None:
        desk = Desk().serve("compute(1)")
        assert desk.tracker.focus(URI, desk.now_s) == []
        assert len(desk.tracker) == 1

    def test_closing_the_document(self) -> None:
        desk = Desk().serve("compute(1)")
        desk.ended += desk.tracker.closed(URI, desk.now_s)
        assert desk.summary() == ("moved_on", "inferred", "closed", 0)

    def test_closing_lets_a_held_accept_out(self) -> None:
        desk = Desk().serve("compute(1)").insert("compute(1)")
        desk.ended += desk.tracker.closed(URI, desk.now_s)
        assert desk.summary()[0] == "accepted"

    def test_the_session_ends(self) -> None:
        desk = Desk().serve("compute(1)")
        desk.ended += desk.tracker.finish(desk.now_s)
        assert desk.summary()[2] == "session_end"

    def test_withdrawn(self) -> None:
        desk = Desk().serve("compute(1)")
        desk.ended += desk.tracker.withdrawn(URI, desk.now_s)
        assert desk.summary() == ("moved_on", "inferred", "withdrawn", 0)

    def test_dismissed(self) -> None:
        desk = Desk().serve("compute(1)")
        desk.ended += desk.tracker.dismissed("s1", desk.now_s)
        assert desk.summary() == ("dismissed", "notification", "", 0)

    def test_the_clients_word_goes_before_what_the_text_looked_like(self) -> None:
        desk = Desk().serve("compute(1)").insert("compute(1)")
        desk.ended += desk.tracker.ended("s1", OutcomeKind.DISMISSED, desk.now_s, visible_ms=400)
        assert desk.summary() == ("dismissed", "notification", "", 0)
        assert desk.only().visible_ms == pytest.approx(400)

    def test_the_client_says_accepted(self) -> None:
        desk = Desk().serve("compute(1)")
        desk.ended += desk.tracker.ended("s1", OutcomeKind.ACCEPTED, desk.now_s)
        assert desk.summary() == ("accepted", "notification", "", 10)

    def test_late_signals_change_nothing(self) -> None:
        desk = Desk().serve("compute(1)").wait(TIMEOUT_S).command().wait(GRACE_S)
        desk.ended += desk.tracker.dismissed("s1", desk.now_s)
        desk.ended += desk.tracker.dismissed("nobody", desk.now_s)
        assert desk.summary()[0] == "timed_out"


class TestNotSeen:
    def test_too_short(self) -> None:
        desk = Desk().serve("compute(1)", wait_s=UNSEEN_MS / 1000 - 0.01).insert("x")
        assert desk.summary() == ("not_seen", "inferred", "too_short", 0)

    def test_cancelled(self) -> None:
        desk = Desk().serve("compute(1)")
        desk.ended += desk.tracker.cancelled("s1", desk.now_s)
        assert desk.summary() == ("not_seen", "inferred", "cancelled", 0)
        assert desk.only().visible_ms == 0

    def test_a_client_that_reports_shown_did_not_report_this_one(self) -> None:
        desk = Desk().serve("one", "s0")
        desk.tracker.shown("s0", desk.now_s)
        desk.serve("two", "s1")
        desk.ended.clear()
        desk.ended += desk.tracker.focus("file:///b.py", desk.now_s)
        assert desk.summary()[::2] == ("not_seen", "not_rendered")

    def test_its_accept_counts_all_the_same(self) -> None:
        desk = Desk().serve("one", "s0")
        desk.tracker.shown("s0", desk.now_s)
        desk.serve("two", "s1")
        desk.ended.clear()
        assert desk.insert("two").command("s1").summary()[0] == "accepted"


class TestOneIdea:
    def test_served_again_under_its_lineage(self) -> None:
        desk = Desk().serve("compute(1)", "s1", "idea").keys("com").request().serve("pute(1)", "s2", "idea", wait_s=0)
        assert [(end.suggestion_id, end.kind, end.detail, end.visible_ms) for end in desk.ended] == [
            ("s1", OutcomeKind.NOT_SEEN, "reserved", 0.0)
        ]
        desk.ended.clear()
        desk.insert("x")
        assert desk.summary()[0] == "disagreed"
        assert desk.only().suggestion_id == "s2"
        assert desk.only().visible_ms == pytest.approx(800)

    def test_a_signal_that_names_the_old_id(self) -> None:
        desk = Desk().serve("compute(1)", "s1", "idea").keys("com").request().serve("pute(1)", "s2", "idea")
        desk.ended.clear()
        assert desk.insert("pute(1)").command("s1").only().suggestion_id == "s2"

    def test_partial_accepts_are_carried_over(self) -> None:
        desk = Desk().serve("alpha beta", "s1", "idea").insert("alpha ").request().serve("beta", "s2", "idea")
        desk.ended.clear()
        assert desk.insert("x").summary() == ("partially_accepted", "inferred", "disagreed", 6)
        assert desk.only().suggestion_id == "s2"

    def test_another_idea_replaces_it(self) -> None:
        desk = Desk().serve("one", "s1").request().serve("two", "s2")
        assert desk.summary() == ("moved_on", "inferred", "replaced", 0)

    def test_cycling_keeps_both_and_the_text_decides(self) -> None:
        desk = Desk().serve("one", "s1").request(invoked=True).serve("two", "s2")
        assert desk.ended == []
        desk.insert("one").wait(GRACE_S)
        assert {end.suggestion_id: end.kind for end in desk.ended} == {
            "s1": OutcomeKind.ACCEPTED,
            "s2": OutcomeKind.DISAGREED,
        }

    def test_of_two_equal_texts_one_is_accepted(self) -> None:
        desk = Desk().serve("one", "s1").request(invoked=True).serve("one", "s2").insert("one").wait(GRACE_S)
        assert {end.suggestion_id: end.detail for end in desk.ended} == {"s1": "other_taken", "s2": ""}

    def test_an_id_is_served_once(self) -> None:
        desk = Desk().serve("one", "s1").insert("x").serve("one", "s1")
        assert len(desk.ended) == 1
        assert len(desk.tracker) == 0


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_an_accept_is_recognised_however_it_is_spelled(seed: int) -> None:
    """Type a part, then accept the rest: by insertion, by replacing the typed part, by full text, at any indentation."""
    note(f"seed {seed}")
    rng = random.Random(seed)
    head = rng.choice(["", "    ", "value = ", "f("])
    tail = rng.choice(["", ")", "  # note", "xy"])
    text = rng.choice(["compute(a, b)", "\n    print(y)", "for y in z:\n    print(y)\n", "é = '😀'", "a + b"])
    below = rng.choice(["end", "    print(y)", "", ")"])
    desk = Desk(f"top\n{head}{tail}\n{below}\n", (1, len(head))).serve(text)
    typed = rng.randint(0, len(text) - 2)
    desk.keys(text[:typed].split("\n")[0], wait_s=0.01)
    typed = len(text[:typed].split("\n")[0])
    line, character = desk.cursor
    spelling = rng.choice(["insert", "replace", "full"])
    if spelling == "insert":
        desk.insert(text[typed:])
    elif spelling == "replace":
        desk.change(Change((line, character - typed, line, character), text))
    else:  # what a client that computes line diffs makes of it: the shared head of the lines, not the cursor, decides
        desk.change(Change(None, f"top\n{head}{text}{tail}\n{below}\n"))
    assert desk.document.text() == f"top\n{head}{text}{tail}\n{below}\n"
    assert desk.command().summary() == ("accepted", "command", "", len(text) - typed)
    assert desk.only().taken_text == text[typed:]
    assert desk.only().taken is not None
    assert desk.document.text_between(*desk.only().taken) == text[typed:]


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: one terminal outcome for each served suggestion, never two."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk("def f(x):\n    \n", (1, 4))
        self.served: list[str] = []

    names = st.sampled_from([f"s{i}" for i in range(6)] + ["nobody"])
    texts = st.sampled_from(["return x", "return x\n    y", ")", "re", "(a)", "\n    z"])

    @rule(text=texts, lineage=st.sampled_from(["", "idea"]), pause=st.sampled_from([0.0, 0.3]))
    def serve(self, text: str, lineage: str, pause: float) -> None:
        name = f"s{len(self.served)}"
        self.served.append(name)
        self.desk.serve(text, name, lineage, wait_s=pause)

    @rule(text=st.sampled_from(["r", "e", "return x", "return ", "(", "()", ")", "\n    ", "return x\n    y", "q"]))
    def insert(self, text: str) -> None:
        self.desk.insert(text)

    @rule(
        line=st.integers(0, 3),
        start=st.integers(0, 9),
        length=st.integers(0, 4),
        text=st.sampled_from(["", "a", "x\n", "return x"]),
    )
    def edit(self, line: int, start: int, length: int, text: str) -> None:
        self.desk.change(Change((line, start, line, start + length), text), Change((0, 0, 0, 0), text))

    @rule(name=names)
    def command(self, name: str) -> None:
        self.desk.command(name)

    @rule(name=names, chars=st.integers(-1, 12))
    def partially(self, name: str, chars: int) -> None:
        self.desk.ended += self.desk.tracker.partially(name, chars, self.desk.now_s)

    @rule(name=names)
    def shown(self, name: str) -> None:
        self.desk.ended += self.desk.tracker.shown(name, self.desk.now_s)

    @rule(
        name=names,
        kind=st.sampled_from(OutcomeKind),
        chars=st.none() | st.integers(-3, 20),
        visible=st.none() | st.floats(-5, 500),
    )
    def says(self, name: str, kind: OutcomeKind, chars: int | None, visible: float | None) -> None:
        self.desk.ended += self.desk.tracker.ended(name, kind, self.desk.now_s, accepted_chars=chars, visible_ms=visible)

    @rule(name=names)
    def cancelled(self, name: str) -> None:
        self.desk.ended += self.desk.tracker.cancelled(name, self.desk.now_s)

    @rule(invoked=st.booleans(), uri=st.sampled_from([URI, "file:///b.py"]))
    def request(self, invoked: bool, uri: str) -> None:
        self.desk.ended += self.desk.tracker.requested(uri, *self.desk.cursor, invoked, self.desk.now_s)

    @rule(uri=st.sampled_from([URI, "file:///b.py"]), what=st.sampled_from(["focus", "closed", "withdrawn"]))
    def document(self, uri: str, what: str) -> None:
        self.desk.ended += getattr(self.desk.tracker, what)(uri, self.desk.now_s)

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.3, 1.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.desk.wait(seconds)

    @invariant()
    def never_two(self) -> None:
        ids = [end.suggestion_id for end in self.desk.ended]
        assert len(ids) == len(set(ids))
        assert len(ids) + len(self.desk.tracker) == len(self.served)
        for end in self.desk.ended:
            assert end.visible_ms >= 0
            assert end.accepted_chars >= 0
            assert end.evidence in (Evidence.COMMAND, Evidence.NOTIFICATION, Evidence.INFERRED, Evidence.TIMEOUT)
            if end.kind not in (OutcomeKind.ACCEPTED, OutcomeKind.PARTIALLY_ACCEPTED):
                assert end.accepted_chars == 0
            if end.taken is not None:
                assert end.taken[0] <= end.taken[1]

    def teardown(self) -> None:
        self.desk.ended += self.desk.tracker.finish(self.desk.now_s)
        assert sorted(end.suggestion_id for end in self.desk.ended) == sorted(self.served)
        assert len(self.desk.tracker) == 0


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
