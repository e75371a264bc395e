from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.costs import CostParameters, realised_s
from coderl_generator.backend import FinishReason
from coderl_generator.extract import Extracted
from coderl_generator.stop_rules import Reason
from coderl_trainer import reward_parts as parts
from coderl_trainer.types import Task, TaskKind
from coderl_trainer.verdicts import Cause, Judgement, Outcome, TestResult, Ungraded

TASK = Task(
    "t",
    TaskKind.INFILL,
    "def add(a, b):\n    ",
    suffix="\n",
    visible_tests=("assert add(1, 2) == 3", "assert add(0, 0) == 0"),
    reference="return a + b",
    entry_point="add",
)
KEPT = replace(TASK, visible_tests=(), entry_point="")
BROKEN = Ungraded("the jail did not start", Cause.GRADER)
PRIOR = CostParameters()
CODE = st.text(st.sampled_from("ab +=()\n#"), max_size=40)
FLAGS = st.lists(st.booleans(), min_size=1, max_size=8)


def judged(*passed: bool, compiled: bool = True, cpu_ms: float | None = 20.0, hidden: tuple[bool, ...] = ()) -> Judgement:
    results = [tuple(TestResult(Outcome.PASSED if one else Outcome.FAILED) for one in flags) for flags in (passed, hidden)]
    return Judgement(compiled, results[0], results[1], cpu_ms, frozenset())


def ended(text: str, reason: Reason) -> Extracted:
    return Extracted(text, (), 0, FinishReason.STOP, reason)


def slow_common(one: str, other: str) -> int:
    """The textbook's table."""
    row = [0] * (len(other) + 1)
    for a in one:
        above = row[:]
        for at, b in enumerate(other, 1):
            row[at] = above[at - 1] + 1 if a == b else max(above[at], row[at - 1])
    return row[-1]


# -- what holds for every part ----------------------------------------------------------------------------------------------

EVERY: tuple[tuple[Any, dict[str, Any]], ...] = (
    (parts.binary, {}),
    (parts.fractional, {}),
    (parts.partial, {"weights": (0.5, 0.5)}),
    (parts.agreement, {}),
    (parts.seconds_saved, {"costs": PRIOR}),
    (parts.compiles, {}),
    (parts.efficiency, {"reference_cpu_ms": 10.0}),
    (parts.quality, {}),
)


@pytest.mark.parametrize(("part", "more"), EVERY)
def test_of_an_ungraded_program_nothing_is_known(part: Any, more: dict[str, Any]) -> None:
    assert part(TASK, "return a + b", BROKEN, **more) is None
    assert part(KEPT, "return a + b", BROKEN, **more) is None


@given(FLAGS, st.lists(st.booleans(), max_size=4), st.lists(st.booleans(), max_size=4), CODE, st.booleans())
def test_hidden_tests_make_no_reward(
    visible: list[bool], one: list[bool], other: list[bool], text: str, compiled: bool
) -> None:
    """…and every part lies in [0, 1] but the seconds."""
    task = replace(TASK, visible_tests=tuple(f"assert add({n}, 0) == {n}" for n in range(len(visible))))
    weights = (1 / len(visible),) * len(visible)
    for part, more in (*EVERY[:2], (parts.partial, {"weights": weights}), *EVERY[3:], (parts.similarity, {})):
        told = [part(task, text, judged(*visible, compiled=compiled, hidden=tuple(hidden)), **more) for hidden in (one, other)]
        assert told[0] == told[1]
        assert told[0] is None or part is parts.seconds_saved or 0 <= told[0] <= 1


# -- tests ------------------------------------------------------------------------------------------------------------------


