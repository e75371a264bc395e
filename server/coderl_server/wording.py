"""Decisions and failures in the programmer's words. Pure."""

from __future__ import annotations

from coderl_store.records import Action, Decision, Reason


def in_words(decision: Decision, no_model: str = "") -> str:
    """What `coderl/why` answers; `no_model` says why there is no model, where that is known better than in general."""
    parts = [no_model if no_model and decision.reason is Reason.NO_MODEL else decision.reason.sentence]
    if decision.p1 is not None:
        parts.append(f"From the place alone an accept seemed {decision.p1:.0%} likely; {decision.tau_before:.0%} was needed.")
    if decision.p2 is not None and decision.tau is not None:
        parts.append(f"With the suggestion at hand it was {decision.p2:.0%}; {decision.tau:.0%} was needed.")
    if decision.action is Action.WITHHOLD and decision.eagerness < 1 and decision.stage != "rule":
        parts.append("Raise coderl.eagerness to see more.")
    return " ".join(parts)


def failure_sentence(reason: Reason, failure: Exception | None) -> str:
    """What an incident says. It never holds code: the packages' own errors do not, and of an error nobody foresaw only the kind
    is said."""
    if failure is None:
        return reason.sentence
    return f"{reason.sentence} ({type(failure).__name__})" if reason is Reason.INTERNAL_ERROR else str(failure)
