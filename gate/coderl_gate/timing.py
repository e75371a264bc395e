"""The parameters of the time model, from the log (architecture §4): what can be estimated is, the rest keeps its prior, and
says so.

t_verify = a + b·n is a weighted least-squares line through the seconds of reading, with a, b ≥ 0. What makes it robust is
done before (`coderl_gate.dataset.reading_seconds`): visible times are clipped, and only the share that programmers spend on
reading counts. The mean, not the median, is wanted: costs add up. The edit share ρ is the mean rewritten share of accepted
texts at the last look. Typing speed comes from the gaps between keystrokes where the log has them. Thinking time per line
cannot be seen in any log and keeps its prior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from .costs import CostParameters
from .dataset import Dataset, Floats

MIN_DECISIONS: Final = 30
"""Fewer timed decisions say nothing about reading."""
MIN_SURVIVALS: Final = 10
"""Fewer accepted texts looked at again say nothing about editing."""
MIN_RHYTHMS: Final = 30
"""Fewer known typing rhythms say nothing about typing speed."""


@dataclass(frozen=True, slots=True)
class CostFit:
    """The parameters, and what had to keep its prior."""

    parameters: CostParameters
    not_estimated: tuple[str, ...]
    """One sentence each."""


def fit_costs(dataset: Dataset, prior: CostParameters | None = None) -> CostFit:
    """Estimate what the rows of `dataset` can tell; everything else stays as in `prior`."""
    parameters, missing = prior or CostParameters(), []
    timed = np.isfinite(dataset.reading_s)
    if timed.sum() >= MIN_DECISIONS:
        base_s, per_char_s = _reading(dataset.chars[timed], dataset.reading_s[timed], dataset.weight[timed])
        parameters = replace(parameters, verify_base_s=base_s, verify_s_per_char=per_char_s)
    else:
        missing.append(f"Reading time keeps its prior: {timed.sum()} timed decisions, {MIN_DECISIONS} are needed.")
    looked = np.isfinite(dataset.edited)
    if looked.sum() >= MIN_SURVIVALS:
        share = np.average(dataset.edited[looked], weights=dataset.weight[looked])
        parameters = replace(parameters, edit_share=_rounded(float(share)))
    else:
        missing.append(
            f"The edit share keeps its prior: {looked.sum()} accepted texts were looked at again, {MIN_SURVIVALS} are needed."
        )
    known = np.isfinite(dataset.typing_chars_per_s)
    if known.sum() >= MIN_RHYTHMS:
        per_user = [
            float(np.median(dataset.typing_chars_per_s[known & (dataset.users == user)]))
            for user in np.unique(dataset.users[known])
        ]
        parameters = replace(parameters, typing_chars_per_s=_rounded(float(np.median(per_user))))
    else:
        missing.append(f"Typing speed keeps its prior: {known.sum()} typing rhythms are known, {MIN_RHYTHMS} are needed.")
    missing.append("Thinking time per line keeps its prior: no log shows it.")
    return CostFit(
        replace(
            parameters,
            expected_chars=_rounded(float(np.average(dataset.chars, weights=dataset.weight))),
            expected_lines=_rounded(float(np.average(dataset.lines, weights=dataset.weight))),
        ),
        tuple(missing),
    )


def _reading(chars: Floats, seconds: Floats, weight: Floats) -> tuple[float, float]:
    """(a, b) of t_verify = a + b·n, least squares with a, b ≥ 0: where the free line breaks a bound, the better of its two
    edges."""
    n_mean, s_mean = np.average(chars, weights=weight), np.average(seconds, weights=weight)
    spread = float(np.average(np.square(chars - n_mean), weights=weight))
    slope = float(np.average((chars - n_mean) * (seconds - s_mean), weights=weight)) / spread if spread > 0 else 0.0
    base = float(s_mean - slope * n_mean)
    if slope >= 0 and base >= 0:
        return _rounded(base), _rounded(slope)
    through_zero = float(np.average(chars * seconds, weights=weight) / np.average(np.square(chars), weights=weight))
    edges = [(float(s_mean), 0.0), (0.0, through_zero)]
    return min(edges, key=lambda edge: float(np.average(np.square(seconds - edge[0] - edge[1] * chars), weights=weight)))


def _rounded(value: float) -> float:
    """Six digits: more are noise, and would differ between machines."""
    return float(f"{value:.6g}")
