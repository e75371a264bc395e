"""Several candidates: forks, samples, what follows, ranking, and what they may cost."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.backend import Alternative, FinishReason, GenerationRequest, Token
from coderl_generator.complete import Budget, Completion, complete
from coderl_generator.errors import BackendUnavailable
from coderl_generator.llamacpp import LlamaCppBackend
from coderl_generator.prompt import Place
from coderl_generator.scripted import Failure, Rule, Script, ScriptedBackend
from coderl_generator.several import Candidate, agreement, complete_several, following, forks, ranked
from coderl_generator.stop_rules import Reason
from coderl_store.clock import SystemClock, VirtualClock

PLACE = Place("def sign(x):\n    if x < 0:\n", "\n        return -1\n    return 1\n", "python")
THREE = Budget(candidates=3, several_s=60.0, sure=0.0, agreement_tokens=3)
GREEDY, LONGER, BLOCK = "\n        x = 0\n    return 0\n", "\n        x = -x\n", "\n        y = 0\n        return -1\n"


def branching(text: str, *others: str, clock: VirtualClock | SystemClock | None = None, **rule: object) -> ScriptedBackend:
    script = Script(default=Rule(text, others=others, **rule))  # type: ignore[arg-type]  # by name
    return ScriptedBackend(clock or SystemClock(), script, branches=True)


def completion(text: str, *logprobs: float) -> Completion:
    return Completion(
        text=text,
        token_ids=tuple(range(len(logprobs))),
        logprobs=logprobs,
        first_token_ms=None,
        latency_ms=0.0,
        finish=FinishReason.STOP,
        reason=Reason.LINE,
        tokens_used=len(logprobs),
        prompt_chars=0,
        trimmed="",
        token_ends=tuple(range(1, len(logprobs) + 1)),
    )


async def test_one_candidate_is_the_plain_completion() -> None:
    backend = branching(GREEDY, LONGER)
    made = await complete_several(backend, PLACE, Budget(), SystemClock().now_s)
    plain = await complete(branching(GREEDY), PLACE, Budget(), SystemClock().now_s)
    assert len(backend.requests) == len(made.candidates) == 1
    assert replace(made.best, latency_ms=0.0, first_token_ms=None) == replace(plain, latency_ms=0.0, first_token_ms=None)


async def test_forks_go_on_from_what_was_decoded() -> None:
    backend = branching(GREEDY, LONGER, BLOCK)
    made = await complete_several(backend, PLACE, THREE, SystemClock().now_s)
    assert {one.completion.text for one in made.candidates} == {"        x = 0", "        x = -x", "        y = 0"}
    assert [bool(request.head) for request in backend.requests[:3]] == [False, True, True]
    assert made.best.others == tuple(one.completion for one in made.candidates[1:])


async def test_the_candidate_that_what_follows_follows_is_the_best() -> None:
    made = await complete_several(branching(GREEDY, BLOCK), PLACE, THREE, SystemClock().now_s)
    greedy_first = await complete_several(
        branching(GREEDY, BLOCK), PLACE, replace(THREE, agreement_tokens=0), SystemClock().now_s
    )
    assert made.best.text == "        y = 0"  # unlikely in itself, but the next line is what the model expects behind it
    assert greedy_first.best.text == "        x = 0"


async def test_agreement_is_the_log_prob_of_what_follows() -> None:
    backend = branching(BLOCK, logprob=-0.25)
    done = await complete(backend, PLACE, Budget(alternatives=20), SystemClock().now_s)
    follows = following(PLACE)
    assert await agreement(backend, PLACE, done, follows, replace(THREE, agreement_tokens=3)) == (-0.25,) * 3
    other = await agreement(backend, PLACE, done, "\n  elsewhere", replace(THREE, agreement_tokens=2))
    left = math.log(1 - math.exp(-0.25))
    assert other == pytest.approx((left, left))  # at most what the tokens that came back leave


async def test_a_sure_completion_is_answered_alone() -> None:
    backend = branching(GREEDY, LONGER)
    made = await complete_several(backend, PLACE, replace(THREE, sure=-50.0), SystemClock().now_s)
    assert len(made.candidates) == len(backend.requests) == 1


async def test_an_empty_completion_is_not_sure() -> None:
    backend = branching("elsewhere\n", LONGER)
    made = await complete_several(backend, PLACE, replace(THREE, sure=-50.0), SystemClock().now_s)
    assert made.best.text == "        x = -x"


async def test_what_is_sure_or_hopeless_is_made_all_the_same_where_all_are_wanted() -> None:
    backend = branching(GREEDY, LONGER)
    made = await complete_several(backend, PLACE, replace(THREE, sure=-50.0, offer_all=True), SystemClock().now_s)
    assert len(made.candidates) == 2


@pytest.mark.parametrize(("offer_all", "stopped"), [(False, True), (True, False)])
async def test_a_fork_that_cannot_win_any_more_is_stopped(offer_all: bool, stopped: bool) -> None:
    long = "\n        " + " + ".join("abcdefghijklmnop") + "\n"
    backend = branching(GREEDY, long, logprob=-1.0)
    made = await complete_several(backend, PLACE, replace(THREE, offer_all=offer_all), SystemClock().now_s)
    assert len(made.candidates) == (1 if stopped else 2)
    whole = len(branching(long).requests) + 33  # a piece per name and sign, and the line's indentation and end
    assert (backend.decoded_tokens < whole) == stopped


async def test_samples_where_the_backend_does_not_branch() -> None:
    backend = ScriptedBackend(SystemClock(), Script(default=Rule(GREEDY, others=(LONGER, BLOCK))))
    made = await complete_several(backend, PLACE, THREE, SystemClock().now_s)
    assert [request.temperature for request in backend.requests] == [0.0, 0.6, 0.6]
    assert len({request.seed for request in backend.requests}) == 3
    assert {one.completion.text for one in made.candidates} == {"        x = 0", "        x = -x", "        y = 0"}


async def passing(clock: VirtualClock, task: asyncio.Future[object]) -> None:
    """Let time pass, a millisecond at a time, until the task is done."""
    while not task.done():
        for _ in range(20):
            await asyncio.sleep(0)
        clock.advance_to(clock.now_s() + 0.001)


async def test_no_candidate_is_begun_when_the_time_is_up() -> None:
    clock = VirtualClock(5.0)
    backend = branching(GREEDY, LONGER, BLOCK, clock=clock, delay_ms=10.0)
    task = asyncio.ensure_future(complete_several(backend, PLACE, replace(THREE, several_s=0.005), clock.now_s))
    await passing(clock, task)
    made = task.result()
    assert [one.completion.text for one in made.candidates] == ["        x = 0"]
    assert made.best.latency_ms <= 60
    late = asyncio.ensure_future(complete_several(backend, PLACE, replace(THREE, deadline_s=0.075), clock.now_s))
    await passing(clock, late)
    assert "        x = 0" in {one.completion.text for one in late.result().candidates}
    assert late.result().best.latency_ms <= 90


@pytest.mark.parametrize("branches", [True, False])
async def test_a_failure_of_the_others_leaves_the_first(branches: bool) -> None:
    class DiesLater(ScriptedBackend):
        async def stream(self, request: GenerationRequest):  # type: ignore[no-untyped-def]  # as its base
            if self.requests:
                raise BackendUnavailable("gone")
            async with aclosing(super().stream(request)) as tokens:
                async for token in tokens:
                    yield token

    backend = DiesLater(SystemClock(), Script(default=Rule(GREEDY, others=(LONGER,))), branches=branches)
    made = await complete_several(backend, PLACE, THREE, SystemClock().now_s)
    assert made.best.text == "        x = 0"
    assert isinstance(made.failure, BackendUnavailable)


async def test_a_failure_of_the_first_is_raised() -> None:
    backend = branching("", failure=Failure.UNAVAILABLE)
    with pytest.raises(BackendUnavailable):
        await complete_several(backend, PLACE, THREE, SystemClock().now_s)


def test_forks_that_come_to_the_same_text_are_left_out() -> None:
    def token(text: str, *others: str) -> Token:
        beside = [Alternative(text, hash(text) % 1000, -0.1), *(Alternative(one, hash(one) % 1000, -2.0) for one in others)]
        return Token(text, hash(text) % 1000, -0.1, alternatives=tuple(beside))

    decoded = [token("\n   ", "\n\n   ", "\n ", " +"), token(" return", " raise"), token(" x", "\n"), token("\n", "\n\n", " +")]
    found = ["".join(one.text for one in fork) for fork in forks(decoded, "\n", 10)]
    assert found == ["\n ", "\n    raise", "\n    return\n", "\n    return x +"]
    assert forks(decoded, "\n", 2) == forks(decoded, "\n", 10)[:2]


def test_what_follows_is_the_next_lines() -> None:
    assert following(Place("a", "\r\n\r\n  b\r\nc")) == "\n  b\nc"
    assert following(Place("f(", ")\nb")) == ""
    assert following(Place("a", "\n \n")) == ""


logprobs = st.floats(-20, 0).map(lambda value: round(value, 3))
candidates = st.lists(
    st.builds(
        Candidate,
        st.builds(completion, st.sampled_from(["", " ", "a", "b", "c"]), logprobs),
        st.one_of(st.none(), logprobs),
    ),
    min_size=1,
    max_size=6,
)


@given(candidates, st.floats(0, 4))
def test_ranking_keeps_one_of_each_text_and_orders_by_worth(given_: list[Candidate], weight: float) -> None:
    out = ranked(given_, weight)
    texts = [one.completion.text.rstrip() for one in out]
    assert len(set(texts)) == len(texts) >= 1
    assert set(texts) - {""} == {one.completion.text.rstrip() for one in given_} - {""}
    assert all(texts) or len(texts) == 1
    known = all(one.agreement is not None for one in out)
    worths = [one.logprob + (weight * (one.agreement or 0.0) if known else 0.0) for one in out]
    assert worths == sorted(worths, reverse=True)
    assert ranked(out, weight) == out


def test_what_is_left_of_a_completion_knows_the_candidates_that_begin_the_same() -> None:
    best = replace(
        completion("abc", -1, -1, -1), others=(completion("abd", -2, -2, -2), completion("xyz", -3), completion("a", -4))
    )
    left = best.after(2)
    assert (left.text, [one.text for one in left.others]) == ("c", ["d"])
    assert left.others[0].logprobs == (-2,)


@pytest.mark.model
async def test_the_embedded_model_branches(embedded_model: Path) -> None:
    backend = LlamaCppBackend(embedded_model, threads=2)
    try:
        place = Place("def add(a, b):\n    return a +", "", "python")
        greedy = await complete(backend, place, Budget(max_tokens=6, alternatives=5, timeout_s=120.0), SystemClock().now_s)
        for token in greedy.decoded:
            assert len(token.alternatives) == 5
            assert [one.logprob for one in token.alternatives] == sorted(
                (one.logprob for one in token.alternatives), reverse=True
            )
            assert math.isclose(token.alternatives[0].logprob, token.logprob, abs_tol=1e-6)
        head = greedy.decoded[:1]
        again = await complete(backend, place, Budget(max_tokens=6, timeout_s=120.0), SystemClock().now_s, head=head)
        assert (again.text, again.token_ids) == (greedy.text, greedy.token_ids)
        assert again.tokens_used == greedy.tokens_used - 1
    finally:
        await backend.aclose()
