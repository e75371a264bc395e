from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.backend import FinishReason
from coderl_generator.extract import Extracted
from coderl_generator.stop_rules import Reason
from coderl_trainer.environment import Environment
from coderl_trainer.errors import JailMissing, RewardError
from coderl_trainer.groups import Action, group_verdict
from coderl_trainer.judge import Judge, open_judge
from coderl_trainer.reward_parts import SYNTAX
from coderl_trainer.rewards import LEVELS, Attempt, Level, RewardConfig, Rewards
from coderl_trainer.tasks import shipped_tasks
from coderl_trainer.types import Sample, StopReason, Task, TaskKind
from coderl_trainer.verdicts import Cause, Judgement, Outcome, TestResult, Ungraded

TESTS = 3
TASK = Task(
    "t",
    TaskKind.INFILL,
    "def add(a, b):\n    ",
    suffix="\n",
    visible_tests=tuple(f"assert add({n}, 1) == {n + 1}" for n in range(TESTS)),
    reference="return a + b",
)
KEPT = replace(TASK, visible_tests=())
BROKEN = Ungraded("the jail did not start", Cause.GRADER)


class Notes:
    """A linter that finds what the text says it finds."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def findings(self, programs: Sequence[str]) -> list[Mapping[str, int]]:
        self.calls.append(len(programs))
        return [{"F821": program.count("undefined"), **({SYNTAX: 1} if "(((" in program else {})} for program in programs]


class Opinion:
    """A critic that likes long texts, and has no opinion on some."""

    def score(self, task: Task, text: str, extracted: Extracted | None) -> float | None:
        return None if text == "unknown" else len(text) / 10 - 0.5


def judged(passed: Sequence[bool], compiled: bool = True, cpu_ms: float | None = 20.0, hidden: bool = True) -> Judgement:
    results = tuple(TestResult(Outcome.PASSED if one else Outcome.FAILED) for one in passed)
    return Judgement(compiled, results, (TestResult(Outcome.PASSED if hidden else Outcome.FAILED),), cpu_ms, frozenset())


def rewards(config: RewardConfig) -> Rewards:
    return Rewards(config, linter=Notes(), critic=Opinion(), reference_cpu_ms={"t": 4.0})


WEIGHTS = st.dictionaries(st.sampled_from(sorted(LEVELS)), st.floats(1e-3, 100), min_size=1)
JUDGEMENT = st.builds(
    judged,
    st.lists(st.booleans(), min_size=TESTS, max_size=TESTS),
    st.booleans(),
    st.floats(1, 500),
    st.booleans(),
)
TEXT = st.sampled_from(["", "return a + b", "return undefined", "((( undefined undefined", "pass", "return a +  b  # long"])
ATTEMPT = st.builds(
    lambda text, verdict, reason: Attempt(text, verdict, Extracted(text, (), 0, FinishReason.STOP, reason)),
    TEXT,
    JUDGEMENT,
    st.sampled_from([Reason.LINE, Reason.LENGTH]),
)


def value(level: Level, config: RewardConfig, parts: Mapping[str, float | None]) -> float:
    return math.fsum(weight * (parts[name] or 0) for name, weight in config.weights.items() if LEVELS[name] is level)


def step(level: Level, config: RewardConfig) -> float:
    """The smallest difference that counts, from the docs and not from the code."""
    steps = {"fractional": 1 / TESTS, "partial": 1 / 32, "agreement": 1 / 32, "seconds_saved": 0.1}
    spoken = [name for name in config.weights if LEVELS[name] is level and name != "agreement"]
    return min((config.weights[name] * steps.get(name, 1.0) for name in spoken), default=math.inf)


@given(WEIGHTS, st.lists(ATTEMPT, min_size=2, max_size=6))
def test_a_lower_signal_never_outweighs_a_higher_one(weights: dict[str, float], attempts: list[Attempt]) -> None:
    config = RewardConfig(weights)
    told = [one for one in rewards(config).group(TASK, attempts) if one.total is not None]
    outcomes = [name for name in config.weights if LEVELS[name] is Level.OUTCOME]
    for one, other in itertools.permutations(told, 2):
        better = {level: value(level, config, one.parts) - value(level, config, other.parts) for level in Level}
        same_outcome = all(one.parts[name] == other.parts[name] for name in outcomes)
        if better[Level.OUTCOME] >= step(Level.OUTCOME, config) or (
            same_outcome and better[Level.COMPILE] >= step(Level.COMPILE, config)
        ):
            assert one.total > other.total  # type: ignore[operator]


@given(WEIGHTS.filter(lambda weights: {"binary", "fractional"} & set(weights)), ATTEMPT, ATTEMPT)
def test_a_solution_is_worth_more_than_none(weights: dict[str, float], right: Attempt, wrong: Attempt) -> None:
    """With tests as the only outcome: whatever text, form, time, style or the critic say."""
    weights = {name: weight for name, weight in weights.items() if name not in ("seconds_saved", "agreement", "partial")}
    right = replace(right, verdict=judged([True] * TESTS, compiled=False, cpu_ms=1e5))
    wrong = replace(wrong, verdict=judged([True] * (TESTS - 1) + [False], cpu_ms=1.0))
    first, second = rewards(RewardConfig(weights)).group(TASK, [right, wrong])
    assert first.total is not None
    assert second.total is not None
    assert first.total > second.total


@given(WEIGHTS, st.lists(ATTEMPT, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_order_and_hidden_tests_change_nothing(weights: dict[str, float], attempts: list[Attempt], random: Any) -> None:
    config = RewardConfig(weights)
    told = rewards(config).group(TASK, attempts)
    order = list(range(len(attempts)))
    random.shuffle(order)
    turned = [replace(attempts[at], verdict=replace(attempts[at].verdict, hidden=())) for at in order]  # type: ignore[type-var]
    assert [told[at] for at in order] == rewards(config).group(TASK, turned)


@given(WEIGHTS, st.lists(ATTEMPT, min_size=1, max_size=5), st.integers(0, 5))
def test_ungraded_answers_neither_vote_nor_move_others(weights: dict[str, float], attempts: list[Attempt], at: int) -> None:
    config, at = RewardConfig(weights), min(at, len(attempts))
    mixed = rewards(config).group(TASK, [*attempts[:at], Attempt("return a + b", BROKEN), *attempts[at:]])
    assert mixed[at].total is None
    assert set(mixed[at].parts.values()) == {None}
    assert mixed[:at] + mixed[at + 1 :] == rewards(config).group(TASK, attempts)


@given(WEIGHTS, st.lists(ATTEMPT, min_size=1, max_size=5))
def test_every_configured_part_is_told_on_its_own(weights: dict[str, float], attempts: list[Attempt]) -> None:
    told = rewards(RewardConfig(weights)).group(TASK, attempts)
    assert all(set(one.parts) == set(weights) for one in told)


def test_the_default_is_the_plain_weighted_sum() -> None:
    whole = Attempt("return a + b", judged([True] * TESTS))
    wrong = Attempt("return a - b", judged([False] * TESTS))
    broken = Attempt("return (", judged([False] * TESTS, compiled=False))
    told = Rewards().group(TASK, [whole, wrong, broken, Attempt("", judged([False] * TESTS, compiled=False))])
    assert [one.total for one in told] == pytest.approx([1.075, 0.075, 0.025, 0.0])


def test_groups_that_differ_in_form_only_can_be_left_out() -> None:
    assert RewardConfig().tie_breakers == pytest.approx(0.075)
    assert RewardConfig({"critic": 1.0}).tie_breakers == 0
    wrong = [Attempt("return a - b", judged([False] * TESTS)), Attempt("return (", judged([False] * TESTS, compiled=False))]
    right = Attempt("return a + b", judged([True] * TESTS))
    for attempts, action in ((wrong, Action.OTHER_TASK), ([*wrong, right], Action.LEARN)):
        totals = [one.total for one in Rewards().group(TASK, attempts)]
        texts = [one.text for one in attempts]
        assert group_verdict(texts, totals, tolerance=RewardConfig().tie_breakers).action is action


def test_a_lower_level_shrinks_to_half_a_step_at_most() -> None:
    config = RewardConfig({"fractional": 1.0, "compiles": 5.0, "critic": 50.0})
    first, second = rewards(config).group(
        TASK,
        [
            Attempt("p", judged([True, False, False], compiled=False)),
            Attempt("a long text that the critic likes", judged([False] * TESTS)),
        ],
    )
    assert first.total == pytest.approx(1 / TESTS)
    assert second.total == pytest.approx(1 / (2 * TESTS) + 1 / (4 * TESTS))


@given(WEIGHTS, st.lists(ATTEMPT, min_size=2, max_size=6))
def test_answers_of_the_same_outcome_differ_by_the_tie_breakers_at_most(
    weights: dict[str, float], attempts: list[Attempt]
) -> None:
    config = RewardConfig(weights)
    first = min(LEVELS[name] for name in weights)
    told = [one for one in rewards(config).group(TASK, attempts) if one.total is not None]
    for one, other in itertools.combinations(told, 2):
        if all(one.parts[name] == other.parts[name] for name in weights if LEVELS[name] is first):
            assert abs(one.total - other.total) <= max(config.tie_breakers, 1e-9)  # type: ignore[operator]


def test_a_critic_that_does_not_know_an_answer_counts_for_none() -> None:
    config = RewardConfig({"binary": 1.0, "critic": 0.1})
    verdict = judged([False] * TESTS)
    known = rewards(config).group(TASK, [Attempt("a text", verdict), Attempt("another", verdict)])
    assert known[0].total != known[1].total
    mixed = rewards(config).group(TASK, [Attempt("a text", verdict), Attempt("unknown", verdict)])
    assert [one.total for one in mixed] == [0, 0]
    assert mixed[0].parts["critic"] == pytest.approx(0.1)


def test_a_task_from_the_log_is_judged_by_what_was_kept() -> None:
    config = RewardConfig({"binary": 1.0, "agreement": 1.0, "format": 0.01})
    told = Rewards(config).group(KEPT, [Attempt("return a + b"), Attempt("return"), Attempt("")])
    totals = [one.total for one in told]
    assert totals[0] == pytest.approx(1.01)
    assert sorted(totals, key=lambda total: total or 0, reverse=True) == totals
    assert told[0].parts["binary"] is None


def test_a_task_with_tests_that_nobody_judged_has_no_reward() -> None:
    assert Rewards().one(TASK, Attempt("return a + b")).total is None


def test_the_critic_alone_may_be_the_reward() -> None:
    assert rewards(RewardConfig({"critic": 2.0})).one(KEPT, Attempt("1234567")).total == pytest.approx(0.4)


def test_partial_success_weighs_tests_by_the_group() -> None:
    config = RewardConfig({"partial": 1.0})
    easy = [Attempt("a", judged([True, True, False]))] * 7
    told = Rewards(config).group(TASK, [*easy, Attempt("b", judged([False, False, True]))])
    assert told[-1].parts["partial"] > 0.7  # type: ignore[operator]
    assert told[0].parts["partial"] < 0.3  # type: ignore[operator]


def test_the_linter_sees_each_program_once_and_the_reference_once_for_ever() -> None:
    linter = Notes()
    quality = Rewards(RewardConfig({"quality": 1.0}), linter=linter)
    verdict = judged([True] * TESTS)
    attempts = [Attempt(text, verdict) for text in ("x", "x", "undefined")]
    assert [one.total for one in quality.group(TASK, attempts)] == [1, 1, 0.75]
    assert [one.total for one in quality.group(TASK, attempts)] == [1, 1, 0.75]
    assert linter.calls == [3, 2]
    assert quality.one(replace(TASK, language="go"), attempts[0]).total is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"weights": {"tests": 1.0}}, "no part 'tests'"),
        ({"weights": {"binary": -1}}, "binary must be at least 0"),
        ({"weights": {"binary": "1"}}, "binary must be a number"),
        ({"weights": {"binary": True}}, "must be a number"),
        ({"weights": {"binary": math.nan}}, "must be a number"),
        ({"weights": {"binary": 0.0}}, "Every weight is 0"),
        ({"weights": {}}, "Every weight is 0"),
        ({"weights": [1.0]}, "must be a table"),
        ({"wieghts": {}}, "wieghts is no setting"),
        ({"similarity_cap": 1.5}, "at most 1"),
        ({"slack": 0.5}, "at least 1"),
    ],
)
def test_a_bad_configuration_is_refused_in_words(data: dict[str, Any], words: str) -> None:
    with pytest.raises(RewardError, match=words):
        RewardConfig.from_mapping(data)


@given(WEIGHTS, st.floats(1, 500))
def test_a_configuration_survives_being_written(weights: dict[str, float], full_chars: float) -> None:
    config = RewardConfig(weights, full_chars=full_chars)
    assert RewardConfig.from_mapping(config.to_mapping()) == config


def test_a_configuration_is_not_changed_from_outside() -> None:
    weights = {"binary": 1.0}
    config = RewardConfig(weights)
    weights["binary"] = 5.0
    assert config.weights["binary"] == 1


@pytest.mark.parametrize("name", ["quality", "critic", "efficiency"])
def test_a_part_without_what_it_needs_is_refused(name: str) -> None:
    with pytest.raises(RewardError, match=name):
        Rewards(RewardConfig({"binary": 1.0, name: 0.1}))


# -- from a prompt to a row, with a real judge -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    try:
        made = open_judge()
    except JailMissing as error:
        pytest.skip(str(error))
    with made:
        yield made


class Characters:
    """A tokenizer of single characters."""

    def encode(self, text: str) -> list[int]:
        return [ord(one) for one in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def test_from_a_prompt_to_rows_to_learn_from(judge: Judge) -> None:
    """Asked, sampled, read, judged, rewarded, looked at as a group, learned from: nothing here is a double but the policy."""
    tokenizer = Characters()
    environment = Environment(tokenizer.encode, tokenizer.decode, (0,))
    task = next(task for task in shipped_tasks() if task.id == "places/word-counts")
    asked = environment.ask(task)
    says = [
        asked.prompt.trimmed + text
        for text in (f"{task.reference}\n    pass", "counts[word] + 1\n", "counts.get(\n", "len(counts) - len(word)")
    ]
    samples = [Sample(tuple(tokenizer.encode(text)), (-1.0,) * len(text), StopReason.STOP, 0) for text in says[:-1]]
    samples.append(Sample(tuple(tokenizer.encode(says[-1])), (-1.0,) * len(says[-1]), StopReason.LENGTH, 0))
    read = [environment.read(asked, one) for one in samples]
    verdicts = judge.judge_all([(task, one.text) for one in read])
    attempts = [Attempt(one.text, verdict, one) for one, verdict in zip(read, verdicts, strict=True)]
    told = Rewards(RewardConfig({"binary": 1.0, "fractional": 0.5, "compiles": 0.02, "format": 0.01})).group(task, attempts)
    totals = [one.total or 0.0 for one in told]
    assert totals[0] == pytest.approx(1.53)
    assert totals[1:] == pytest.approx([0.03, 0.01, 0.02])  # wrong, no program, cut off
    solved = [one.parts["binary"] == 1 for one in told]
    assert group_verdict([one.text for one in read], totals, solved_G=solved).action is Action.LEARN
    rows = [environment.datum(asked, one, 1.0) for one in samples]
    assert tokenizer.decode(rows[0].target_tokens[len(asked.tokens) - 1 :]) == f"{asked.prompt.trimmed}{task.reference}\n"


def test_the_slower_of_two_right_programs_is_worth_less(judge: Judge) -> None:
    task = replace(TASK, entry_point="add", reference="return a + b")
    slow = "for _ in range(3_000_000):\n        pass\n    return a + b"
    reference, fast, late = judge.judge_all([(task, text) for text in ("return a + b", "return b + a", slow)])
    assert isinstance(reference, Judgement)
    assert reference.cpu_ms is not None
    config = RewardConfig({"binary": 1.0, "efficiency": 0.1})
    rewards = Rewards(config, reference_cpu_ms={task.id: reference.cpu_ms})
    told = rewards.group(task, [Attempt("return b + a", fast), Attempt(slow, late)])
    assert told[0].total == pytest.approx(1.1)
    assert told[1].total is not None
    assert 1 < told[1].total < 1.1
