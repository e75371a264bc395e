"""Adapters changed while a real engine serves (transformers, vLLM in process, vLLM as a server), and such engines' death."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from itertools import takewhile
from pathlib import Path

import pytest

from coderl_generator.adapters import Adapter
from coderl_generator.backend import Backend, FinishReason, GenerationRequest, Token
from coderl_generator.errors import BackendUnavailable, GeneratorError
from coderl_generator.hot_swap import HotSwap
from coderl_generator.openai_http import OpenAiBackend

from .conftest import PROMPT, WORDS, VllmServer, new_vllm, serving

LoraMaker = Callable[[int], Path]
REQUEST = GenerationRequest(PROMPT, max_tokens=12, timeout_s=600.0)


@pytest.fixture(params=["transformers", "vllm", "vllm-server"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[HotSwap]:
    """A hot-swappable backend on the bare model; it is on the bare model again afterwards."""
    if request.param == "vllm-server":
        server: VllmServer = request.getfixturevalue("vllm_server")
        backend: Backend = OpenAiBackend(f"{server.url}/v1", "served", unload_adapters=True)
    else:
        backend = request.getfixturevalue(f"{request.param}_model")
    hot = HotSwap(backend)
    await hot.warm_up()
    yield hot
    await hot.use_adapter(None)
    if request.param == "vllm-server":
        await backend.aclose()


ENDLESS = GenerationRequest("".join(f"{number}\n" for number in range(60)), max_tokens=1500, timeout_s=600.0)
"""Counting goes on: it does not end by itself before somebody is killed."""


async def text_of(backend: Backend) -> str:
    return "".join([token.text async for token in backend.stream(REQUEST)])


async def test_requests_are_decoded_with_the_adapter_they_began_with(served: HotSwap, lora: LoraMaker) -> None:
    bare_id = served.generator_id
    bare = await text_of(served)
    one, two = Adapter.at(lora(1), "team", "1"), Adapter.at(lora(2), "team", "2")
    running = served.stream(REQUEST)
    came = [(await anext(running)).text]
    await served.use_adapter(one)
    assert served.generator_id == f"{bare_id}+team@1"
    written = [await text_of(served)]
    came += [token.text async for token in running]
    assert "".join(came) == bare
    await served.use_adapter(two)
    assert served.generator_id == f"{bare_id}+team@2"
    written.append(await text_of(served))
    await served.use_adapter(one)
    assert await text_of(served) == written[0]
    await served.use_adapter(None)
    assert served.generator_id == bare_id
    assert await text_of(served) == bare
    assert len({bare, *written}) == 3
    assert all(text.startswith(WORDS[number] * 3) for number, text in enumerate(written, 1))


async def test_an_adapter_that_cannot_be_loaded_changes_nothing(served: HotSwap, tmp_path: Path) -> None:
    before, bare = served.generator_id, await text_of(served)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(GeneratorError):
        await served.use_adapter(Adapter("broken", "1", str(tmp_path)))
    assert served.generator_id == before
    assert await text_of(served) == bare


async def test_the_server_loads_and_unloads_by_name(vllm_server: VllmServer, lora: LoraMaker) -> None:
    adapter = Adapter.at(lora(3), "night", "3")
    backend, guest = (OpenAiBackend(f"{vllm_server.url}/v1", "served", unload_adapters=own) for own in (True, False))
    await backend.use_adapter(adapter)
    await guest.use_adapter(adapter)  # another editor at the same server: it is loaded already, and that is fine
    assert await text_of(guest) == await text_of(backend)
    assert vllm_server.models() == {"served", "night@3"}
    running = backend.stream(REQUEST)
    await anext(running)
    await backend.use_adapter(None)
    assert vllm_server.models() == {"served", "night@3"}  # in use
    assert [token async for token in running][-1].is_end_mark
    async with asyncio.timeout(600):
        while vllm_server.models() != {"served"}:  # noqa: ASYNC110  # another process changes it
            await asyncio.sleep(0.05)
    for one in (backend, guest):
        await one.aclose()


async def test_several_requests_are_decoded_with_different_adapters_at_once(served: HotSwap, lora: LoraMaker) -> None:
    """A batch is rounded otherwise than one request alone, so texts part sooner or later, but not at once.
    Until then the log-probs are the same but for rounding."""
    alone, streams, together = [], [], []
    for version in ("1", "2"):
        await served.use_adapter(Adapter.at(lora(int(version)), "team", version))
        alone.append([token async for token in served.stream(REQUEST)])
        streams.append(served.stream(REQUEST))
        together.append([await anext(streams[-1])])
    for tokens, rest in zip(together, await asyncio.gather(*(all_of(stream) for stream in streams)), strict=True):
        tokens += rest
    for number in (0, 1):
        shared = as_long_as_they_agree(together[number], alone[number])
        assert len(shared) >= 3
        assert len(shared) > len(as_long_as_they_agree(together[number], alone[1 - number]))
        assert [ours.logprob for ours, _ in shared] == pytest.approx([theirs.logprob for _, theirs in shared], abs=0.3)


def as_long_as_they_agree(one: list[Token], other: list[Token]) -> list[tuple[Token, Token]]:
    return list(takewhile(lambda pair: pair[0].text == pair[1].text, zip(one, other, strict=False)))


async def all_of(stream: AsyncIterator[Token]) -> list[Token]:
    return [token async for token in stream]


async def rest_of(stream: AsyncIterator[Token]) -> str:
    return "".join([token.text for token in await all_of(stream)])


async def test_a_server_that_is_killed_in_mid_stream_is_unavailable(hf_model: Path, tmp_path: Path) -> None:
    with serving(hf_model, tmp_path) as server:
        backend = OpenAiBackend(f"{server.url}/v1", "served")
        stream = backend.stream(ENDLESS)
        assert (await anext(stream)).text
        server.kill()
        with pytest.raises(BackendUnavailable):
            await rest_of(stream)
        with pytest.raises(BackendUnavailable, match="is it running"):
            await text_of(backend)
        await backend.aclose()


async def test_an_engine_that_is_killed_in_mid_stream_is_unavailable_and_another_is_started(hf_model: Path) -> None:
    others = {child.pid for child in multiprocessing.active_children()}
    backend = new_vllm(hf_model)
    await backend.warm_up()
    stream = backend.stream(ENDLESS)
    await anext(stream)
    for child in multiprocessing.active_children():
        if child.pid is not None and child.pid not in others:
            os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(BackendUnavailable):
        await rest_of(stream)
    assert [token async for token in backend.stream(REQUEST)][-1].finish in (FinishReason.LENGTH, FinishReason.END)
    await backend.aclose()
