"""Pieces of a suggestion that look like keys, and keys that look like pieces: what counts as accepted."""

from __future__ import annotations

from coderl_server.documents import Change
from coderl_server.outcomes import GRACE_S
from coderl_store.records import OutcomeKind

from .test_outcomes import Desk


def bite(desk: Desk, text: str, chars: int, name: str = "s1") -> Desk:
    """A word is accepted: the text, then the client's word."""
    desk.insert(text)
    desk.ended += desk.tracker.partially(name, chars, desk.now_s)
    return desk.wait(0.2)


class TestTheClientSays:
    def test_a_bite_of_one_character_is_no_key(self) -> None:
        desk = bite(bite(Desk().serve("c = a + b"), "c", 1), " = ", 4).insert("x")
        assert desk.summary() == ("partially_accepted", "notification", "disagreed", 4)
        assert desk.only().taken_text == "c = "

    def test_a_line_end_with_its_indentation_is_no_key(self) -> None:
        desk = bite(Desk().serve("\n    return c"), "\n    ", 5).insert("x")
        assert desk.summary() == ("partially_accepted", "notification", "disagreed", 5)

    def test_the_last_character_alone(self) -> None:
        desk = bite(Desk().serve("total)"), "total", 5).insert(")").command()
        assert desk.summary() == ("accepted", "command", "", 6)
        assert desk.only().taken_text == "total)"

    def test_before_the_text_comes(self) -> None:
        desk = Desk().serve("c = a")
        desk.ended += desk.tracker.partially("s1", 1, desk.now_s)
        assert desk.insert("c").keys(" ").insert("x").summary() == ("partially_accepted", "notification", "disagreed", 1)

    def test_what_was_typed_before_is_not_accepted(self) -> None:
        desk = bite(Desk().serve("alpha beta gamma").keys("al"), "pha", 5).insert("x")
        assert desk.summary() == ("partially_accepted", "notification", "disagreed", 3)

    def test_what_is_typed_afterwards_is_not_accepted(self) -> None:
        desk = bite(Desk().serve("alpha beta gamma"), "alpha", 5).keys(" be").insert("x")
        assert desk.summary() == ("partially_accepted", "notification", "disagreed", 5)

    def test_the_whole_after_typing_and_a_word(self) -> None:
        desk = bite(Desk().serve("alpha beta gamma").keys("al"), "pha", 5).insert(" beta gamma").command()
        assert desk.summary() == ("accepted", "command", "", 14)

    def test_under_the_name_of_what_was_typed_along(self) -> None:
        """That one begins where the typing ended, and counts from there."""
        desk = Desk().serve("ab, c + d").keys("ab")
        desk.tracker.also("s2", "s1")
        assert bite(desk, ",", 1, "s2").insert("x").summary() == ("partially_accepted", "notification", "disagreed", 1)

    def test_left_after_the_indentation_went(self) -> None:
        """Neovim takes it away character by character, in one change or two, before it says that insert mode was left."""
        desk = Desk().serve("\n    y = 1").insert("\n    ").wait(0.5)
        gone = [Change((1, at, 1, at + 1), "") for at in (3, 2, 1, 0)]
        desk.change(gone[0]).change(*gone[1:])
        desk.ended += desk.tracker.ended("s1", OutcomeKind.MOVED_ON, desk.now_s)
        assert desk.summary() == ("moved_on", "notification", "", 0)

    def test_where_nobody_says_so_it_was_deleted(self) -> None:
        desk = Desk().serve("\n    y = 1").insert("\n    ").wait(0.5).change(Change((1, 0, 1, 4), ""))
        assert desk.ended == []
        assert desk.wait(GRACE_S).summary() == ("deleted", "inferred", "", 0)

    def test_over_two_servings_of_one_idea(self) -> None:
        desk = bite(Desk().serve("\n    c = d", "s1", "idea"), "\n    ", 5).request().serve("c = d", "s2", "idea")
        desk.ended.clear()
        assert bite(desk, "c", 1, "s2").insert(" = d").command("s2").summary() == ("accepted", "command", "", 10)


class TestFastTyping:
    """A client that says what has changed every 150 ms only, as Neovim does."""

    def test_typed_to_the_end_and_on_in_one_batch(self) -> None:
        keys = [Change((0, at, 0, at), key) for at, key in enumerate("a + b  # so", start=4)]
        desk = Desk().serve("a + b").change(*keys).wait(GRACE_S)
        assert desk.summary() == ("typed_through", "inferred", "", 0)

    def test_the_same_text_elsewhere_is_another_cursor(self) -> None:
        desk = Desk().serve("a + b").change(Change((0, 4, 0, 4), "a + b"), Change((1, 0, 1, 0), "a + b")).wait(GRACE_S)
        assert desk.summary()[:3] == ("moved_on", "inferred", "multi_cursor")


class TestNobodySays:
    def test_a_sign_between_two_words_was_taken_with_them(self) -> None:
        desk = Desk().serve("count, a + b").insert("count").wait(0.3).insert(",").wait(0.3).insert(" a").wait(0.3).insert("x")
        assert desk.summary() == ("partially_accepted", "inferred", "disagreed", 8)

    def test_so_it_was_where_the_idea_was_served_in_between(self) -> None:
        desk = Desk().serve("count, a + b", "s1", "idea").insert("count").request().serve(", a + b", "s2", "idea")
        desk.insert(",").request().serve(" a + b", "s3", "idea").insert(" a").insert("x")
        assert [end.detail for end in desk.ended] == ["reserved", "reserved", "disagreed"]
        assert desk.ended[-1].accepted_chars == 8

    def test_a_sign_at_the_end_or_several_were_typed(self) -> None:
        desk = Desk().serve("count, a + b").insert("count").wait(0.3).insert(",").wait(0.3).insert("x")
        assert desk.summary() == ("partially_accepted", "inferred", "disagreed", 5)
        desk = Desk().serve("count), a + b").insert("count").keys("),").insert(" a").insert("x")
        assert desk.summary() == ("partially_accepted", "inferred", "disagreed", 7)

    def test_a_line_begun_at_its_place_disagrees(self) -> None:
        assert Desk().serve("compute(1)").insert("\n").summary()[0] == "disagreed"
        # A client that sends all of the text: what has changed may as well have come in below.
        whole = Desk().serve("compute(1)").change(Change(None, "x = \n    \nrest\n")).wait(GRACE_S)
        assert whole.summary()[0] == "disagreed"

    def test_a_line_begun_below_does_not(self) -> None:
        assert Desk().serve("compute(1)").change(Change((1, 0, 1, 0), "    \n")).wait(GRACE_S).ended == []
        assert Desk().serve("compute(1)").change(Change((0, 4, 1, 0), "\n\n")).wait(GRACE_S).ended == []  # Neovim's `o`
        assert Desk().serve("compute(1)").change(Change(None, "x = \nrest\n\n")).wait(GRACE_S).ended == []
