"""What one generation may cost: by the programmer's settings, the route, and what is left of the request's time. Pure."""

from __future__ import annotations

from dataclasses import replace

from coderl_generator.complete import Budget
from coderl_generator.extract import Mode
from coderl_generator.snippets import budget_chars
from coderl_store.records import Route

from .settings import Settings


def budget_of(
    settings: Settings,
    mode: Mode,
    route: Route,
    template: str,
    *,
    spent_s: float = 0.0,
    patient: bool = False,
    asked_for: bool = False,
) -> Budget:
    """The budget of one generation; `mode` is what the full route may write.

    `spent_s`: how long the request has taken already; the deadline of the settings is the whole request's. `patient`: a token
    may take as long as the whole deadline. `asked_for`: by hand, so that all candidates are offered.
    """
    budget = line_budget(settings, template).later(spent_s)
    if patient:
        budget = replace(budget, timeout_s=max(budget.timeout_s, settings.deadline_ms / 1000))
    if route is Route.DRAFT:
        return budget
    return replace(
        budget,
        max_tokens=settings.max_tokens,
        mode=mode,
        temperature=settings.temperature,
        candidates=settings.candidates,
        offer_all=settings.candidates > 1 and asked_for,
    )


def line_budget(settings: Settings, template: str) -> Budget:
    """The cheapest: one greedy line."""
    budget = Budget(
        max_tokens=settings.draft_max_tokens,
        deadline_s=settings.deadline_ms / 1000,
        template=template,
        max_context_chars=budget_chars(settings.context_chars, template),
    )
    return budget if settings.anchor else replace(budget, anchor_chars=1)
