"""The log's rows of one request: what was decided, and the suggestions that were made for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coderl_gate.features import FEATURE_VERSION
from coderl_gate.policy import Request, Verdict
from coderl_generator.complete import Budget
from coderl_store.clock import utc
from coderl_store.records import Action, Context, Decision, Reason, Record, Route, Stage, Suggestion, Timings

from .asked import Answer, Asked
from .candidates import Judged


@dataclass(slots=True)
class Progress:
    """What has been found out about a request so far; becomes the fields of its `Decision`."""

    context: Context
    request: Request | None = None
    verdict: Verdict | None = None
    gate_before_ms: float | None = None
    paused_ms: float = 0.0
    """Waited for the next key."""
    generate_ms: float | None = None
    gate_after_ms: float | None = None


def decision_row(
    asked: Asked,
    progress: Progress,
    stage: Stage,
    action: Action,
    reason: Reason,
    propensity: float,
    *,
    now_s: float,
    **known: Any,
) -> Decision:
    """The decision as it was taken at `now_s`; `known` are the fields of the gate and the generator."""
    request, verdict = progress.request, progress.verdict
    return Decision(
        id=asked.context.id,
        at=utc(now_s),
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
        expected_costs=None if request is None else request.expected,
        costs=None if request is None else request.costs,
        epsilon_skip=asked.settings.epsilon_skip if asked.may_explore else 0.0,
        epsilon_withhold=asked.settings.epsilon_withhold if asked.may_explore else 0.0,
        coin_before=asked.coin_before,
        coin_after=asked.coin_after,
        propensity=propensity,
        eagerness=asked.eagerness,
        timings=Timings(
            gate_before_ms=progress.gate_before_ms,
            generate_ms=progress.generate_ms,
            gate_after_ms=progress.gate_after_ms,
            total_ms=round((now_s - asked.at_s) * 1000, 3),
        ),
        adaptation=None if request is None else asked.adaptation,
        **known,
    )


def rows_of(asked: Asked, answer: Answer) -> tuple[Record, ...]:
    """The rows of a request that has its answer."""
    if asked.objection is Reason.SECRET_FILE:
        return ()  # nothing of such a file is logged, not even that someone typed in it
    made = () if answer.suggestion is None else (answer.suggestion, *(other.suggestion for other in answer.others))
    return (answer.context, answer.decision, *made)


def suggestion_row(judged: Judged, budget: Budget, **known: Any) -> Suggestion:
    """The log's row of a candidate; `known` are the fields that are not the candidate's own."""
    completion = judged.completion
    return Suggestion(
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
        features=judged.features,
        feature_version=FEATURE_VERSION,
        **known,
    )
