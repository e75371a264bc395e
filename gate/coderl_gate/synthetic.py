"""A made-up population of programmers whose true behaviour is known: the double on which fitting, replay and off-policy
estimates are tested (and can be tried) without anybody's data.

Each situation has context and suggestion features and a true probability of being kept,

    logit p = user + 0.9·x + 1.4·(2q − 1),      x ~ N(0, 1) seen before generation,  q ~ U(0, 1) the log-prob quantile,

so a well-fitted gate can be right, and the value of any policy is known exactly. Requests are decided by the real
`coderl_gate.policy.decide` and logged as the server logs them at privacy level `metrics`: features, no text.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from coderl_store.clock import VirtualClock, utc
from coderl_store.ids import IdSource
from coderl_store.records import (
    Action,
    Context,
    Decision,
    Evidence,
    Origin,
    Outcome,
    OutcomeKind,
    Route,
    Session,
    Suggestion,
    Survival,
    Trigger,
)
from coderl_store.repository import LoggedRequest
from coderl_store.shadow import Shadow, ShadowVerdict

from .artifact import GateArtifact, StageModel, sealed
from .catalogue import CONTEXT_NAMES, FEATURE_VERSION, P1, SUGGESTION_NAMES
from .costs import CostParameters, costs_of, expected_costs, utility_s
from .counterfactual import horizon_s
from .margins import sigmoid
from .policy import Policy, Request, Verdict, action_probabilities, decide
from .scorer import LinearScorer

BEFORE, AFTER = "line_trimmed_chars", "logprob_mean"
"""The two features that matter; all others are noise or missing."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One pause of one programmer, and what a suggestion would be worth there."""

    user: int
    x: float
    quantile: float
    chars: int
    lines: int
    p: float
    """True probability of being kept, if shown."""


@dataclass(frozen=True, slots=True)
class World:
    """A population; same fields, same situations."""

    users: int = 12
    requests_per_user: int = 60
    seed: int = 0
    user_spread: float = 0.4
    """Standard deviation of the users' own log-odds."""
    base_logit: float = -0.8
    unevenness: float = 0.0
    """Standard deviation of ln(requests) between users; 0: all make equally many."""
    origin: Origin = Origin.EDITOR
    label_error: float | None = None
    """Share of wrong counterfactual labels on what was withheld; None: no labels are made."""

    def situations(self) -> Iterator[Situation]:
        """Every situation, user by user."""
        rng = random.Random(self.seed)
        for user in range(self.users):
            own = rng.gauss(self.base_logit, self.user_spread)
            requests = self.requests_per_user
            if self.unevenness > 0:
                requests = max(1, round(requests * rng.lognormvariate(-(self.unevenness**2) / 2, self.unevenness)))
            for _ in range(requests):
                x, quantile = rng.gauss(0.0, 1.0), rng.random()
                lines = 1 if rng.random() < 0.8 else 3
                chars = 5 + int(rng.expovariate(1 / 30)) + 10 * lines
                yield Situation(user, x, quantile, chars, lines, sigmoid(own + 0.9 * x + 1.4 * (2 * quantile - 1)))

    def requests(
        self, artifact: GateArtifact | None = None, policy: Policy | None = None, truth: CostParameters | None = None
    ) -> Iterator[LoggedRequest]:
        """The log that `policy` leaves behind with `artifact` (default: the artifact that knows the truth, a third of
        everything explored). Programmers read as `truth` says."""
        artifact = artifact or knowing()
        policy = policy or Policy(artifact.h_bits, epsilon_skip=0.3, epsilon_withhold=0.3)
        truth = truth or CostParameters()
        rng, labels = random.Random(self.seed + 1), random.Random(self.seed + 3)
        clock = VirtualClock()
        ids = IdSource(clock, random.Random(self.seed + 2))
        session: Session | None = None
        for situation in self.situations():
            clock.advance_to(clock.now_s() + 20.0)
            if session is None or session.user_key != f"user-{situation.user}":
                session = Session(ids.new(), utc(clock.now_s()), self.origin, f"user-{situation.user}", gate_id=artifact.id)
            request = _Scribe(session, artifact, policy, truth, ids, utc(clock.now_s()), rng).write(situation)
            if self.label_error is not None and request.decision.action is Action.WITHHOLD and request.suggestion is not None:
                kept = labels.random() < situation.p
                request = replace(
                    request, shadow=_shadow(request.suggestion, ids, kept != (labels.random() < self.label_error))
                )
            yield request

    def value_s(self, artifact: GateArtifact, policy: Policy, truth: CostParameters) -> float:
        """The policy's true seconds saved per request, in expectation over coins and outcomes."""
        total = count = 0.0
        for situation in self.situations():
            costs = costs_of(situation.chars, situation.lines, artifact.costs)
            request = Request(
                p1=artifact.stage1.probability(_before(situation)), expected=expected_costs(artifact.costs), costs=costs
            )
            request = replace(request, p2=artifact.stage2.probability(_all(situation, request.p1)))
            show = sum(p for (_, action), p in action_probabilities(request, policy).items() if action is Action.SHOW)
            total += show * utility_s(situation.p, costs_of(situation.chars, situation.lines, truth))
            count += 1
        return total / count


