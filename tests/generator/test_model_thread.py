"""The thread that owns a model, with work of the test's own in the model's place."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coderl_generator.backend import FinishReason, Token, end_mark
from coderl_generator.errors import BackendUnavailable, PromptTooLong
from coderl_generator.model_thread import Job, ModelThread


def thread(released: threading.Event | None = None) -> ModelThread:
    return ModelThread("the model", (released or threading.Event()).set)


def say(*texts: str) -> object:
    def work(job: Job) -> None:
        for text in texts:
            job.emit(Token(text, 1, -0.1))
        job.emit(end_mark(FinishReason.END))

    return work


async def test_work_is_done_in_order_in_one_thread() -> None:
    model, done = thread(), []
    for name in "abc":
        model.later(lambda job, name=name: done.append((name, threading.get_ident())))  # type: ignore[misc]  # bound now
    assert [token.text async for token in model.tokens(say("x", "y"))] == ["x", "y", ""]  # type: ignore[arg-type]
    assert [name for name, _ in done] == ["a", "b", "c"]
    assert len({ident for _, ident in done} | {threading.get_ident()}) == 2
    await model.aclose()


async def test_closing_a_stream_cancels_its_work() -> None:
    model, seen = thread(), threading.Event()

    def endless(job: Job) -> None:
        job.emit(Token("x", 1, -0.1))
        job.cancelled.wait(30)
        seen.set()

    stream = model.tokens(endless)
    await anext(stream)
    await stream.aclose()
    await model.do(Job.done)
    assert seen.is_set()
    await model.aclose()


@pytest.mark.parametrize(
    ("raised", "error"), [(PromptTooLong("long"), PromptTooLong), (RuntimeError("boom"), BackendUnavailable)]
)
async def test_what_work_raises_is_the_callers_and_the_thread_goes_on(raised: Exception, error: type[Exception]) -> None:
    def fail(_: Job) -> None:
        raise raised

    model = thread()
    with pytest.raises(error):
        await model.do(fail)
    await model.do(Job.done)
    await model.aclose()


async def test_closing_fails_what_waits_frees_the_model_and_refuses_more() -> None:
    released, busy = threading.Event(), threading.Event()
    model = thread(released)

    def hold(job: Job) -> None:
        busy.set()
        job.cancelled.wait(30)

    running, waiting = (asyncio.create_task(model.do(hold)) for _ in range(2))
    await asyncio.to_thread(busy.wait, 30)
    await model.aclose()
    await model.aclose()
    assert released.is_set()
    for one in (running, waiting):
        with pytest.raises(BackendUnavailable, match="shut down"):
            await one
    with pytest.raises(BackendUnavailable, match="shut down"):
        await model.do(Job.done)
