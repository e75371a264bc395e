"""Features: total, bounded, missing where not known, and what their names say."""

from __future__ import annotations

import math
import string
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.catalogue import CONTEXT_FEATURES, CONTEXT_NAMES, P1, SUGGESTION_FEATURES, SUGGESTION_NAMES
from coderl_gate.features import LogprobSummary, context_features, suggestion_features
from coderl_gate.lexical import indent_width, is_comment_line, language_group, scan
from coderl_gate.quantiles import QuantileTable
from coderl_gate.suggestion import likeness, used_names
from coderl_store.records import Context, Trigger
from coderl_store.snapshot import Activity, Scope, Syntax

LANGUAGES = ["python", "javascript", "c", "html", "markdown", "shellscript", "sql", "latex", "clojure", "json", "klingon", ""]


def at(before: str, after: str | None = "", language: str = "python", **changes: Any) -> Context:
    """The context of a document that reads `before` up to the cursor and `after` behind it."""
    context = Context(
        id="c",
        at=datetime(2026, 11, 20, tzinfo=UTC),
        session_id="s",
        language=language,
        document_key="d",
        line=before.count("\n"),
        character=len(before) - before.rfind("\n") - 1,
        trigger=Trigger.AUTOMATIC,
        document_chars=None if after is None else len(before) + len(after),
        document_lines=before.count("\n") + 1,
        offset_chars=len(before),
        prefix=before,
        suffix=after,
    )
    return replace(context, **changes)


code = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="ab1_ \t\n\r(){}[]\"'`#/*=:,.;<>-\\%", max_size=120),
    st.lists(st.sampled_from(["def f(x):\n", "    return ", "x", "\n", '"""', "# note", "print(", ")", "'", "\t", "é"])).map(
        "".join
    ),
)
milliseconds = st.none() | st.floats(-10, 1e9)
counts = st.integers(0, 1000)
syntaxes = st.builds(Syntax, st.sampled_from(Scope), counts, counts, st.none() | st.floats(0, 1), st.none() | st.booleans())
activities = st.builds(Activity, milliseconds, counts, counts, counts, counts, st.none() | counts)
contexts = st.builds(
    at,
    code,
    st.none() | code,
    st.sampled_from(LANGUAGES),
    trigger=st.sampled_from(Trigger),
    typing_interval_ms=milliseconds,
    since_edit_ms=milliseconds,
    since_decision_ms=milliseconds,
    session_s=milliseconds,
    recent_accepts=st.lists(st.booleans(), max_size=12).map(tuple),
    syntax=st.none() | syntaxes,
    activity=st.none() | activities,
    since_dismissal_ms=milliseconds,
    cooldown_ms=milliseconds,
    recent_rejections=st.none() | st.lists(code, max_size=5).map(tuple),
    prefix=code | st.none(),
    document_chars=st.none() | st.integers(0, 10**9),
    document_lines=st.none() | st.integers(0, 10**7),
    offset_chars=st.none() | st.integers(0, 10**9),
)
logprob = st.none() | st.floats(-50, 0)
summaries = st.none() | st.builds(LogprobSummary, logprob, logprob, logprob, logprob, st.none() | st.integers(1, 500))
TABLE = QuantileTable.of("g", {name: [-place / 10 for place in range(100)] for name in ("mean", "lowest", "first", "total")})
UNITS = {feature.name: feature.unit for feature in (*CONTEXT_FEATURES, *SUGGESTION_FEATURES)}


def check(values: dict[str, float | None], names: tuple[str, ...]) -> None:
    assert values.keys() == set(names)
    for name, value in values.items():
        if value is None:
            continue
        assert type(value) is float, name
        assert math.isfinite(value), name
        if UNITS[name] == "0 or 1":
            assert value in (0.0, 1.0), name
        if UNITS[name] in ("share", "quantile"):
            assert 0.0 <= value <= 1.0, name
        if UNITS[name].startswith("ln"):
            assert value >= 0.0, name


@given(contexts)
def test_every_context_feature_is_a_finite_number_or_missing(context: Context) -> None:
    values = context_features(context)
    check(values, CONTEXT_NAMES)
    assert values == context_features(context)


