"""One request from snapshot to decision: gate → generator → gate → decision. The only place that joins gate and generator.

Every path ends in exactly one `Answer`; a failure of gate or generator is an answer too (withheld, with its own reason) and an
incident. Nothing here touches the protocol, the log or the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from coderl_gate.adaptation import adapted
from coderl_gate.costs import CostParameters, costs_of, expected_costs
from coderl_gate.errors import GateError
from coderl_gate.features import FEATURE_VERSION, LogprobSummary
from coderl_gate.gate import Gate
from coderl_gate.policy import Policy, Request, Verdict, decide, route_probability
from coderl_generator.backend import Backend
from coderl_generator.complete import Budget
from coderl_generator.errors import GenerationTimedOut, GeneratorError, ModelMissing
from coderl_generator.prompt import Place as PromptPlace
from coderl_generator.reuse import Found, Reuse
from coderl_store.clock import Clock, utc
from coderl_store.ids import IdSource
from coderl_store.records import Action, Context, Costs, Decision, Reason, Route, Stage, Suggestion, Timings, Trigger

from .documents import Place
from .positions import Encoding
from .settings import Settings
from .shape import shape

HIDDEN_PAUSE_S = 0.5
"""Waiting that costs nothing: a pause this long is part of typing (our assumption; docs/gate.md, "Costs")."""

HUNG_S = 10.0
"""How much longer than its deadline a backend may take before it counts as hung. Real seconds, whatever the session's clock."""

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
    adaptation: float | None = None
    """What recent outcomes add to the dial; None = the setting is off."""

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


@dataclass(slots=True)
class _Progress:
    """What has been found out about a request so far; becomes the fields of its `Decision`."""

    context: Context
    request: Request | None = None
    verdict: Verdict | None = None
    gate_before_ms: float | None = None
    generate_ms: float | None = None
    gate_after_ms: float | None = None