def knowing(h_bits: float = 0.5, costs: CostParameters | None = None, shift: float = 0.0) -> GateArtifact:
    """An artifact that knows the world up to the users' own differences; `shift` (log-odds) makes both stages err."""
    stage1 = LinearScorer((BEFORE,), (0.9,), (0.0,), (1.0,), (0.0,), -0.8 + shift)
    stage2 = LinearScorer((BEFORE, AFTER), (0.9, 2.8), (0.0, 0.5), (1.0, 1.0), (0.0, 0.5), -0.8 + shift)
    return sealed(
        GateArtifact(
            StageModel(stage1), StageModel(stage2), h_bits, costs or CostParameters(), "synthetic", "2026-01-01T00:00:00+00:00"
        )
    )


def _shadow(suggestion: Suggestion, ids: IdSource, kept: bool) -> Shadow:
    verdict = ShadowVerdict.WOULD_KEEP if kept else ShadowVerdict.WOULD_REJECT
    agreed_chars = suggestion.chars if kept else 0
    return Shadow(
        ids.new(), suggestion.at, suggestion.session_id, suggestion.id, suggestion.decision_id, verdict, agreed_chars,
        suggestion.chars, 0, horizon_s(suggestion.chars),
    )  # fmt: skip


def _before(situation: Situation) -> dict[str, float | None]:
    return {**dict.fromkeys(CONTEXT_NAMES), BEFORE: situation.x, "line_blank": float(situation.x < 0)}


def _after(situation: Situation) -> dict[str, float | None]:
    known = {AFTER: situation.quantile, "s_chars": math.log1p(situation.chars), "s_lines": math.log1p(situation.lines)}
    return {**dict.fromkeys(SUGGESTION_NAMES), **known}


def _all(situation: Situation, p1: float) -> dict[str, float | None]:
    return {**_before(situation), **_after(situation), P1.name: p1}


@dataclass(frozen=True, slots=True)
class _Scribe:
    """What logging one request takes."""

    session: Session
    artifact: GateArtifact
    policy: Policy
    truth: CostParameters
    ids: IdSource
    at: datetime
    rng: random.Random

    def write(self, situation: Situation) -> LoggedRequest:
        """Decide the situation and log it."""
        context = Context(
            id=self.ids.new(), at=self.at, session_id=self.session.id, language="python", document_key="synthetic",
            line=0, character=0, trigger=Trigger.AUTOMATIC, typing_interval_ms=200.0,
            features=_before(situation), feature_version=FEATURE_VERSION,
        )  # fmt: skip
        p1 = self.artifact.stage1.probability(context.features)
        request = Request(
            p1=p1, expected=expected_costs(self.artifact.costs), coin_before=self.rng.random(), coin_after=self.rng.random()
        )
        verdict = decide(request, self.policy)
        if verdict.route is not Route.SKIP:
            costs = costs_of(situation.chars, situation.lines, self.artifact.costs)
            p2 = self.artifact.stage2.probability(_all(situation, p1))
            request = replace(request, p2=p2, costs=costs)
            verdict = decide(request, self.policy)
        decision = self._decision(context, request, verdict)
        if verdict.route is Route.SKIP:
            return LoggedRequest(self.session, context, decision, None, None, ())
        suggestion = Suggestion(
            id=self.ids.new(), at=self.at, session_id=self.session.id, decision_id=decision.id, lineage_id=context.id,
            generator_id="synthetic", chars=situation.chars, lines=situation.lines, tokens=situation.chars // 4,
            features=_after(situation), feature_version=FEATURE_VERSION,
        )  # fmt: skip
        if verdict.action is not Action.SHOW:
            return LoggedRequest(self.session, context, decision, suggestion, None, ())
        return self._judged(situation, context, decision, suggestion)

    def _decision(self, context: Context, request: Request, verdict: Verdict) -> Decision:
        assert verdict.action is not None
        assert verdict.reason is not None
        return Decision(
            id=context.id, at=self.at, session_id=self.session.id, context_id=context.id, route=verdict.route,
            stage=verdict.stage, action=verdict.action, reason=verdict.reason, p1=request.p1,
            entropy_bits=verdict.entropy_bits, tau_before=verdict.tau_before, p2=request.p2, tau=verdict.tau,
            expected_costs=request.expected, costs=request.costs, epsilon_skip=self.policy.epsilon_skip,
            epsilon_withhold=self.policy.epsilon_withhold, coin_before=request.coin_before, coin_after=request.coin_after,
            propensity=verdict.propensity, gate_id=self.artifact.id, generator_id="synthetic",
            eagerness=self.policy.eagerness, h_bits=self.policy.h_bits,
        )  # fmt: skip

    def _judged(self, situation: Situation, context: Context, decision: Decision, suggestion: Suggestion) -> LoggedRequest:
        kept = self.rng.random() < situation.p
        read_s = costs_of(situation.chars, situation.lines, self.truth).t_verify_s
        outcome = Outcome(
            id=self.ids.new(), at=self.at + timedelta(seconds=read_s), session_id=self.session.id,
            suggestion_id=suggestion.id, decision_id=decision.id, evidence=Evidence.COMMAND,
            kind=OutcomeKind.ACCEPTED if kept else OutcomeKind.DISMISSED, visible_ms=1000 * read_s,
            accepted_chars=situation.chars if kept else 0,
        )  # fmt: skip
        survival: tuple[Survival, ...] = ()
        if kept:
            share = 1.0 - self.truth.edit_share
            survival = (Survival(self.ids.new(), outcome.at, self.session.id, suggestion.id, 600.0, share),)
        return LoggedRequest(self.session, context, decision, suggestion, outcome, survival)
