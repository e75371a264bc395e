from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.agent.edits import FilePatch, decoded, diff_of, lines_of, nearest, parsed_patch, patched, replaced
from coderl_generator.errors import ToolFailed

TEXT = "def f(x):\n    return x + 1\n\n\ndef g(x):\n    return x + 1\n"


def test_one_match_is_replaced() -> None:
    assert replaced(TEXT, "def g(x):\n    return x + 1", "def g(x):\n    return x", "a.py").endswith(
        "def g(x):\n    return x\n"
    )


def test_several_matches_are_named_by_line() -> None:
    with pytest.raises(ToolFailed, match=r"stands 2 times in a\.py, at lines 2, 6"):
        replaced(TEXT, "    return x + 1", "    return x", "a.py")


def test_no_match_shows_the_nearest_text() -> None:
    with pytest.raises(ToolFailed) as caught:
        replaced(TEXT, "def g(y):\n    return y + 1", "", "a.py")
    assert "lines 5-6" in str(caught.value)
    assert str(caught.value).endswith("def g(x):\n    return x + 1")


def test_wrong_indentation_is_said_to_be_all() -> None:
    assert "Only the blanks differ" in nearest("if x:\n        y()\n", "if x:\n    y()")


@pytest.mark.parametrize(("old", "new"), [("", "x"), ("def f", "def f")])
def test_edits_that_are_none(old: str, new: str) -> None:
    with pytest.raises(ToolFailed):
        replaced(TEXT, old, new, "a.py")


def test_line_ends_follow_the_file() -> None:
    assert replaced("a\r\nb\r\nc\r\n", "a\nb", "x\ny", "a.txt") == "x\r\ny\r\nc\r\n"
    assert replaced("a\nb\r\n", "a\nb", "x", "a.txt") == "x\r\n"


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b"])
def test_what_is_no_text(data: bytes) -> None:
    with pytest.raises(ToolFailed):
        decoded(data, "a.bin")


LINES = st.lists(st.sampled_from(["a", "b", "  c", "", "d = 1", "é", "page\x0c", "e\u2028f"]), max_size=12)


@given(LINES, LINES, st.booleans())
def test_our_own_diffs_apply_or_are_refused_and_never_do_something_else(
    before: list[str], after: list[str], whole: bool
) -> None:
    old, new = ("".join(f"{line}\n" for line in lines) for lines in (before, after))
    diff = diff_of(old, new, "a.py")
    if not diff:
        assert old == new
        return
    (patch,) = parsed_patch(diff)
    try:
        result = patched(old, patch, "a.py")
    except ToolFailed:
        return  # several places, or nothing around what is added
    assert result == new


def test_a_patch_with_wrong_counts_and_a_lost_blank_still_applies() -> None:
    diff = "--- a/a.py\n+++ b/a.py\n@@ -99,9 +1,1 @@\n def g(x):\n-    return x + 1\n+    return x\n\n"
    (patch,) = parsed_patch(diff)
    assert patched(TEXT, patch, "a.py") == TEXT[: TEXT.rindex("    return")] + "    return x\n"


def test_lines_end_at_line_feeds_only() -> None:
    assert lines_of("a\x0cb\u2028c\r\nd\n") == ["a\x0cb\u2028c", "d"]
    assert lines_of("") == []
    made = parsed_patch("--- /dev/null\n+++ b/x\n@@ -0,0 +1,2 @@\n+a\x0cb\n+c\n")
    assert made[0].hunks == ((0, ("+a\x0cb", "+c")),)


def test_several_files_and_files_that_come_and_go() -> None:
    diff = "--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+x = 1\n--- a/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-y\n"
    made, removed = parsed_patch(diff)
    assert (made.old, made.new) == (None, "new.py")
    assert (removed.old, removed.new) == ("old.py", None)


@pytest.mark.parametrize(
    "patch",
    ["", "no patch", "@@ -1 +1 @@\n-a\n+b\n", "--- a/x\n+++ b/x\n", "--- a/x\n+++ b/x\n@@ -1 +1 @@\n*a\n"],
)
def test_what_is_no_patch(patch: str) -> None:
    with pytest.raises(ToolFailed):
        parsed_patch(patch)


def test_a_place_that_is_not_clear_is_refused_unless_its_line_is_named() -> None:
    body = ("-    return x + 1", "+    return x")
    with pytest.raises(ToolFailed, match="2 places"):
        patched(TEXT, FilePatch("a.py", "a.py", ((0, body),)), "a.py")
    assert patched(TEXT, FilePatch("a.py", "a.py", ((6, body),)), "a.py").endswith("def g(x):\n    return x\n")


@given(st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_it(text: str, patch: str) -> None:
    try:
        for one in parsed_patch(patch):
            patched(text, one, "a")
    except ToolFailed:
        pass