@given(contexts, code, summaries, st.none() | st.just(TABLE))
def test_every_suggestion_feature_is_a_finite_number_or_missing(
    context: Context, text: str, logprobs: LogprobSummary | None, table: QuantileTable | None
) -> None:
    check(suggestion_features(context, text, logprobs, table), SUGGESTION_NAMES)


def test_the_catalogue_is_well_formed() -> None:
    features = (*CONTEXT_FEATURES, *SUGGESTION_FEATURES, P1)
    assert len({feature.name for feature in features}) == len(features)
    for feature in features:
        assert feature.name.isidentifier()
        assert feature.unit
        assert feature.doc.endswith(".")
        assert feature.source
    assert {f.name for f in features if f.monotone == 1} >= {"previous_kept", "logprob_mean", "p1"}


def test_nothing_is_known_without_text() -> None:
    values = context_features(at("", None, prefix=None, offset_chars=None, document_lines=None))
    known = {name for name, value in values.items() if value is not None}
    assert known == {
        "line_prefix_chars", "line_number", "invoked", "kept_last_5", "kept_last_10", "recent_outcomes", "rejected_in_row",
        "language_indented", "language_braces", "language_markup", "language_prose", "language_shell",
    }  # fmt: skip


def test_an_imported_log_without_text_after_the_cursor_leaves_that_missing() -> None:
    values = context_features(at("x = 1\ny", None, document_chars=40))
    for name in ("rest_blank", "rest_closers", "rest_chars", "next_line_deeper"):
        assert values[name] is None
    assert values["suffix_chars"] == pytest.approx(math.log1p(33))
    suggestion = suggestion_features(at("x = 1\ny", None), " = 2")
    assert [suggestion[name] for name in ("s_duplicates_next", "s_repeats_rest", "s_ends_line")] == [None] * 3
    assert suggestion["s_duplicates_previous"] == 0.0


@given(code, code, st.sampled_from(LANGUAGES))
def test_text_beyond_the_window_changes_nothing(before: str, after: str, language: str) -> None:
    near = "\n".join("value = other(value)" for _ in range(250)) + "\n" + before
    far = replace(at(near, after, language), offset_chars=10**6, document_chars=10**6 + len(after), character=7)
    assert context_features(far) == context_features(replace(far, prefix="different()\n" * 50 + near))
    assert suggestion_features(far, after) == suggestion_features(replace(far, prefix="different()\n" * 50 + near), after)


def feature(name: str, before: str, after: str | None = "", language: str = "python", **changes: Any) -> float | None:
    return context_features(at(before, after, language, **changes))[name]


