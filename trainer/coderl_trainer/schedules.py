"""Learning rates over a run. Pure."""

from __future__ import annotations

from .recipe import Schedule

_LAST = 0.05
"""Share of the peak that `LINEAR` ends at."""


def learning_rate(peak: float, step: int, steps: int, warmup_steps: int, schedule: Schedule) -> float:
    """Of gradient step `step`, counted from 1, of `steps`: up to the peak in equal parts, then by the schedule."""
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if schedule is Schedule.CONSTANT or steps <= warmup_steps + 1:
        return peak
    done = min(1.0, (step - warmup_steps - 1) / (steps - warmup_steps - 1))
    return peak * (1.0 - (1.0 - _LAST) * done)
