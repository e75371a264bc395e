"""Is this group skipped, why, and what is done instead? Pure; asked before anything is computed for the backward pass.

`advantages.degenerate` says that a group has no gradient. Why that is decides what helps:

- *collapse*: all answers are the same text. The policy is certain here; sampling it again gives the same once more.
- *cliff*: different texts, the same reward. More samples may find one that is better, or a reward with more steps would tell
  them apart (`fractional`, `partial`).

| group | done |
| --- | --- |
| has a gradient | learn |
| all right | another task: this one is known |
| collapse | another task |
| cliff, or too few graded | sample it again, up to K times; then another task |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from .advantages import Degenerate, degenerate
from .errors import GroupError


class Sameness(StrEnum):
    """What the texts of a group without a gradient are like."""

    COLLAPSE = "collapse"
    CLIFF = "cliff"


class Action(StrEnum):
    """What is done with a group."""

    LEARN = "learn"
    SAMPLE_AGAIN = "sample_again"
    OTHER_TASK = "other_task"


@dataclass(frozen=True, slots=True)
class GroupVerdict:
    """What becomes of one group."""

    action: Action
    degenerate: Degenerate | None = None
    """None = it has a gradient."""
    sameness: Sameness | None = None
    """Of the texts that have a reward; None where it has a gradient, or fewer than two rewards."""

    @property
    def skipped(self) -> str:
        """The reason as samples.jsonl has it, for example `all_fail/cliff`; empty = it is learned from."""
        return "/".join(one.value for one in (self.degenerate, self.sameness) if one is not None)


def group_verdict(
    texts_G: Sequence[str],
    rewards_G: Sequence[float | None],
    *,
    solved_G: Sequence[bool | None] | None = None,
    tries: int = 1,
    most_tries: int = 1,
    tolerance: float = 0.0,
) -> GroupVerdict:
    """What becomes of a group of G answers to one task.

    `rewards_G`: None = does not vote. `solved_G`: whether the answer is right, by which all-pass and all-fail are told where
    rewards are more than tests; without it a reward of 1 is right and one of 0 is wrong. `tries`: how many times this task was
    sampled in this step, this time included; `most_tries`: K. `tolerance`: a spread of rewards of at most that much is none.
    Set it to the weight of what only breaks ties: a normalisation by the deviation would blow that up to a full lesson.

    Raises `GroupError` where the sequences differ in length, are empty, or hold a reward that is not finite.
    """
    if len(texts_G) != len(rewards_G) or (solved_G is not None and len(solved_G) != len(rewards_G)):
        raise GroupError(f"A group of {len(texts_G)} texts has {len(rewards_G)} rewards.")
    why = degenerate(rewards_G, tolerance=tolerance)
    if why is None:
        return GroupVerdict(Action.LEARN)
    again = Action.SAMPLE_AGAIN if tries < most_tries else Action.OTHER_TASK
    if why is Degenerate.TOO_FEW:
        return GroupVerdict(again, why)
    voting = [at for at, reward in enumerate(rewards_G) if reward is not None]
    if solved_G is not None:
        solved = {solved_G[at] for at in voting}
        why = Degenerate.ALL_PASS if solved == {True} else Degenerate.ALL_FAIL if solved == {False} else Degenerate.TIE
    same = Sameness.COLLAPSE if len({texts_G[at] for at in voting}) == 1 else Sameness.CLIFF
    useless = why is Degenerate.ALL_PASS or same is Sameness.COLLAPSE
    return GroupVerdict(Action.OTHER_TASK if useless else again, why, same)