@pytest.mark.parametrize(
    ("name", "before", "language", "value"),
    [
        ("line_prefix_chars", "a\n    foo", "python", math.log1p(7)),
        ("line_trimmed_chars", "a\n    foo  ", "python", math.log1p(7)),
        ("indent_chars", "a\n\t x", "python", math.log1p(5)),
        ("line_blank", "a\n   ", "python", 1.0),
        ("line_blank", "a\n  b", "python", 0.0),
        ("line_brackets", "f(g[1], h(", "python", 2.0),
        ("line_brackets", "f('((', ", "python", 1.0),
        ("line_has_assignment", "x = ", "python", 1.0),
        ("line_has_assignment", "x == y", "python", 0.0),
        ("line_has_assignment", "x <= y", "python", 0.0),
        ("line_in_string", "x = 'abc", "python", 1.0),
        ("line_in_string", "x = 'abc'", "python", 0.0),
        ("line_in_string", r"x = 'a\'b", "python", 1.0),
        ("line_in_string", "x = 'a\"b'", "python", 0.0),
        ("line_in_comment", "x  # it", "python", 1.0),
        ("line_in_comment", "x = '# it'", "python", 0.0),
        ("line_in_comment", "x // it", "c", 1.0),
        ("line_in_comment", "x /* it */ y", "c", 0.0),
        ("line_in_comment", "x // y", "python", 0.0),
        ("line_in_comment", "#include", "c", 0.0),
        ("line_in_comment", "-- it", "sql", 1.0),
        ("line_in_comment", "<!-- it", "html", 1.0),
        ("in_docstring", 'def f():\n    """Say\n    ', "python", 1.0),
        ("in_docstring", 'def f():\n    """Say"""\n    ', "python", 0.0),
        ("in_docstring", "'''a \"\"\" b'''\n", "python", 0.0),
        ("in_docstring", '"""', "javascript", 0.0),
        ("line_is_import", "from os import ", "python", 1.0),
        ("line_is_import", "#include <", "c", 1.0),
        ("line_is_import", "important = ", "python", 0.0),
        ("line_repeats", "foo(1)\nbar\n  foo(", "python", 1.0),
        ("line_repeats", "foo(1)\nbar\n  baz(", "python", 0.0),
        ("last_space", "x = ", "python", 1.0),
        ("solid_operator", "x = ", "python", 1.0),
        ("last_operator", "x = ", "python", 0.0),
        ("last_open_bracket", "f(", "python", 1.0),
        ("last_close_bracket", "f()", "python", 1.0),
        ("last_digit", "x1", "python", 1.0),
        ("last_alnum", "x1", "python", 1.0),
        ("last_quote", 'x = "', "python", 1.0),
        ("last_colon", "if x:", "python", 1.0),
        ("last_comma", "f(a,", "python", 1.0),
        ("last_dot", "a.", "python", 1.0),
        ("last_semicolon", "a;", "c", 1.0),
        ("last_alnum", "abc\n", "python", 0.0),
        ("word_chars", "foo bar_1", "python", 5.0),
        ("word_chars", "foo ", "python", 0.0),
        ("word_is_keyword", "return ", "python", 1.0),
        ("word_is_value", "return ", "python", 1.0),
        ("word_is_block", "elif", "python", 1.0),
        ("word_is_block", "elif_", "python", 0.0),
        ("word_repeats", "foo = foo\nfoo", "python", math.log1p(2)),
        ("previous_line_chars", " ab \nc", "python", math.log1p(2)),
        ("previous_line_blank", "a\n\nb", "python", 1.0),
        ("previous_line_opens", "def f():\n  ", "python", 1.0),
        ("previous_line_opens", "f(\n  ", "python", 1.0),
        ("previous_line_comment", "  # so\nx", "python", 1.0),
        ("previous_line_comment", " * so\nx", "java", 1.0),
        ("indent_change_chars", "if x:\n\n    ", "python", 4.0),
        ("line_number", "a\nb\nc", "python", math.log1p(2)),
        ("relative_position", "abcd", "python", 1.0),
        ("language_indented", "", "python", 1.0),
        ("language_prose", "", "markdown", 1.0),
    ],
)
def test_what_stands_before_the_cursor(name: str, before: str, language: str, value: float) -> None:
    assert feature(name, before, "", language) == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "before", "after", "value"),
    [
        ("rest_blank", "f(", "  \nx", 1.0),
        ("rest_blank", "f(", ")\nx", 0.0),
        ("rest_closers", "f(", ")];\r\nx", 1.0),
        ("rest_closers", "f(", "a)\nx", 0.0),
        ("rest_chars", "f(", "abc \nx", math.log1p(3)),
        ("suffix_chars", "f(", ")\nx", math.log1p(3)),
        ("next_line_deeper", "def f():", "\n\n    pass\n", 1.0),
        ("next_line_deeper", "    x", "\n    pass", 0.0),
        ("next_line_deeper", "    x", "\n", 0.0),
        ("relative_position", "ab", "cdefgh", 0.25),
        ("relative_position", "", "", 0.0),
    ],
)
def test_what_stands_after_the_cursor(name: str, before: str, after: str, value: float) -> None:
    assert feature(name, before, after) == pytest.approx(value)


def test_a_docstring_is_unknown_where_the_window_does_not_begin_the_document() -> None:
    assert feature("in_docstring", 'x = """a', "", offset_chars=5_000) is None
    assert feature("in_docstring", 'x = """a', "", offset_chars=None) is None


def test_inside_a_docstring_signs_are_text() -> None:
    assert feature("line_in_comment", '"""\nsee # 5') == 0.0
    assert feature("line_in_string", '"""\nsee # 5') == 1.0
    assert feature("line_brackets", '"""\n((') == 0.0


