"""The decision: show, withhold, or pay for more. Pure; the server and the replay call the same function.

Stage 1, before generation, with p1 = P(kept | context), τ̂ from the costs of a suggestion of mean length, and
H(p) = −p·log2 p − (1−p)·log2(1−p) in bits:

    H(p1) ≤ h, p1 < ½ and p1 < τ̂   ⇒ skip     nothing is generated
    H(p1) ≤ h, p1 ≥ ½ and p1 ≥ τ̂   ⇒ draft    the cheap budget, shown without stage 2
    otherwise                       ⇒ full     generate and ask stage 2

Stage 2, with p2 = P(kept | context, suggestion) and τ from the suggestion's own costs: show iff p2 > τ.

The two conditions on ½ are ours: without them a *higher* p1 could turn `draft` back into `full` (where τ̂ lies outside the
uncertain band), and the decision would not be monotone in p.

Another rule behind the same interface settles where the expected value of asking stage 2 is small (`coderl_gate.escalation`):
with `Rule.VALUE`, V(p1) ≤ v (`Policy.value_limit`) stands for H(p1) ≤ h; skip where p1 < τ̂ and draft where not.

Eagerness e ∈ [−1, 1] moves both thresholds on the log-odds scale, logit τ' = logit τ − 2e, which keeps 0 and 1 where they are.

Exploration: with probability ε a `skip` is generated anyway, with probability ε′ a `withhold` is shown. `propensity` is the
exact probability of the (route, action) taken, given p1 and p2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from coderl_store.records import Action, Costs, Reason, Route, Stage

from .costs import tau as threshold
from .escalation import EntropyLimit, Escalation, ValueLimit, entropy_bits

EAGERNESS_LOGITS = 2.0
"""Log-odds by which eagerness 1 lowers a threshold: 0.50 becomes 0.12, 0.80 becomes 0.35."""


class Rule(StrEnum):
    """Which rule decides. `ENTROPY` is the product, `VALUE` the other rule of escalation; the last two are the yardsticks of
    the replay, and `NEVER_SHOW` makes no trials."""

    ENTROPY = "entropy"
    VALUE = "value"
    ALWAYS_SHOW = "always_show"
    NEVER_SHOW = "never_show"


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything about the decision that is not about the request."""

    h_bits: float
    """Entropy limit h in bits, [0, 1]: 0 asks stage 2 always, 1 never on the near side of the threshold."""
    eagerness: float = 0.0
    epsilon_skip: float = 0.0
    epsilon_withhold: float = 0.0
    rule: Rule = Rule.ENTROPY
    value_limit: ValueLimit | None = None
    """What `Rule.VALUE` settles before generation by; `h_bits` does not count then."""

    @property
    def escalation(self) -> Escalation:
        """The rule that says what is settled before generation."""
        if self.rule is Rule.VALUE and self.value_limit is not None:
            return self.value_limit
        return EntropyLimit(self.h_bits)

    def __post_init__(self) -> None:
        for name, low, high in (("h_bits", 0, 1), ("eagerness", -1, 1), ("epsilon_skip", 0, 1), ("epsilon_withhold", 0, 1)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], not {value}.")
        if self.rule is Rule.VALUE and self.value_limit is None:
            raise ValueError("This gate has no value limit, which the rule `value` needs: fit a new one with `gate-calibrate`.")


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of one request. Before generation `p2` and `costs` are None."""

    p1: float
    expected: Costs
    coin_before: float = 1.0
    """Uniform on [0, 1); 1.0 explores only where ε = 1."""
    coin_after: float = 1.0
    p2: float | None = None
    costs: Costs | None = None
    may_explore: bool = True
    """False inside a cooldown, or where the cap of trials per hour is reached."""
    asked_for: bool = False
    """The programmer pressed the key: generate and show."""

    def __post_init__(self) -> None:
        for name in ("p1", "coin_before", "coin_after", "p2"):
            value = getattr(self, name)
            if not (value is None and name == "p2") and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], not {value}.")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision. `action` is None exactly where the route needs a suggestion that the request does not hold yet."""

    route: Route
    stage: Stage
    action: Action | None
    reason: Reason | None
    entropy_bits: float
    tau_before: float
    tau: float | None
    propensity: float
    """Probability of (route, action); while `action` is None, of the route alone."""
    explored: bool = False
    """A coin changed the course: a skip was generated, or a withheld suggestion shown."""


def eager(tau: float, eagerness: float) -> float:
    """The threshold as moved by the eagerness dial; monotone falling in `eagerness`, fixed at 0 and 1."""
    if eagerness == 0.0 or tau <= 0.0 or tau >= 1.0:
        return tau
    odds = tau / (1.0 - tau) * math.exp(-EAGERNESS_LOGITS * eagerness)
    return odds / (1.0 + odds)


