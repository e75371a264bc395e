"""Groups for logged contexts: what else could have been suggested there, scored by what the programmer kept.

A logged suggestion has no group. Where the log says what was finally kept, a group can be made: the context becomes a task
(`coderl_trainer.log_tasks`), the loop samples G candidates for it from the model as it is now, and each is scored by agreement
with the kept text; then group-relative advantages mean what they always mean. No propensity enters, because nothing is asked
of the outcome of another action: the kept text is known.

    n characters of a candidate, of which the first k agree with the kept text       k = length of the common beginning
    seconds = k/n · (t_write − t_edit) − t_verify             `coderl_gate.costs.realised_s`: a part that agrees saves its share

Silence (an empty candidate) earns 0. Length is harmless: what agrees further saves more, what goes on beyond or beside it costs
its reading. Not covered: text that would have been kept as well but reads differently; what is scored is one way to go on,
so keep a divergence term, and mix with tasks that are judged by running them. Contexts where nothing was kept are no tasks.

`gate_seconds` scores by a gate instead (its p2 in place of k/n), for contexts without kept text. A gate used as a reward is
over-optimised sooner or later (Gao, Schulman and Hilton 2023, "Scaling Laws for Reward Model Overoptimization"): judge the
result by another gate, fitted on programmers that this one never saw.
"""

from __future__ import annotations

from coderl_gate.costs import CostParameters, costs_of, realised_s, utility_s

from .errors import FigureError
from .types import Task


def agreed_chars(candidate: str, kept: str) -> int:
    """Length of the common beginning; blanks at the end of either do not count, and line breaks are alike."""
    ours, theirs = _plain(candidate), _plain(kept)
    count = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        count += 1
    return count


def agreement_share(candidate: str, kept: str) -> float:
    """k/n in [0, 1]; 0 for an empty candidate. Says nothing of how much of the kept text is there: `agreement_seconds` does."""
    text = _plain(candidate)
    return agreed_chars(candidate, kept) / len(text) if text else 0.0


def agreement_seconds(candidate: str, kept: str, costs: CostParameters | None = None) -> float:
    """Seconds that showing the candidate would have saved someone who wrote `kept`; negative = lost, 0 for silence."""
    text = _plain(candidate)
    if not text:
        return 0.0
    return realised_s(agreed_chars(candidate, kept), len(text), text.count("\n") + 1, costs or CostParameters())


def task_seconds(task: Task, candidate: str, costs: CostParameters | None = None) -> float:
    """`agreement_seconds` with a task's reference. Raises `FigureError` for a task without one."""
    if task.reference is None:
        raise FigureError(f"Task {task.id} has no text that was kept: agreement says nothing about it.")
    return agreement_seconds(candidate, task.reference, costs)


def gate_seconds(p2: float, candidate: str, costs: CostParameters | None = None) -> float:
    """Seconds to expect of a candidate that a gate gives `p2` = P(kept | context, suggestion); 0 for silence. Raises
    `FigureError` where `p2` is no probability."""
    if not 0 <= p2 <= 1:
        raise FigureError(f"{p2} is not a probability.")
    text = _plain(candidate)
    return utility_s(p2, costs_of(len(text), text.count("\n") + 1, costs or CostParameters())) if text else 0.0


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip()