@given(FLAGS)
def test_binary_fractional_and_partial_agree_on_what_is_right(flags: list[bool]) -> None:
    verdict = judged(*flags)
    weights = parts.weights_of_tests([int(flag) for flag in flags], 1)
    told = (
        parts.binary(TASK, "", verdict),
        parts.fractional(TASK, "", verdict),
        parts.partial(TASK, "", verdict, weights=weights),
    )
    assert told[1] == pytest.approx(sum(flags) / len(flags))
    assert [one == 1.0 for one in told] == [all(flags)] * 3
    assert (told[2] or 0) * parts.GRID == int((told[2] or 0) * parts.GRID)


def test_without_a_judge_the_tests_say_nothing() -> None:
    assert parts.binary(TASK, "x", None) is parts.fractional(TASK, "x", None) is None
    assert parts.binary(KEPT, "x", judged()) is None  # a judge that ran no test


@given(st.integers(1, 16).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n), min_size=1, max_size=10))))
def test_weights_sum_to_one_and_hard_tests_weigh_more(drawn: tuple[int, list[int]]) -> None:
    answers, passes = drawn
    weights = parts.weights_of_tests(passes, answers)
    assert math.fsum(weights) == pytest.approx(1)
    assert all(weight > 0 for weight in weights)
    by_rate: dict[int, float] = {}
    for count, weight in zip(passes, weights, strict=True):
        by_rate[count] = by_rate.get(count, 0.0) + weight
    together = [by_rate[count] for count in sorted(by_rate)]
    assert together == sorted(together, reverse=True)


@given(st.integers(1, 30))
def test_many_easy_tests_do_not_outweigh_a_hard_one(easy: int) -> None:
    """Eight answers: every one passes the easy tests, one passes the hard one."""
    weights = parts.weights_of_tests([*[8] * easy, 1], 8)
    only_easy = parts.partial(TASK, "", judged(*[True] * easy, False), weights=weights)
    only_hard = parts.partial(TASK, "", judged(*[False] * easy, True), weights=weights)
    assert only_easy is not None
    assert only_hard is not None
    assert only_hard > 0.85 > 0.15 > only_easy


def test_passes_are_counted_over_the_graded_answers() -> None:
    verdicts = [judged(True, False), None, BROKEN, judged(True, True)]
    assert parts.passes_per_test(verdicts) == ((2, 1), 2)
    assert parts.passes_per_test([None]) == ((), 0)


# -- the text that was kept -------------------------------------------------------------------------------------------------


@given(CODE, CODE)
def test_the_common_subsequence_is_the_textbook_s(one: str, other: str) -> None:
    assert parts.longest_common(one, other) == slow_common(one, other)


@given(CODE, CODE)
def test_likeness_is_a_symmetric_share_and_one_for_equals_only(one: str, other: str) -> None:
    assert 0 <= parts.likeness(one, other) <= 1
    assert parts.likeness(one, other) == parts.likeness(other, one)
    assert (parts.likeness(one, other) == 1) == (one == other)


def test_agreement_is_for_tasks_that_no_test_can_judge() -> None:
    assert parts.agreement(KEPT, "return a + b \n", None) == 1
    assert parts.agreement(KEPT, "", None) == 0
    near, far = parts.agreement(KEPT, "return a - b", None), parts.agreement(KEPT, "pass", None)
    assert near is not None
    assert far is not None
    assert 1 > near > far
    assert parts.agreement(TASK, "return a + b", judged(True, True)) is None


def saved(task: Task, text: str, verdict: parts.Verdict, **more: Any) -> float:
    told = parts.seconds_saved(task, text, verdict, costs=PRIOR, **more)
    assert told is not None
    return told


def test_seconds_are_those_of_the_gate() -> None:
    text = "return a + b"
    assert saved(TASK, text, judged(True, True)) == pytest.approx(realised_s(len(text), len(text), 1, PRIOR))
    assert saved(KEPT, text, None, waited_s=0.5) == pytest.approx(realised_s(len(text), len(text), 1, PRIOR, 0.5))
    assert saved(KEPT, "return a - b", None) == pytest.approx(realised_s(9, len(text), 1, PRIOR))
    assert saved(TASK, text, judged(True, False)) == pytest.approx(realised_s(0, len(text), 1, PRIOR))


