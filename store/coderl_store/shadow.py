"""The record of a counterfactual label: part of the vocabulary of `coderl_store.records`, which names it among all records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ShadowVerdict(StrEnum):
    """What the comparison with the text typed next says of a suggestion (the rule: `coderl_gate.counterfactual`)."""

    WOULD_KEEP = "would_keep"
    """All of it was typed."""
    WOULD_KEEP_PART = "would_keep_part"
    """A first part that ends at a word's border was typed."""
    WOULD_REJECT = "would_reject"
    UNKNOWN = "unknown"
    """Too little was typed there, or the place is gone."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the programmer typed next where a suggestion was withheld, or shown and not taken. Weak evidence; numbers only.

    Never an outcome: nobody saw a withheld suggestion, and what is typed anyway need not have been accepted.
    """

    id: str
    at: datetime
    session_id: str
    suggestion_id: str
    decision_id: str
    verdict: ShadowVerdict
    agreed_chars: int
    """Leading characters of the suggestion that stand in the document."""
    typed_chars: int
    """Characters that were put there since, at most as many as are compared."""
    taken_chars: int
    """Those of them that came in one piece (a paste, another suggestion): not typed."""
    horizon_s: float
    """How long after the decision was looked."""
