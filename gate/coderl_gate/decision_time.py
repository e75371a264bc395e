"""How long programmers take from seeing a suggestion to deciding on it, whatever else they do meanwhile: a line in its length.

Part of the artifact, so that a gate can be judged by the yardstick (`coderl_gate.yardstick`) on people it was not fitted on.
Fitting it lives there; this module is plain Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .costs import CostParameters
from .errors import ArtifactError

CHARS_PER_S: Final = 5.0
"""The yardstick's typing speed."""
EDIT_SHARE: Final = 0.1
"""The yardstick's rewritten share of what was kept."""


@dataclass(frozen=True, slots=True)
class DecisionTime:
    """t = base_s + s_per_char·n seconds to decide, before anything is known of the programmer."""

    base_s: float
    s_per_char: float
    expected_chars: float
    """Mean length of a suggestion."""

    def costs(self) -> CostParameters:
        """The yardstick's costs, as the parameters that every decision takes."""
        return CostParameters(
            verify_base_s=self.base_s,
            verify_s_per_char=self.s_per_char,
            typing_chars_per_s=CHARS_PER_S,
            think_s_per_line=0.0,
            edit_share=EDIT_SHARE,
            expected_chars=self.expected_chars,
            expected_lines=1.0,
        )

    @classmethod
    def from_json(cls, data: Any) -> DecisionTime:
        """What `dataclasses.asdict` gave; ArtifactError where it is damaged."""
        try:
            made = cls(*(float(data[name]) for name in cls.__slots__))
            made.costs()
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"This is not a decision time: {error!r}.") from error
        return made
