"""The label against texts whose answer is plain, and its laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.counterfactual import (
    FIRST_LOOK_S,
    LAST_LOOK_S,
    MIN_PART_CHARS,
    agreement,
    horizon_s,
    label,
    looked_at,
)
from coderl_store.shadow import ShadowVerdict

KEEP, PART = ShadowVerdict.WOULD_KEEP, ShadowVerdict.WOULD_KEEP_PART
REJECT, UNKNOWN = ShadowVerdict.WOULD_REJECT, ShadowVerdict.UNKNOWN

code = st.text(alphabet="ab_1 (.\n\t=", max_size=30)
visible = code.filter(lambda text: bool(text.strip()))


@pytest.mark.parametrize(
    ("suggested", "typed", "verdict", "agreed"),
    [
        ("return x", "return x", KEEP, 8),
        ("return x", "return x\n    y = 1", KEEP, 8),
        ("return x  ", "return x", KEEP, 10),
        ("return x\n", "return x", KEEP, 9),
        ("if a:\n    b()", "if a: \r\n\tb()\r\n", KEEP, 13),  # re-indented, other line ends, a trailing blank
        ("val", "value", KEEP, 3),  # right as far as it goes
        ("return x", "return y", PART, 7),
        ("first(a)\nsecond(b)", "first(a)\nthird(c)", PART, 9),
        ("value_a = 1", "value_b = 1", REJECT, 6),  # no word of it agrees
        ("val + 1", "value", REJECT, 3),  # nor does its first
        ("a = 1", "a = 2", REJECT, 4),  # too short to be worth a key
        ("x", "y", REJECT, 0),
        ("x", "\n", REJECT, 0),
        ("return x", "", UNKNOWN, 0),
        ("return x", "retu", UNKNOWN, 4),
        ("return x", "return", PART, 6),  # so far
        ("return x + y", "return x", PART, 8),
        ("  ", "abc", UNKNOWN, 0),
        ("    a", "  a", REJECT, 2),  # the first line's indentation is part of what is accepted
    ],
)
def test_plain_cases(suggested: str, typed: str, verdict: ShadowVerdict, agreed: int) -> None:
    found = label(suggested, typed)
    assert (found.verdict, found.agreed_chars, found.typed_chars) == (verdict, agreed, len(typed))


@given(visible, code)
def test_what_is_typed_to_the_letter_is_kept_whatever_follows(suggested: str, more: str) -> None:
    found = label(suggested, suggested + "\n" + more)
    assert (found.verdict, found.agreed_chars) == (KEEP, len(suggested))


@given(code, code)
def test_a_label_stays_within_its_texts(suggested: str, typed: str) -> None:
    found = label(suggested, typed)
    assert 0 <= found.agreed_chars <= len(suggested)
    assert 0 <= found.typed_chars <= min(len(typed), looked_at(len(suggested)))
    if found.verdict is PART:
        assert len("".join(suggested[: found.agreed_chars].split())) >= MIN_PART_CHARS
    if found.verdict is KEEP:
        assert "".join(typed.split()).startswith("".join(suggested.split()))


@given(code, code, code)
def test_typing_on_never_unsays_what_agreed(suggested: str, typed: str, more: str) -> None:
    before, after = agreement(suggested, typed), agreement(suggested, typed + more)
    assert after.chars >= before.chars
    assert after.whole or not before.whole
    if before.parted:
        assert after == before


@given(visible, st.integers(0, 30), code)
def test_rejected_means_that_something_else_stands_there(suggested: str, cut: int, other: str) -> None:
    """A rejection names a difference that is there; without one the label is unknown or a part."""
    typed = suggested[: min(cut, len(suggested) - 1)]
    assert label(suggested, typed).verdict is not REJECT
    found = agreement(suggested, typed + other)
    if found.parted:
        assert not found.whole
        assert found.next_typed


@given(visible, code)
def test_what_an_editor_changes_changes_no_label(suggested: str, typed: str) -> None:
    reindented = "\n".join(line.rstrip(" \t") for line in typed.split("\n"))
    windows = typed.replace("\n", "\r\n")
    deeper = typed.replace("\n", "\n  ")
    verdict = label(suggested, typed).verdict
    if typed.strip() and not typed[-1].isspace():
        assert {label(suggested, other).verdict for other in (reindented, windows, deeper)} == {verdict}


def test_only_so_much_is_compared() -> None:
    found = label("abc", "abc" + "x" * 10_000)
    assert (found.verdict, found.typed_chars) == (KEEP, looked_at(3))


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_longer_suggestions_wait_longer_within_bounds(a: int, b: int) -> None:
    shorter, longer = sorted((a, b))
    assert FIRST_LOOK_S <= horizon_s(shorter) <= horizon_s(longer) <= LAST_LOOK_S
