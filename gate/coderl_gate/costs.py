"""Seconds: what showing a suggestion costs and what it saves (architecture §4).

t_verify = a + b·n                 reading and judging n characters
t_write  = n / v + k·lines         typing it oneself at v characters per second, with k seconds of thinking per line
t_edit   = ρ·t_write               repairing what was accepted
U(show)  = p·(t_write − t_edit) − (t_wait + t_verify)          U(withhold) = 0
τ        = (t_wait + t_verify) / (t_write − t_edit), clipped to [0, 1]; t_write ≤ t_edit ⇒ τ = 1, never show
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from coderl_store.records import Costs

from .errors import ArtifactError

PERSONAL_NAMES: Final = frozenset({"verify_base_s", "verify_s_per_char", "typing_chars_per_s", "edit_share"})
"""The parameters that may differ between programmers."""
MAX_PERSONAL: Final = 10_000
"""For so many programmers an artifact holds parameters of their own: those with the most rows (about 1.5 MB of JSON)."""


@dataclass(frozen=True, slots=True)
class CostParameters:
    """One programmer's (or the population's) parameters of the time model. Units are in the names."""

    verify_base_s: float = 0.6
    """a: seconds to notice and judge any suggestion."""
    verify_s_per_char: float = 0.02
    """b: seconds of reading per character."""
    typing_chars_per_s: float = 5.0
    """v: typing speed."""
    think_s_per_line: float = 0.5
    """k: seconds of thinking that a line one writes oneself takes."""
    edit_share: float = 0.1
    """ρ: mean share of an accepted text that is rewritten."""
    expected_chars: float = 30.0
    """Mean length of a suggestion, for costs before one exists."""
    expected_lines: float = 1.0
    expected_wait_s: float = 0.0
    """Mean time a programmer stands still waiting for a suggestion, for costs before one exists."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not math.isfinite(getattr(self, name)):
                raise ArtifactError(f"{name} must be a finite number, not {getattr(self, name)}.")
        if not self.typing_chars_per_s > 0:
            raise ArtifactError(f"typing_chars_per_s must be above 0, not {self.typing_chars_per_s}.")
        for name in self.__slots__:
            if not getattr(self, name) >= 0:
                raise ArtifactError(f"{name} must be 0 or more, not {getattr(self, name)}.")
        if not self.edit_share <= 1:
            raise ArtifactError(f"edit_share must lie in [0, 1], not {self.edit_share}.")

    def of(self, personal: Mapping[str, float]) -> CostParameters:
        """These parameters with one programmer's own in place of those that `personal` names.

        Raises ArtifactError where a name is not in `PERSONAL_NAMES` or a value is impossible.
        """
        foreign = sorted(set(personal) - PERSONAL_NAMES)
        if foreign:
            raise ArtifactError(f"A programmer's own parameters cannot be {', '.join(foreign)}.")
        return replace(self, **personal)


def costs_of(chars: float, lines: float, parameters: CostParameters, waited_s: float = 0.0) -> Costs:
    """The costs of showing `chars` characters on `lines` lines to someone who stood still for `waited_s` seconds."""
    t_write_s = chars / parameters.typing_chars_per_s + parameters.think_s_per_line * lines
    return Costs(
        t_wait_s=waited_s,
        t_verify_s=parameters.verify_base_s + parameters.verify_s_per_char * chars,
        t_write_s=t_write_s,
        t_edit_s=parameters.edit_share * t_write_s,
    )


def expected_costs(parameters: CostParameters, waited_s: float | None = None) -> Costs:
    """The costs to expect before a suggestion exists: those of a suggestion of mean length after a wait of `waited_s`
    (None: the mean)."""
    waited_s = parameters.expected_wait_s if waited_s is None else waited_s
    return costs_of(parameters.expected_chars, parameters.expected_lines, parameters, waited_s)


def utility_s(p: float, costs: Costs) -> float:
    """Expected seconds saved by showing a suggestion that is kept with probability `p`; withholding saves 0."""
    return p * (costs.t_write_s - costs.t_edit_s) - (costs.t_wait_s + costs.t_verify_s)


def tau(costs: Costs) -> float:
    """The probability of being kept above which showing pays, in [0, 1]; 1 means never."""
    gain_s = costs.t_write_s - costs.t_edit_s
    if gain_s <= 0:
        return 1.0
    return min(1.0, (costs.t_wait_s + costs.t_verify_s) / gain_s)


def realised_s(kept_chars: int, chars: int, lines: int, parameters: CostParameters, waited_s: float = 0.0) -> float:
    """Seconds saved (negative: lost) by a suggestion that was shown: the one reward of gate and generator.

    `kept_chars` of its `chars` characters were kept; a part that was kept saves its share of the writing time.
    """
    costs = costs_of(chars, lines, parameters, waited_s)
    share = kept_chars / chars if chars else 0.0
    return utility_s(min(1.0, share), costs)