def test_silence_saves_nothing_and_nobody_s_judgement_is_none() -> None:
    assert saved(TASK, " \n", judged(False, False)) == 0
    assert parts.seconds_saved(TASK, "return", None, costs=PRIOR) is None


@given(st.integers(0, 60), st.integers(1, 60))
def test_padding_earns_nothing(padding: int, more: int) -> None:
    """A right answer that says more than was wanted saves less, never more."""
    answer = "return a + b"
    short, long = (answer + "  # " + "x" * n for n in (padding, padding + more))
    assert saved(TASK, short, judged(True, True)) > saved(TASK, long, judged(True, True))
    assert saved(KEPT, short, None) > saved(KEPT, long, None)


@given(st.integers(1, 11), st.integers(0, 40))
def test_shortness_earns_nothing(shown: int, wrong: int) -> None:
    """Of the text kept, showing more of it saves more; what is shown beyond it costs its reading only."""
    answer = "return a + b"
    whole, cut = saved(KEPT, answer, None), saved(KEPT, answer[:shown], None)
    assert whole > cut or answer[:shown].strip() == answer
    assert saved(TASK, "z" * (wrong + 1), judged(False, False)) == pytest.approx(-PRIOR.verify_base_s - 0.02 * (wrong + 1))


@given(st.floats(0.9, 0.995), st.integers(1, 6))
def test_the_best_length_is_not_one_token(q: float, chars: int) -> None:
    """Each token of `chars` characters is right with probability q: acceptance is best served by one token, seconds are not."""
    text = "x" * 400
    task = replace(KEPT, reference=text)

    def expected(tokens: int) -> float:
        """Seconds of showing so many tokens, of which the first wrong one spoils the rest."""
        shown = tokens * chars
        first_wrong = [q**right * (1 - q) for right in range(tokens)]
        values = [saved(task, "x" * (right * chars) + "y" * (shown - right * chars), None) for right in range(tokens)]
        return sum(a * b for a, b in zip(first_wrong, values, strict=True)) + q**tokens * saved(task, "x" * shown, None)

    lengths = range(1, 40)
    assert max(lengths, key=lambda tokens: q**tokens) == 1
    assert max(lengths, key=expected) > 1


@given(st.floats(1, 200), st.integers(1, 300))
def test_more_than_full_chars_save_no_more(full: float, chars: int) -> None:
    task = replace(KEPT, reference="x" * chars)
    gain = saved(task, "x" * chars, None, full_chars=full) + PRIOR.verify_base_s + PRIOR.verify_s_per_char * chars
    at_most = (1 - PRIOR.edit_share) * (min(full, chars) / PRIOR.typing_chars_per_s + PRIOR.think_s_per_line)
    assert gain <= at_most + 1e-9


# -- compile and form -------------------------------------------------------------------------------------------------------


def test_compiles_by_the_judge_or_by_parsing() -> None:
    assert parts.compiles(TASK, "return (", judged(False, False, compiled=False)) == 0
    assert parts.compiles(TASK, "return (", judged(False, False)) == 1  # the judge knows better
    assert parts.compiles(KEPT, "return '\\d'", None) == 1  # a doubtful escape is no error, and no warning here
    assert parts.compiles(KEPT, "return (", None) == 0
    assert parts.compiles(KEPT, "return " + "(" * 5000, None) == 0
    assert parts.compiles(KEPT, "return \0", None) == 0
    assert parts.compiles(replace(KEPT, language="go"), "return a", None) is None
    assert parts.compiles(replace(KEPT, prompt="   half a line of a window\n"), "return a", None) is None