class Intervener:
    """Decides requests with one gate and one generator."""

    def __init__(
        self,
        gate: Gate,
        backend: Backend | None,
        clock: Clock,
        ids: IdSource,
        template: str = "plain",
        *,
        hung_s: float = HUNG_S,
        patient: bool = False,
    ) -> None:
        """`patient`: a token may take as long as the whole deadline, so that a session on a client-driven clock
        does not depend on the machine's speed while the deadline is kept."""
        self._template = template
        self._hung_s = hung_s
        self._patient = patient
        self._gate = gate
        self._backend = backend
        self._clock = clock
        self._ids = ids
        self._reuse = Reuse()

    @property
    def gate(self) -> Gate:
        return self._gate

    @property
    def generator_id(self) -> str:
        return "" if self._backend is None else self._backend.generator_id

    def expect(self, asked: Asked) -> None:
        """A request was read. Generations that may answer it go on until `release`, whatever becomes of those they were for."""
        if asked.place is not None and asked.objection is None and asked.settings.reuse:
            self._reuse.expect(asked.context.id, asked.uri, _prompt_place(asked, asked.place))

    def release(self, asked: Asked) -> None:
        """The request has ended: what was generated for it alone stops."""
        self._reuse.release(asked.context.id)

    async def answer(self, asked: Asked) -> Answer:
        """Decide one request. Raises nothing but `asyncio.CancelledError` (the request was superseded or withdrawn)."""
        try:
            return await self._answer(asked)
        finally:
            self.release(asked)

    async def _answer(self, asked: Asked) -> Answer:
        progress = _Progress(asked.context)
        if asked.objection is not None or asked.place is None:
            return self._silent(asked, progress, asked.objection or Reason.UNKNOWN_DOCUMENT)
        try:
            started_s = self._clock.now_s()
            p1, features = self._gate.before(asked.context)
            progress.context = replace(asked.context, features=features, feature_version=FEATURE_VERSION)
            progress.gate_before_ms = self._since_ms(started_s)
            progress.request = Request(
                p1=p1,
                expected=expected_costs(asked.costs),
                coin_before=asked.coin_before,
                coin_after=asked.coin_after,
                may_explore=asked.may_explore,
                asked_for=asked.context.trigger is Trigger.INVOKED,
            )
            progress.verdict = decide(progress.request, self._policy(asked))
            if progress.verdict.route is Route.SKIP:
                return self._decided(asked, progress, None, "")
            return await self._generate(asked, asked.place, progress)
        except ModelMissing as error:
            return self._silent(asked, progress, Reason.NO_MODEL, error)
        except GenerationTimedOut as error:
            return self._silent(asked, progress, Reason.TIMED_OUT, error)
        except GeneratorError as error:
            return self._silent(asked, progress, Reason.GENERATOR_FAILED, error)
        except GateError as error:
            return self._silent(asked, progress, Reason.GATE_FAILED, error)

    def superseded(self, asked: Asked) -> Answer:
        """The answer to a request that was ended before it had one."""
        return self._silent(asked, _Progress(asked.context), Reason.SUPERSEDED)

    def failed(self, asked: Asked, error: Exception) -> Answer:
        """The answer to a request whose handling broke in a way nobody foresaw (a bug of ours)."""
        return self._silent(asked, _Progress(asked.context), Reason.INTERNAL_ERROR, error)

    async def _generate(self, asked: Asked, place: Place, progress: _Progress) -> Answer:
        if self._backend is None:
            return self._silent(asked, progress, Reason.NO_MODEL)
        assert progress.request is not None
        assert progress.verdict is not None
        budget = self._budget(asked.settings, place, progress.verdict.route)
        started_s = self._clock.now_s()
        found = await self._complete(self._backend, asked, place, budget)
        completion = found.completion
        progress.generate_ms = self._since_ms(started_s)
        text = completion.text
        if not text.strip():
            return self._silent(asked, progress, Reason.EMPTY)

        started_s = self._clock.now_s()
        logprobs = LogprobSummary.of(completion.logprobs)
        p2, features = self._gate.after(progress.context, progress.context.features, text, logprobs)
        progress.gate_after_ms = self._since_ms(started_s)
        lines = text.count("\n") + 1
        costs = costs_of(len(text), lines, asked.costs, self._waited_s(asked))
        progress.request = replace(progress.request, p2=p2, costs=costs)
        progress.verdict = decide(progress.request, self._policy(asked))

        suggestion = self._suggestion(asked, found, budget, features)
        late = self._late_objection(asked, text)
        if late is not None:
            return self._silent(asked, progress, late, suggestion=suggestion)
        return self._decided(asked, progress, suggestion, text)

    async def _complete(self, backend: Backend, asked: Asked, place: Place, budget: Budget) -> Found:
        """One completion. A backend that keeps neither its deadline nor its time-outs is given up: GenerationTimedOut."""
        reuse = self._reuse if asked.settings.reuse else Reuse()
        try:
            async with asyncio.timeout(asked.settings.deadline_ms / 1000 + self._hung_s):
                return await reuse.complete(
                    asked.context.id, asked.uri, backend, _prompt_place(asked, place), budget, self._clock.now_s
                )
        except GenerationTimedOut:
            raise
        except TimeoutError as error:
            raise GenerationTimedOut("The generator did not come to an end and was given up.") from error
        finally:
            reuse.release(asked.context.id)

    def _late_objection(self, asked: Asked, text: str) -> Reason | None:
        settings = asked.settings
        if len(text) > settings.max_suggestion_chars or text.count("\n") + 1 > settings.max_suggestion_lines:
            return Reason.TOO_LARGE
        if asked.context.trigger is Trigger.AUTOMATIC and asked.rejected_before(text):
            return Reason.REJECTED_BEFORE
        return None

    def _policy(self, asked: Asked) -> Policy:
        settings = asked.settings
        return Policy(
            h_bits=self._gate.artifact.h_bits,
            eagerness=asked.eagerness,
            epsilon_skip=settings.epsilon_skip,
            epsilon_withhold=settings.epsilon_withhold,
            rule=settings.rule,
            value_limit=self._gate.artifact.value_limit,
        )

    def _budget(self, settings: Settings, place: Place, route: Route) -> Budget:
        deadline_s = settings.deadline_ms / 1000
        common = Budget(deadline_s=deadline_s, template=self._template)
        if self._patient:
            common = replace(common, timeout_s=max(common.timeout_s, deadline_s))
        if route is Route.DRAFT:
            return replace(common, max_tokens=settings.draft_max_tokens)
        return replace(
            common, max_tokens=settings.max_tokens, mode=shape(place, settings.mode), temperature=settings.temperature
        )

    def _waited_s(self, asked: Asked) -> float:
        """Seconds the programmer stood still beyond a natural pause (a newer keystroke would have ended this request)."""
        return max(0.0, self._clock.now_s() - asked.at_s - HIDDEN_PAUSE_S)

    def _since_ms(self, start_s: float) -> float:
        return round((self._clock.now_s() - start_s) * 1000, 3)

    def _suggestion(self, asked: Asked, found: Found, budget: Budget, features: dict[str, float | None]) -> Suggestion:
        suggestion_id, completion = self._ids.new(), found.completion
        found.idea.lineage = found.idea.lineage or suggestion_id
        return Suggestion(
            id=suggestion_id,
            at=utc(self._clock.now_s()),
            session_id=asked.context.session_id,
            decision_id=asked.context.id,
            lineage_id=found.idea.lineage,
            source=found.source.value,
            generator_id=self.generator_id,
            chars=len(completion.text),
            lines=completion.text.count("\n") + 1,
            tokens=len(completion.token_ids),
            text=completion.text,
            token_ids=tuple(completion.token_ids),
            logprobs=tuple(completion.logprobs),
            temperature=budget.temperature,
            top_p=budget.top_p,
            max_tokens=budget.max_tokens,
            seed=budget.seed,
            first_token_ms=completion.first_token_ms,
            latency_ms=completion.latency_ms,
            finish_reason=str(completion.finish),
            features=features,
            feature_version=FEATURE_VERSION,
        )

    def _decided(self, asked: Asked, progress: _Progress, suggestion: Suggestion | None, text: str) -> Answer:
        verdict = progress.verdict
        assert verdict is not None
        assert verdict.action is not None
        assert verdict.reason is not None
        assert verdict.propensity is not None
        decision = self._decision(asked, progress, verdict.stage, verdict.action, verdict.reason, verdict.propensity)
        shown_text = text if decision.action is Action.SHOW else ""
        return Answer(progress.context, decision, suggestion, shown_text, explored=verdict.explored)

    def _silent(
        self,
        asked: Asked,
        progress: _Progress,
        reason: Reason,
        failure: Exception | None = None,
        suggestion: Suggestion | None = None,
    ) -> Answer:
        """Withheld by a rule, a failure or for want of text: no policy drew this action, only the route there."""
        drawn = 1.0
        if progress.request is not None and progress.verdict is not None:
            drawn = route_probability(progress.request, self._policy(asked), progress.verdict.route)
        decision = self._decision(asked, progress, Stage.RULE, Action.WITHHOLD, reason, drawn)
        explored = progress.verdict is not None and progress.verdict.explored  # a trial counts, whatever came of it
        return Answer(progress.context, decision, suggestion, "", failure, explored)

    def _decision(
        self, asked: Asked, progress: _Progress, stage: Stage, action: Action, reason: Reason, propensity: float
    ) -> Decision:
        request, verdict = progress.request, progress.verdict
        expected: Costs | None = None if request is None else request.expected
        return Decision(
            id=asked.context.id,
            at=utc(self._clock.now_s()),
            session_id=asked.context.session_id,
            context_id=asked.context.id,
            route=Route.SKIP if verdict is None else verdict.route,
            stage=stage,
            action=action,
            reason=reason,
            p1=None if request is None else request.p1,
            entropy_bits=None if verdict is None else verdict.entropy_bits,
            tau_before=None if verdict is None else verdict.tau_before,
            p2=None if request is None else request.p2,
            tau=None if verdict is None else verdict.tau,
            expected_costs=expected,
            costs=None if request is None else request.costs,
            epsilon_skip=asked.settings.epsilon_skip if asked.may_explore else 0.0,
            epsilon_withhold=asked.settings.epsilon_withhold if asked.may_explore else 0.0,
            coin_before=asked.coin_before,
            coin_after=asked.coin_after,
            propensity=propensity,
            gate_id=self._gate.artifact.id,
            generator_id=self.generator_id,
            eagerness=asked.eagerness,
            h_bits=self._gate.artifact.h_bits,
            timings=Timings(
                gate_before_ms=progress.gate_before_ms,
                generate_ms=progress.generate_ms,
                gate_after_ms=progress.gate_after_ms,
                total_ms=self._since_ms(asked.at_s),
            ),
            adaptation=None if request is None else asked.adaptation,
        )


async def warm(backend: Backend) -> None:
    """Load the model before the first request needs it, where the backend can."""
    warm_up = getattr(backend, "warm_up", None)
    if warm_up is not None:
        await warm_up()


def _prompt_place(asked: Asked, place: Place) -> PromptPlace:
    return PromptPlace(place.prefix, place.suffix, place.language, asked.uri.rsplit("/", 1)[-1])