def test_rhythm_and_memory() -> None:
    values = context_features(
        at("", "", trigger=Trigger.INVOKED, typing_interval_ms=99, since_edit_ms=9, since_decision_ms=1_000, session_s=-1)
    )
    assert values["invoked"] == 1.0
    assert values["typing_interval"] == pytest.approx(math.log(100))
    assert values["since_edit"] == pytest.approx(math.log(10))
    assert values["since_decision"] == pytest.approx(math.log(2))
    assert values["session_age"] == 0.0
    assert (values["previous_kept"], values["kept_last_5"], values["kept_last_10"]) == (None, 0.3, 0.3)

    values = context_features(at("", "", recent_accepts=(True, False, False)))
    assert (values["previous_kept"], values["recent_outcomes"], values["rejected_in_row"]) == (0.0, 3.0, 2.0)
    assert values["kept_last_5"] == pytest.approx(0.6 * (1 / 3) + 0.4 * 0.3)
    assert values["kept_last_10"] == pytest.approx(0.3 * (0.64 / (1 + 0.8 + 0.64)) + 0.7 * 0.3)
    assert context_features(at("", "", recent_accepts=(True,) * 10))["kept_last_10"] == pytest.approx(1.0)


def test_syntax_tells_what_the_line_cannot() -> None:
    """Inside a string that began far above, signs on the line are text, and a `#` begins no comment."""
    inside = at("x # y", "", syntax=Syntax(Scope.STRING, 2, 3, 0.25, False), offset_chars=9_000)
    values = context_features(inside)
    assert (values["line_in_string"], values["line_in_comment"], values["in_docstring"]) == (1.0, 0.0, 1.0)
    assert (values["scope_call"], values["scope_block"], values["scope_share"], values["line_mended"]) == (0.0, 0.0, 0.25, 0.0)
    assert values["scope_depth"] == pytest.approx(math.log(3))
    assert values["scope_index"] == pytest.approx(math.log(4))
    unsure = context_features(replace(inside, syntax=Syntax(Scope.CLASS, 0, 0, None, True), offset_chars=5))
    assert unsure["line_in_comment"] == 1.0  # a line that had to be mended is read by the rules of the line
    assert (unsure["scope_share"], unsure["line_mended"]) == (None, 1.0)
    for scope, name in ((Scope.ARGUMENTS, "scope_call"), (Scope.PARAMETERS, "scope_call"), (Scope.BLOCK, "scope_block")):
        assert feature(name, "x", "", syntax=Syntax(scope, 0, 0, None, False)) == 1.0
    assert feature("scope_depth", "x") is None


def test_what_was_edited_lately() -> None:
    activity = Activity(99.0, added_chars=9, deleted_chars=4, deletions=1, undone=2, lines_away=3)
    values = context_features(at("", "", activity=activity, since_dismissal_ms=1_000, cooldown_ms=4_000))
    assert values["typing_spread"] == pytest.approx(math.log(100))
    assert values["added_chars"] == pytest.approx(math.log(10))
    assert values["deleted_chars"] == pytest.approx(math.log(5))
    assert values["deletions"] == pytest.approx(math.log(2))
    assert values["undone"] == 2.0
    assert values["edit_distance"] == pytest.approx(math.log(4))
    assert values["since_dismissal"] == pytest.approx(math.log(2))
    assert values["cooldown"] == pytest.approx(math.log(5))
    elsewhere = replace(activity, lines_away=None, spread_ms=None)
    values = context_features(at("", "", activity=elsewhere, cooldown_ms=0.0))
    assert [values[name] for name in ("edit_distance", "typing_spread", "since_dismissal", "cooldown")] == [None, None, None, 0]


@pytest.mark.parametrize(
    ("before", "after", "text", "language", "value"),
    [
        ("x = f(", "\n", "1)", "python", -1.0),
        ("x = f(1)", "\n", "\ny = (", "python", 1.0),
        ("x = 1\n", "y = 2\n", "z = 3\n", "python", 0.0),
        ("x = 1\n", "y = 2\n", ") ] }\n", "python", 1.0),
        ("f(", ");", "1", "javascript", 0.0),
        ("x", "", "y", "klingon", None),
    ],
)
def test_syntax_errors_that_a_suggestion_adds_or_mends(
    before: str, after: str, text: str, language: str, value: float | None
) -> None:
    assert suggestion_features(at(before, after, language), text)["s_mended"] == value


