"""Turns as sequences: every token of the policy once, with its log-prob, after exactly what stood before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.repair.chat_wire import Turn
from coderl_trainer.repair.trajectories import merged

TOKENS = st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple)
STEPS = st.lists(st.tuples(TOKENS, TOKENS, st.sampled_from(["on", "on", "on", "anew"])), min_size=1, max_size=6)


def turns_of(steps: list[tuple[tuple[int, ...], tuple[int, ...], str]]) -> list[Turn]:
    """Conversations that go on, or begin anew."""
    turns: list[Turn] = []
    for number, (new, drawn, how) in enumerate(steps):
        before = turns[-1].prompt + turns[-1].tokens if turns and how == "on" else ()
        turns.append(Turn(before + new, drawn, tuple(-0.5 - number for _ in drawn)))
    return turns


@given(STEPS)
def test_every_token_is_learned_from_once(steps: list[tuple[tuple[int, ...], tuple[int, ...], str]]) -> None:
    turns = turns_of(steps)
    sequences = merged(turns)
    assert sum(one.drawn for one in sequences) == sum(len(turn.tokens) for turn in turns)
    learned = [
        (tuple(one.tokens[:at]), one.tokens[at], one.logprobs[at]) for one in sequences for at, on in enumerate(one.mask) if on
    ]
    drawn = [
        ((*turn.prompt, *turn.tokens[:at]), token, turn.logprobs[at]) for turn in turns for at, token in enumerate(turn.tokens)
    ]
    assert sorted(learned) == sorted(drawn)
    assert all(value == 0.0 for one in sequences for value, on in zip(one.logprobs, one.mask, strict=True) if not on)


def test_a_conversation_that_goes_on_is_one_row() -> None:
    turns = [Turn((1, 2), (3, 4), (-0.1, -0.2)), Turn((1, 2, 3, 4, 9, 9), (5,), (-0.3,))]
    (one,) = merged(turns)
    row = one.datum(2.0)
    assert row.input_tokens == (1, 2, 3, 4, 9, 9)
    assert row.target_tokens == (2, 3, 4, 9, 9, 5)
    assert row.mask == (0, 1, 1, 0, 0, 1)
    assert row.advantages == (0, 2, 2, 0, 0, 2)
    assert row.behaviour_logprobs == (0, -0.1, -0.2, 0, 0, -0.3)


def test_a_history_that_was_rewritten_begins_a_row() -> None:
    turns = [Turn((1, 2), (3, 4), (-0.1, -0.2)), Turn((1, 2, 3, 9), (5,), (-0.3,)), Turn((1, 2, 3, 9, 5, 7), (6,), (-0.4,))]
    assert [(one.tokens, one.drawn) for one in merged(turns)] == [([1, 2, 3, 4], 2), ([1, 2, 3, 9, 5, 7, 6], 2)]


def test_two_conversations_that_take_turns_are_two_rows() -> None:
    turns = [
        Turn((1,), (2,), (-0.1,)),
        Turn((8,), (9,), (-0.2,)),
        Turn((1, 2, 3), (4,), (-0.3,)),
        Turn((8, 9, 3), (5,), (-0.4,)),
    ]
    assert [one.tokens for one in merged(turns)] == [[1, 2, 3, 4], [8, 9, 3, 5]]
