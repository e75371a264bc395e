"""Decisions and failures in the programmer's words. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from coderl_gate.adaptation import Adaptation, adapted
from coderl_store.codec import encode
from coderl_store.records import Action, Decision, Reason

from .settings import Settings


def in_words(decision: Decision, no_model: str = "") -> str:
    """What `coderl/why` answers; `no_model` says why there is no model, where that is known better than in general."""
    parts = [no_model if no_model and decision.reason is Reason.NO_MODEL else decision.reason.sentence]
    if decision.p1 is not None:
        parts.append(f"From the place alone an accept seemed {decision.p1:.0%} likely; {decision.tau_before:.0%} was needed.")
    if decision.p2 is not None and decision.tau is not None:
        parts.append(f"With the suggestion at hand it was {decision.p2:.0%}; {decision.tau:.0%} was needed.")
    if decision.adaptation is not None and abs(decision.adaptation) >= 0.005:
        direction = "raised" if decision.adaptation > 0 else "lowered"
        parts.append(f"Recent outcomes {direction} eagerness by {abs(decision.adaptation):.2f}, to {decision.eagerness:+.2f}.")
    if decision.action is Action.WITHHOLD and decision.eagerness < 1 and decision.stage != "rule":
        parts.append("Raise coderl.eagerness to see more.")
    return " ".join(parts)


def explanation(
    decision: Decision | None, adaptation: Adaptation, settings: Settings, warnings: Mapping[str, str]
) -> dict[str, Any]:
    """The answer to `coderl/why`: the decision, its sentences, how adaptation stands now, and what was said once (notices)."""
    text, plain = "Nothing was asked yet.", None
    if decision is not None:
        text = in_words(decision, warnings.get("no_model", ""))
        plain = {**json.loads(encode(decision)), "sentence": decision.reason.sentence}
    offset = adaptation.offset if settings.adapt else 0.0
    state = {
        "on": settings.adapt,
        "dial": settings.eagerness,
        "eagerness": adapted(settings.eagerness, offset),
        **asdict(adaptation),
        "sentence": adaptation.sentence() if settings.adapt else "Adaptation is switched off: eagerness is as set.",
    }
    return {"decision": plain, "text": text, "adaptation": state, "notices": list(warnings.values())}


def health_words(warnings: Mapping[str, str], log_error: str | None, *, enabled: bool, snoozed: bool) -> tuple[str, str]:
    """Kind (Copilot's `Normal`, `Warning`, `Inactive`) and sentence of a status bar."""
    if warnings:
        return "Warning", next(iter(warnings.values()))
    if not enabled:
        return "Inactive", "Suggestions are switched off."
    if snoozed:
        return "Inactive", "Suggestions are snoozed."
    if log_error is not None:
        return "Warning", f"The log waits: {log_error}"
    return "Normal", "Ready."


def failure_sentence(reason: Reason, failure: Exception | None) -> str:
    """What an incident says. It never holds code: the packages' own errors do not, and of an error nobody foresaw only the kind
    is said."""
    if failure is None:
        return reason.sentence
    return f"{reason.sentence} ({type(failure).__name__})" if reason is Reason.INTERNAL_ERROR else str(failure)
