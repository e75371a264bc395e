"""Records as an editor sends them, at privacy level `metrics`: every feature of the catalogue, realistic shares of each kind.

Of 100 requests each has a context and a decision, 50 a suggestion, 25 an outcome and 5 a survival: what the language server
writes where the gate skips half of the requests and withholds half of the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from coderl_gate.catalogue import CONTEXT_FEATURES, FEATURE_VERSION, SUGGESTION_FEATURES, Feature
from coderl_store.clock import SystemClock, utc
from coderl_store.codec import encode
from coderl_store.ids import IdSource
from coderl_store.records import (
    Action,
    Context,
    Costs,
    Decision,
    Evidence,
    Origin,
    Outcome,
    OutcomeKind,
    Reason,
    Record,
    Route,
    Session,
    Stage,
    Suggestion,
    Survival,
    Timings,
    Trigger,
)
from coderl_store.snapshot import Activity, Scope, Syntax

SESSION_REQUESTS = 200
"""Requests of one session, which then ends."""


def bodies(count: int, batch: int, seed: int = 0) -> list[bytes]:
    """`count` bodies of `POST /v1/records`, each of `batch` records; no record is in two of them."""
    stream = _records(seed)
    return ["".join(encode(next(stream)) + "\n" for _ in range(batch)).encode() for _ in range(count)]


def _records(seed: int) -> Iterator[Record]:
    rng = random.Random(seed)
    clock = SystemClock()
    ids = IdSource(clock)
    while True:
        session = Session(ids.new(), utc(clock.now_s()), Origin.SIMULATED, "u", "bench", "1", "1", "generator", "gate")
        yield session
        for _ in range(SESSION_REQUESTS):
            yield from _request(rng, clock, ids, session.id)


def _request(rng: random.Random, clock: SystemClock, ids: IdSource, session_id: str) -> Iterator[Record]:
    context = Context(
        *(ids.new(), utc(clock.now_s()), session_id, "python", f"{rng.getrandbits(128):032x}"),
        line=rng.randrange(500),
        character=rng.randrange(80),
        trigger=Trigger.AUTOMATIC,
        document_version=rng.randrange(5000),
        document_chars=rng.randrange(40_000),
        document_lines=rng.randrange(1000),
        offset_chars=rng.randrange(40_000),
        typing_interval_ms=rng.uniform(60, 400),
        since_edit_ms=rng.uniform(0, 900),
        since_decision_ms=rng.uniform(0, 9000),
        recent_accepts=tuple(rng.random() < 0.3 for _ in range(10)),
        session_s=rng.uniform(0, 7000),
        syntax=Syntax(Scope.ARGUMENTS, depth=7, index=1, share=rng.random(), error=None),
        activity=Activity(rng.uniform(0, 60), added_chars=9, deleted_chars=2, deletions=1, undone=0, lines_away=2),
        features=_features(rng, CONTEXT_FEATURES),
        feature_version=FEATURE_VERSION,
    )
    costs = Costs(rng.random(), rng.random(), rng.uniform(1, 9), rng.random())
    decision = Decision(
        *(ids.new(), utc(clock.now_s()), session_id, context.id),
        *(Route.FULL, Stage.AFTER, Action.SHOW, Reason.WORTH_SHOWING),
        *(rng.random(), rng.random(), rng.random(), rng.random(), rng.random(), costs, costs),
        *(0.01, 0.01, rng.random(), rng.random(), 1.0, "gate", "generator"),
        timings=Timings(rng.random(), rng.uniform(50, 400), rng.random(), rng.uniform(50, 400)),
    )
    yield from (context, decision)
    if rng.random() >= 0.5:
        return
    tokens = rng.randrange(4, 30)
    suggestion = Suggestion(
        *(ids.new(), utc(clock.now_s()), session_id, decision.id, decision.id, "generator", 4 * tokens, 1, tokens),
        logprobs=tuple(-rng.expovariate(2.0) for _ in range(tokens)),
        max_tokens=48,
        first_token_ms=rng.uniform(30, 90),
        latency_ms=rng.uniform(90, 400),
        finish_reason="stop",
        features=_features(rng, SUGGESTION_FEATURES),
        feature_version=FEATURE_VERSION,
        source="generated",
    )
    yield suggestion
    if rng.random() >= 0.5:
        return
    refers = (session_id, suggestion.id)
    yield Outcome(
        *(ids.new(), utc(clock.now_s()), *refers, decision.id, OutcomeKind.ACCEPTED, Evidence.COMMAND),
        visible_ms=rng.uniform(250, 4000),
        accepted_chars=4 * tokens,
    )
    if rng.random() < 0.2:
        yield Survival(ids.new(), utc(clock.now_s()), *refers, 15.0, rng.random())


def _features(rng: random.Random, catalogue: tuple[Feature, ...]) -> dict[str, float | None]:
    """A third are yes or no, a tenth is not known."""
    draws = ((feature.name, rng.random()) for feature in catalogue)
    return {name: None if draw < 0.1 else float(draw < 0.2) if draw < 0.43 else rng.gauss(0, 3) for name, draw in draws}
