"""One request from snapshot to decision: gate → generator → gate → decision. The only place that joins gate and generator.

Every path ends in exactly one `Answer`; a failure of gate or generator is an answer too (withheld, with its own reason) and an
incident. Nothing here touches the protocol, the log or the session.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

from coderl_gate.costs import costs_of, expected_costs
from coderl_gate.errors import GateError
from coderl_gate.features import FEATURE_VERSION
from coderl_gate.gate import Gate
from coderl_gate.policy import Policy, Request, decide, route_probability
from coderl_generator.backend import Backend
from coderl_generator.complete import Budget
from coderl_generator.counters import Counters
from coderl_generator.errors import GenerationTimedOut, GeneratorError, ModelMissing
from coderl_generator.fit import TemplateFit
from coderl_generator.prompt import Place as PromptPlace
from coderl_generator.reuse import Found, Reuse, Source
from coderl_store.clock import Clock, utc
from coderl_store.ids import IdSource
from coderl_store.records import Action, Costs, Decision, Reason, Route, Stage, Suggestion, Trigger

from .ahead import LIKELY, Ahead
from .asked import Answer, Asked
from .budgets import budget_of, line_budget
from .candidates import Judged, Other, judged
from .debounce import Debounce
from .documents import Place, behind
from .rows import Progress, decision_row, suggestion_row
from .settings import Settings
from .shape import shape
from .surroundings import shown_path
from .syntax_end import end_rules
from .watching import Watch
from .withholding import nothing_left, objection_to

HIDDEN_PAUSE_S = 0.5
"""Waiting that costs nothing: a pause this long is part of typing (our assumption; docs/gate.md, "Costs")."""

SHORT_CHARS = 3000
"""A document up to this size is read when it is opened: its beginning is the beginning of every prompt in it."""

HUNG_S = 10.0
"""How much longer than its deadline a backend may take before it counts as hung. Real seconds, whatever the session's clock."""


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
        self._debounce = Debounce()
        self._ahead = Ahead(None if patient else backend, self._reuse, clock.now_s)
        self._fit = TemplateFit(template, self.generator_id)

    @property
    def template_doubt(self) -> str:
        """One sentence where the prompt template does not seem to fit the model, else empty."""
        return self._fit.doubt

    @property
    def gate(self) -> Gate:
        return self._gate

    def change_gate(self, gate: Gate) -> None:
        """Requests that are read from now on are decided by this gate: another generator runs."""
        self._gate = gate

    def change_template(self, template: str) -> None:
        """Prompts are written by this template from now on: another model runs."""
        self._template = template
        self._fit = TemplateFit(template, self.generator_id)

    @property
    def generator_id(self) -> str:
        return "" if self._backend is None else self._backend.generator_id

    def counters(self) -> dict[str, Any]:
        """What generating has cost so far: the backend's own counters (None where it keeps none) and the tokens that were of
        use."""
        kept, reuse = getattr(self._backend, "counters", None), self._reuse
        return {
            "generator": kept.to_json() if isinstance(kept, Counters) else None,
            "usable_tokens": reuse.usable_tokens,
            "end_tokens": reuse.end_tokens,
            "around_tokens": reuse.around_tokens,
            "empty_tokens": reuse.empty_tokens,
        }

    def expect(self, asked: Asked) -> None:
        """A request was read. Generations that may answer it go on until `release`, whatever becomes of those they were for."""
        place = None if asked.place is None or asked.objection is not None else _prompt_place(asked.uri, asked.place)
        if place is not None and asked.settings.reuse:
            self._reuse.expect(asked.context.id, asked.uri, place)
        self._ahead.expect(place)

    def opened(self, uri: str, language: str, text: str, settings: Settings) -> None:
        """A document of at most `SHORT_CHARS` was opened that may get suggestions."""
        if settings.work_ahead:
            end = PromptPlace(text, "", language, shown_path(uri), key=uri)
            self._ahead.read(end, line_budget(settings, self._template))

    def shown(self, asked: Asked, answer: Answer) -> None:
        """The answer was sent: get ready for what follows if it is accepted."""
        p2, settings = answer.decision.p2, asked.settings
        if p2 is None or p2 < LIKELY or asked.place is None or not (settings.work_ahead and settings.reuse):
            return
        place = behind(asked.place, answer.text)
        mode = shape(place, settings.mode, None, asked.recent_blocks)
        budget = replace(budget_of(settings, mode, Route.FULL, self._template), candidates=1)
        self._ahead.write(_with_context(asked, place, budget), answer.text, budget, end_rules(place, mode))

    def close(self) -> None:
        """Nothing is done ahead any more."""
        self._ahead.stop()

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
        progress = Progress(asked.context)
        if asked.objection is not None or asked.place is None:
            return self._silent(asked, progress, asked.objection or Reason.UNKNOWN_DOCUMENT)
        try:
            if asked.idle_s > 0:
                await self._clock.sleep(asked.idle_s)
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
                if asked.settings.work_ahead:
                    budget = line_budget(asked.settings, self._template)
                    self._ahead.read(_with_context(asked, asked.place, budget), budget)
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

    def stays(self, asked: Asked, rest: str) -> Answer:
        """The answer where a suggestion is typed along: the rest of it, without a new decision."""
        self.release(asked)
        progress = Progress(asked.context)
        decision = self._decision(asked, progress, Stage.RULE, Action.SHOW, Reason.TYPED_ALONG, 1.0)
        return Answer(asked.context, decision, text=rest)

    def superseded(self, asked: Asked) -> Answer:
        """The answer to a request that was ended before it had one."""
        return self._silent(asked, Progress(asked.context), Reason.SUPERSEDED)

    def failed(self, asked: Asked, error: Exception) -> Answer:
        """The answer to a request whose handling broke in a way nobody foresaw (a bug of ours)."""
        return self._silent(asked, Progress(asked.context), Reason.INTERNAL_ERROR, error)

    async def _generate(self, asked: Asked, place: Place, progress: Progress) -> Answer:
        if self._backend is None:
            return self._silent(asked, progress, Reason.NO_MODEL)
        assert progress.request is not None
        assert progress.verdict is not None
        budget = self._budget(asked, place, progress.verdict.route)
        started_s = self._clock.now_s()
        found = await self._complete(self._backend, asked, place, budget, progress)
        completion = found.completion
        progress.generate_ms = round(self._since_ms(started_s) - progress.paused_ms, 3)
        anew = found.source is Source.GENERATED
        if anew:
            self._debounce.answered(progress.generate_ms)
            self._fit = self._fit.after(completion.leaked)
        text = completion.text
        if not text.strip():
            return self._silent(asked, progress, nothing_left(completion.reason))

        started_s = self._clock.now_s()
        best, *rest = judged(self._gate, progress.context, completion, lambda text: self._costs(asked, text), anew=anew)
        progress.gate_after_ms = self._since_ms(started_s)
        text = best.completion.text
        progress.request = replace(progress.request, p2=best.p2, costs=best.costs)
        progress.verdict = decide(progress.request, self._policy(asked))

        suggestion = self._suggestion(asked, found, budget, best, 0 if rest else None)
        others = tuple(
            Other(self._suggestion(asked, found, budget, one, rank), one.p2)
            for rank, one in enumerate(rest, 1)
            if _late_objection(asked, place, one.completion.text) is None
        )
        late = _late_objection(asked, place, text)
        if late is Reason.CREDENTIAL:
            suggestion = replace(suggestion, text=None, token_ids=())
        if late is not None:
            return replace(self._silent(asked, progress, late, suggestion=suggestion), others=others)
        return replace(self._decided(asked, progress, suggestion, text), others=others)

    def _costs(self, asked: Asked, text: str) -> Costs:
        return costs_of(len(text), text.count("\n") + 1, asked.costs, self._waited_s(asked))

    async def _complete(self, backend: Backend, asked: Asked, place: Place, budget: Budget, progress: Progress) -> Found:
        """One completion. A backend that keeps neither its deadline nor its time-outs is given up: GenerationTimedOut."""
        reuse = self._reuse if asked.settings.reuse else Reuse()
        prompt_place = _with_context(asked, place, budget)

        async def pause() -> None:
            started_s = self._clock.now_s()
            if (delay_s := self._delay_s(asked, progress)) > 0:
                await self._clock.sleep(delay_s)
            progress.paused_ms = self._since_ms(started_s)
            self._ahead.reads(prompt_place, budget)

        try:
            async with asyncio.timeout(asked.settings.deadline_ms / 1000 + self._hung_s):
                return await reuse.complete(
                    asked.context.id,
                    asked.uri,
                    backend,
                    prompt_place,
                    budget,
                    self._clock.now_s,
                    watch=self._watch(asked, progress, budget),
                    rules=end_rules(place, budget.mode),
                    pause=pause,
                )
        except GenerationTimedOut:
            raise
        except TimeoutError as error:
            raise GenerationTimedOut("The generator did not come to an end and was given up.") from error
        finally:
            reuse.release(asked.context.id)

    def _delay_s(self, asked: Asked, progress: Progress) -> float:
        """How long to wait for the next key. What was asked for by hand waits for none."""
        context = asked.context
        if context.trigger is Trigger.INVOKED or progress.request is None:
            return 0.0
        most_ms = asked.settings.max_debounce_ms
        since_ms = None if context.since_edit_ms is None else context.since_edit_ms + 1000 * asked.idle_s
        p1, typing_ms, misses = progress.request.p1, context.typing_interval_ms, self._reuse.misses
        letters = progress.context.features.get("word_chars") or 0.0
        return self._debounce.delay_ms(p1, typing_ms, since_ms, most_ms, misses=misses, word_chars=letters) / 1000

    def _watch(self, asked: Asked, progress: Progress, budget: Budget) -> Watch:
        assert progress.request is not None
        waited_s = partial(self._waited_s, asked)
        return Watch(self._gate, self._policy(asked), progress.request, progress.context, asked.costs, budget.mode, waited_s)

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

    def _budget(self, asked: Asked, place: Place, route: Route) -> Budget:
        spent_s = self._clock.now_s() - asked.at_s - asked.idle_s
        mode = shape(place, asked.settings.mode, asked.context.syntax, asked.recent_blocks)
        return budget_of(
            asked.settings,
            mode,
            route,
            self._template,
            spent_s=spent_s,
            patient=self._patient,
            asked_for=asked.context.trigger is Trigger.INVOKED,
        )

    def _waited_s(self, asked: Asked) -> float:
        """Seconds the programmer stood still beyond a natural pause (a newer keystroke would have ended this request)."""
        return max(0.0, self._clock.now_s() - asked.at_s - HIDDEN_PAUSE_S)

    def _since_ms(self, start_s: float) -> float:
        return round((self._clock.now_s() - start_s) * 1000, 3)

    def _suggestion(self, asked: Asked, found: Found, budget: Budget, judged: Judged, rank: int | None) -> Suggestion:
        suggestion_id = self._ids.new()
        if not rank:  # another candidate is another idea
            found.idea.lineage = found.idea.lineage or suggestion_id
        return suggestion_row(
            judged,
            budget,
            id=suggestion_id,
            at=utc(self._clock.now_s()),
            session_id=asked.context.session_id,
            decision_id=asked.context.id,
            lineage_id=suggestion_id if rank else found.idea.lineage,
            source=found.source.value,
            generator_id=judged.completion.generator_id or self.generator_id,
            rank=rank,
        )

    def _decided(self, asked: Asked, progress: Progress, suggestion: Suggestion | None, text: str) -> Answer:
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
        progress: Progress,
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
        self, asked: Asked, progress: Progress, stage: Stage, action: Action, reason: Reason, propensity: float
    ) -> Decision:
        artifact, now_s = self._gate.artifact, self._clock.now_s()
        known = {"gate_id": artifact.id, "generator_id": self.generator_id, "h_bits": artifact.h_bits}
        return decision_row(asked, progress, stage, action, reason, propensity, now_s=now_s, **known)


async def warm(backend: Backend) -> None:
    """Load the model before the first request needs it, where the backend can."""
    warm_up = getattr(backend, "warm_up", None)
    if warm_up is not None:
        await warm_up()


def _prompt_place(uri: str, place: Place) -> PromptPlace:
    return PromptPlace(place.prefix, place.suffix, place.language, shown_path(uri), key=uri)


def _with_context(asked: Asked, place: Place, budget: Budget) -> PromptPlace:
    """The place with what its prompt carries from elsewhere."""
    return replace(_prompt_place(asked.uri, place), snippets=asked.gather(budget.template, budget))


def _late_objection(asked: Asked, place: Place, text: str) -> Reason | None:
    """What speaks against a text that was written."""
    return objection_to(
        text,
        place.line_prefix,
        asked.settings,
        automatic=asked.context.trigger is Trigger.AUTOMATIC,
        deleted=asked.deleted,
        rejected_before=asked.rejected_before,
    )