@pytest.mark.parametrize(
    ("begun", "text", "language", "names"),
    [
        ("", "total = price * rate", "python", {"price", "rate"}),
        ("pri", "ce + 1", "python", {"price"}),
        ("", "self.items.append(item)", "python", {"item"}),
        ("", "for a, b in zip(c, d): print(a, key=b)", "python", {"c", "d"}),
        ("", "'name' + other  # why", "python", {"other"}),
        ("", "const a = b; // c", "javascript", {"b"}),
        ("", "return None", "python", set()),
        ("", "x == y", "python", {"x", "y"}),
    ],
)
def test_names_that_a_text_uses_without_defining_them(begun: str, text: str, language: str, names: set[str]) -> None:
    assert used_names(begun, text, language) == names


def test_names_that_stand_nowhere_are_unresolved() -> None:
    far = "import json\n" + "x = 1\n" * 400
    assert suggestion_features(at(far + "y = ", ""), "json.dumps(x)")["s_unresolved"] == 0.0
    assert suggestion_features(at("y = ", ""), "json.dumps(x)")["s_unresolved"] == pytest.approx(math.log(3))
    assert suggestion_features(at("y = ", "", prefix=None), "json.dumps(x)")["s_unresolved"] is None


def test_likeness_to_what_was_rejected() -> None:
    known = at("y = ", "", recent_rejections=("return json.dumps(x)", "other"))
    assert suggestion_features(known, "return json.dumps(x)")["s_like_rejected"] == 1.0
    assert 0.0 < (suggestion_features(known, "json.loads(y)")["s_like_rejected"] or 0.0) < 1.0
    assert suggestion_features(at("", "", recent_rejections=()), "x")["s_like_rejected"] == 0.0
    assert suggestion_features(at("", ""), "x")["s_like_rejected"] is None


@given(code, code)
def test_likeness_is_symmetric_and_a_share(one: str, other: str) -> None:
    assert likeness(one, other) == likeness(other, one)
    assert 0.0 <= likeness(one, other) <= 1.0
    assert likeness(one, one) in (0.0, 1.0)


@given(st.lists(st.booleans(), max_size=9), st.sampled_from(["kept_last_5", "kept_last_10", "previous_kept"]))
def test_a_kept_suggestion_raises_what_a_rejected_one_lowers(history: list[bool], name: str) -> None:
    kept = feature(name, "", "", recent_accepts=(*history, True))
    rejected = feature(name, "", "", recent_accepts=(*history, False))
    assert kept is not None
    assert rejected is not None
    assert kept > rejected