@pytest.mark.parametrize("reason", list(Reason))
def test_a_text_is_well_formed_where_it_ended_by_itself(reason: Reason) -> None:
    bad = {
        Reason.LENGTH,
        Reason.DEADLINE,
        Reason.FENCE,
        Reason.MARKER,
        Reason.MAX_CHARS,
        Reason.REPETITION,
        Reason.UNPROMISING,
        Reason.TOO_SHORT,
        Reason.UNLIKELY,
        Reason.MISMATCH,
    }
    assert parts.well_formed(TASK, "x", None, extracted=ended("x", reason)) == (reason not in bad)
    assert parts.well_formed(TASK, " ", None, extracted=ended(" ", reason)) == 0
    assert parts.well_formed(TASK, "x", None) == 1


# -- trace ------------------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0.1, 1e3))
def test_efficiency_falls_with_time_and_wrong_programs_have_none(fast: float, more: float, reference: float) -> None:
    def of(cpu_ms: float | None, passed: bool = True) -> float | None:
        return parts.efficiency(TASK, "", judged(passed, cpu_ms=cpu_ms), reference_cpu_ms=reference)

    quick, slow = of(fast), of(fast + more)
    assert quick is not None
    assert slow is not None
    assert 1 >= quick >= slow > 0
    assert of(reference) == 1
    assert of(fast, passed=False) == 0
    assert of(None) is None


def test_noise_is_no_difference() -> None:
    told = [parts.efficiency(TASK, "", judged(True, cpu_ms=ms), reference_cpu_ms=20.0) for ms in (18.0, 25.0, 35.0, 350.0)]
    assert told == [1, 1, 1, 0.1]
    assert parts.efficiency(TASK, "", judged(True)) is None


FINDINGS = st.dictionaries(st.sampled_from(["F401", "F821", "B006"]), st.integers(0, 5))


@given(FINDINGS, FINDINGS)
def test_only_new_findings_count(findings: dict[str, int], before: dict[str, int]) -> None:
    told = parts.quality(TASK, "", None, findings=findings, before=before)
    assert told is not None
    assert 0 <= told <= 1
    assert (told == 1) == all(count <= before.get(rule, 0) for rule, count in findings.items())
    assert parts.quality(TASK, "", None, findings=before, before=before) == 1


def test_a_program_that_is_none_has_no_quality() -> None:
    assert parts.quality(TASK, "", None, findings={parts.SYNTAX: 1}, before={}) == 0
    assert parts.quality(TASK, "", None, findings={}, before={parts.SYNTAX: 1}) is None
    assert parts.quality(TASK, "", None, findings={"F821": 2}, before={"F821": 1}) == 0.75


BEFORE = "def total(values):\n    result = 0\n    for value in values:\n        result -= value\n    return result\n"
REPAIR = Task(
    "r",
    TaskKind.REPAIR,
    "# wrong …\n",
    stem="",
    reference=BEFORE.replace("-=", "+="),
    metadata=MappingProxyType({"before": BEFORE}),
)


def test_a_comment_in_the_right_place_is_no_fix() -> None:
    """The case in which a similarity of whole diffs put the comment (0.90) above the rewritten fix (0.88)."""
    comment = BEFORE.replace("        result -= value", "        # result is changed here\n        result -= value")
    rewritten = BEFORE.replace("result -= value", "result = result + value")
    told = [parts.similarity(REPAIR, text, None) for text in (BEFORE, comment, rewritten, REPAIR.reference or "")]
    assert told[0] == told[1] == 0
    assert told[2] is not None
    assert 0.5 < told[2] <= 1
    assert told[3] == 1


def test_nothing_is_gained_above_the_cap() -> None:
    near = parts.similarity(TASK, "return a + c", None)
    assert near == parts.similarity(TASK, "return a + b", None) == 1
    strict = parts.similarity(TASK, "return a + c", None, cap=1.0)
    assert strict is not None
    assert strict < 1


def test_without_knowing_what_changed_there_is_no_similarity() -> None:
    assert parts.similarity(replace(REPAIR, metadata=MappingProxyType({})), BEFORE, None) is None
    assert parts.similarity(replace(TASK, reference=None), "x", None) is None
