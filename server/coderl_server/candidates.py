"""Which of several candidates is answered: by the seconds it is expected to save. Pure, but for the gate it asks.

For candidate i, `p2` is stage 2's estimate and `gain = p2·(t_write − t_edit)` what showing it saves where it is kept
(`coderl_gate.costs`). Stage 2 knows nothing of the text after the place; the generator's score does (log P of the candidate and
of what follows it, `coderl_generator.several`). So gains are weighed by the share that the score gives each candidate among
those at hand, `softmax(score)`: the best is the one with the largest `share·gain`. Without scores all shares are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coderl_gate.features import LogprobSummary
from coderl_gate.gate import Gate
from coderl_generator.complete import Completion
from coderl_store.records import Context, Costs, Suggestion


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with what stage 2 says of it."""

    completion: Completion
    p2: float
    features: dict[str, float | None]
    costs: Costs

    @property
    def gain_s(self) -> float:
        """Seconds that it is expected to save the writing, reading it not counted."""
        return self.p2 * (self.costs.t_write_s - self.costs.t_edit_s)


@dataclass(frozen=True, slots=True)
class Other:
    """A candidate that was not chosen, with stage 2's estimate of it."""

    suggestion: Suggestion
    p2: float


def judged(
    gate: Gate, context: Context, completion: Completion, costs_of: Callable[[str], Costs], *, anew: bool = True
) -> tuple[Judged, ...]:
    """A completion and the others it knows, the best first. `costs_of` is asked for the costs of a text. `anew` as for
    `Gate.after`; only the first counts in the generator's distribution. Raises `GateError`."""
    first = _judge(gate, context, completion, costs_of, anew=anew)
    return by_expected_seconds([first, *(_judge(gate, context, one, costs_of, anew=False) for one in completion.others)])


def by_expected_seconds(candidates: Sequence[Judged]) -> tuple[Judged, ...]:
    """The largest share·gain first; ties keep their order."""
    shares = shares_of([one.completion.score for one in candidates])
    order = sorted(range(len(candidates)), key=lambda at: -shares[at] * candidates[at].gain_s)
    return tuple(candidates[at] for at in order)


def shares_of(scores: Sequence[float | None]) -> tuple[float, ...]:
    """The softmax of natural-log scores; equal shares where one has none."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores) or not known:
        return tuple(1.0 / len(scores) for _ in scores)
    most = max(known)
    weights = [math.exp(score - most) for score in known]
    return tuple(weight / sum(weights) for weight in weights)


def _judge(gate: Gate, context: Context, completion: Completion, costs_of: Callable[[str], Costs], *, anew: bool) -> Judged:
    text = completion.text
    summary = LogprobSummary.of(completion.own_logprobs)
    p2, features = gate.after(context, context.features, text, summary, anew=anew)
    return Judged(completion, p2, features, costs_of(text))