def planned_route(request: Request, policy: Policy) -> Route:
    """What stage 1 orders before any exploration."""
    if request.asked_for or policy.rule is Rule.ALWAYS_SHOW:
        return Route.FULL
    if policy.rule is Rule.NEVER_SHOW:
        return Route.SKIP
    tau_before = eager(threshold(request.expected), policy.eagerness)
    gain_s = request.expected.t_write_s - request.expected.t_edit_s
    if not policy.escalation.settles(request.p1, tau_before, gain_s):
        return Route.FULL
    return Route.SKIP if request.p1 < tau_before else Route.DRAFT


def _worth_showing(request: Request, policy: Policy) -> bool:
    """What stage 2 orders before any exploration."""
    if request.p2 is None or request.costs is None:
        raise ValueError("Stage 2 needs p2 and the costs of the suggestion.")
    if request.asked_for or policy.rule is Rule.ALWAYS_SHOW:
        return True
    return policy.rule is not Rule.NEVER_SHOW and request.p2 > eager(threshold(request.costs), policy.eagerness)


def _show_probability(request: Request, policy: Policy) -> float:
    """P(show) once a suggestion with p2 and its costs lies on the table (route full)."""
    if _worth_showing(request, policy):
        return 1.0
    return policy.epsilon_withhold if request.may_explore else 0.0


def action_probabilities(request: Request, policy: Policy) -> Mapping[tuple[Route, Action], float]:
    """Exact probability of every (route, action) given p1 and p2; sums to 1.

    Where stage 1 can reach no suggestion (`draft`, or `skip` without exploration) p2 is not needed.
    """
    planned = planned_route(request, policy)
    if planned is Route.DRAFT:
        return {(Route.DRAFT, Action.SHOW): 1.0}
    generate = route_probability(request, policy, Route.FULL)
    table = {(Route.SKIP, Action.WITHHOLD): 1.0 - generate} if planned is Route.SKIP else {}
    if generate > 0.0:
        show = _show_probability(request, policy)
        table[(Route.FULL, Action.SHOW)] = generate * show
        table[(Route.FULL, Action.WITHHOLD)] = generate * (1.0 - show)
    return table


def route_probability(request: Request, policy: Policy, route: Route) -> float:
    """Exact probability that stage 1, with its coin, sends the request on `route`; needs no suggestion."""
    planned = planned_route(request, policy)
    if planned is not Route.SKIP or policy.rule is Rule.NEVER_SHOW:
        return float(route is planned)
    generate = policy.epsilon_skip if request.may_explore else 0.0
    return {Route.SKIP: 1.0 - generate, Route.FULL: generate, Route.DRAFT: 0.0}[route]


def decide(request: Request, policy: Policy) -> Verdict:
    """Decide as far as the request allows.

    Call it before generation; where `action` comes back None, generate on the `route`, put `p2` and `costs` into the request
    (same coins) and call again. On route `draft` the second call is not needed: what was drafted is shown.
    """
    h_p1 = entropy_bits(request.p1)
    tau_before = eager(threshold(request.expected), policy.eagerness)
    planned = planned_route(request, policy)

    def verdict(
        route: Route, stage: Stage, action: Action | None, reason: Reason | None, propensity: float, explored: bool = False
    ) -> Verdict:
        tau = None if request.costs is None else eager(threshold(request.costs), policy.eagerness)
        return Verdict(route, stage, action, reason, h_p1, tau_before, tau, propensity, explored)

    if planned is Route.DRAFT:
        return verdict(Route.DRAFT, Stage.BEFORE, Action.SHOW, Reason.CONFIDENT_DRAFT, 1.0)

    reached, trial = 1.0, False
    if planned is Route.SKIP:
        reached, trial = route_probability(request, policy, Route.FULL), True
        if not request.coin_before < reached and reached < 1.0:
            reason = Reason.NEVER_SHOWN if policy.rule is Rule.NEVER_SHOW else Reason.UNLIKELY_BEFORE
            return verdict(Route.SKIP, Stage.BEFORE, Action.WITHHOLD, reason, 1.0 - reached)

    if request.p2 is None or request.costs is None:
        return verdict(Route.FULL, Stage.BEFORE, None, None, reached, trial)
    show = _show_probability(request, policy)
    if request.coin_after < show or show == 1.0:
        explored = trial or not _worth_showing(request, policy)
        return verdict(Route.FULL, Stage.AFTER, Action.SHOW, _why_shown(request, policy, explored), reached * show, explored)
    reason = Reason.NEVER_SHOWN if policy.rule is Rule.NEVER_SHOW else Reason.BELOW_THRESHOLD
    return verdict(Route.FULL, Stage.AFTER, Action.WITHHOLD, reason, reached * (1.0 - show), trial)


def _why_shown(request: Request, policy: Policy, explored: bool) -> Reason:
    if request.asked_for:
        return Reason.ASKED_FOR
    if policy.rule is Rule.ALWAYS_SHOW:
        return Reason.ALWAYS_SHOWN
    return Reason.EXPLORED if explored else Reason.WORTH_SHOWING
