"""One inline-completion request, frozen when it was read, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from coderl_gate.adaptation import adapted
from coderl_gate.costs import CostParameters
from coderl_generator.complete import Budget
from coderl_generator.snippets import Snippet
from coderl_store.records import Action, Context, Decision, Reason, Stage, Suggestion

from .candidates import Other
from .documents import Place
from .positions import Encoding
from .ranges import InlineEdit
from .served import Along
from .settings import Settings

Gather = Callable[[str, Budget], tuple[Snippet, ...]]
"""Gathers what the prompt carries from elsewhere, for a template and a budget."""

Rejected = Callable[[str], bool]
"""Says whether this very text was rejected at this place before."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One inline-completion request, captured the moment it was read."""

    uri: str
    encoding: Encoding
    """The client's position units."""
    at_s: float
    context: Context
    place: Place | None
    settings: Settings
    costs: CostParameters
    """The programmer's own, at the pace of this moment."""
    coin_before: float
    coin_after: float
    may_explore: bool
    objection: Reason | None
    rejected_before: Rejected
    deleted: str = ""
    """What was deleted at this place just now."""
    recent_blocks: tuple[bool, ...] = ()
    """Whether the last suggestions over several lines were kept."""
    typed_along: Along | None = None
    """The suggestion on the screen that is being typed."""
    idle_s: float = 0.0
    """How much of the minimum idle time of the settings is still to pass."""
    adaptation: float | None = None
    """What recent outcomes add to the dial; None = the setting is off."""
    gather: Gather = lambda template, budget: ()

    @property
    def eagerness(self) -> float:
        """The eagerness in force."""
        return adapted(self.settings.eagerness, self.adaptation or 0.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request."""

    context: Context
    decision: Decision
    suggestion: Suggestion | None = None
    text: str = ""
    failure: Exception | None = None
    explored: bool = False
    """A random trial was made for it."""
    others: tuple[Other, ...] = ()
    """The best first."""

    @property
    def shown(self) -> bool:
        return self.decision.action is Action.SHOW


def outdated(answer: Answer) -> Answer:
    """The same answer, withheld because the text has changed while it was made: it would stand in the wrong place."""
    made = answer.decision
    trial = made.propensity < 1.0 and made.p2 is not None and made.tau is not None and made.p2 <= made.tau
    drawn = made.propensity / made.epsilon_withhold if trial else made.propensity  # of the route alone
    decision = replace(made, action=Action.WITHHOLD, stage=Stage.RULE, reason=Reason.SUPERSEDED, propensity=drawn)
    return replace(answer, decision=decision, text="")


@dataclass(frozen=True, slots=True)
class Shown:
    """A suggestion on its way to the editor."""

    suggestion_id: str
    edit: InlineEdit
    """What to insert where, in the client's units."""
    others: tuple[Shown, ...] = ()
    """Further candidates to go on to, the best first; only where the programmer asked."""