@pytest.mark.parametrize(
    ("name", "before", "after", "text", "value"),
    [
        ("s_chars", "", "", "abc", math.log1p(3)),
        ("s_lines", "", "", "\na\n\nb\n", math.log1p(2)),
        ("s_multi_line", "", "", "\n    return x", 0.0),
        ("s_multi_line", "", "", "a\nb", 1.0),
        ("s_first_line_chars", "", "", "ab\ncde", math.log1p(2)),
        ("s_starts_space", "x", "", " = 1", 1.0),
        ("s_starts_newline", "x", "", "\ny", 1.0),
        ("s_starts_closer", "f(", "", ")", 1.0),
        ("s_starts_word", "x", "", "_y", 1.0),
        ("s_continues_word", "pri", "", "nt()", 1.0),
        ("s_continues_word", "pri", "", "()", 0.0),
        ("s_continues_word", "pri ", "", "nt", 0.0),
        ("s_ends_open", "", "", "f(a, ", 1.0),
        ("s_ends_open", "", "", "f(a)", 0.0),
        ("s_ends_line", "f(", " \nx", "a)", 1.0),
        ("s_ends_line", "f(", ")\nx", "a", 0.0),
        ("s_ends_line", "f(", ")\nx", "a\n", 1.0),
        ("s_bracket_balance", "", "", "f(g(", 2.0),
        ("s_bracket_balance", "f(", "", "x))", -2.0),
        ("s_closes_line", "f(g(", "", "x))", 1.0),
        ("s_closes_line", "f(g(", "", "x)", 0.0),
        ("s_overcloses", "f(", "", "x))", 1.0),
        ("s_overcloses", "f(", "", "x)", 0.0),
        ("s_overcloses", "", "", "f)(", 1.0),
        ("s_overcloses", "f(", "", "g(\n))", 0.0),
        ("s_overcloses", "f(", "", "g(\n)))", 1.0),
        ("s_overcloses", "f(", "", "')))'", 0.0),
        ("s_open_string", "x = ", "", "'abc", 1.0),
        ("s_open_string", "x = '", "", "abc'", 0.0),
        ("s_open_string", "x = '", "'", "abc", 0.0),
        ("s_duplicates_next", "x", "\n    y = 1\n", "\n    y = 1", 1.0),
        ("s_duplicates_next", "    re", "\n    return\n", "turn", 1.0),
        ("s_duplicates_next", "x", "\n    y = 1\n", " = 2", 0.0),
        ("s_duplicates_next", "x", "\n", " = 2", 0.0),
        ("s_duplicates_previous", "  foo()\n  fo", "", "o()\n  bar()", 1.0),
        ("s_duplicates_previous", "  foo()\n  fo", "", "o(1)", 0.0),
        ("s_duplicates_previous", "", "", "", 0.0),
        ("s_repeats_rest", "f(", ")", "a)", 1.0),
        ("s_repeats_rest", "f(", ")", "a", 0.0),
        ("s_repeats_rest", "f(", "", "a)", 0.0),
        ("s_repetition", "", "", "a b c d", 0.0),
        ("s_repetition", "", "", "a a a a a", 0.75),
        ("s_known_names", "alpha = beta\n", "", "alpha + gamma", 0.5),
        ("s_known_names", "x\n", "\ngamma = 1", "gamma", 1.0),
        ("s_known_names", "x\n", "", "return 1", None),
        ("s_names", "", "", "if a and b: a", math.log1p(2)),
        ("s_comment", "", "", "# why", 1.0),
        ("s_comment", "# so ", "", "it is", 1.0),
        ("s_comment", "", "", "x\n# why", 0.0),
        ("s_prints", "    pri", "", "nt(x)", 1.0),
        ("s_prints", "", "", "sprint(x)", 0.0),
        ("s_digit_share", "", "", "a1b2", 0.5),
        ("s_space_share", "", "", "a b\n", 0.5),
    ],
)
def test_what_the_suggestion_looks_like(name: str, before: str, after: str, text: str, value: float | None) -> None:
    assert suggestion_features(at(before, after), text)[name] == (None if value is None else pytest.approx(value))


def test_log_probs_enter_as_ranks_only() -> None:
    logprobs = LogprobSummary(-5.0, -9.9, 0.0, None, 12)
    without = suggestion_features(at("x"), "y", logprobs, None)
    assert without["s_tokens"] == pytest.approx(math.log1p(12))
    assert {without[f"logprob_{name}"] for name in ("mean", "lowest", "first", "total")} == {None}
    ranked = suggestion_features(at("x"), "y", logprobs, TABLE)
    assert ranked["logprob_mean"] == pytest.approx(0.4949, abs=1e-3)
    assert (ranked["logprob_lowest"], ranked["logprob_first"], ranked["logprob_total"]) == (0.0, 1.0, None)


# -- the lexical scan ----------------------------------------------------------------------------------------------------------


@given(st.text(alphabet=string.printable, max_size=60), st.sampled_from(LANGUAGES))
def test_scan_is_total_and_its_lowest_is_below_its_depth(text: str, language: str) -> None:
    state = scan(text.replace("\n", " "), language)
    assert state.lowest <= min(0, state.depth)


@given(st.text(alphabet="ab(){}[]\"'#\\ ", max_size=40), st.integers(0, 40))
def test_scanning_in_two_pieces_is_scanning_at_once(text: str, cut: int) -> None:
    first, second = text[:cut], text[cut:]
    if first.endswith("\\") or first[-2:].strip("\"'") != first[-2:] or second[:2].strip("\"'") != second[:2]:
        return  # an escape or a triple quote would be cut in two
    whole, one = scan(text, "python"), scan(first, "python")
    two = scan(second, "python", one.string, one.comment)
    assert (whole.string, whole.comment) == (two.string, two.comment)
    assert whole.depth == one.depth + two.depth
    assert whole.lowest == min(one.lowest, one.depth + two.lowest)


def test_small_lexical_facts() -> None:
    assert indent_width("\t  x") == 6
    assert indent_width("") == 0
    assert language_group("rust") == "braces"
    assert language_group("klingon") == "other"
    assert is_comment_line("  // x", "go")
    assert not is_comment_line("  # x", "go")
    assert not is_comment_line("   ", "python")
