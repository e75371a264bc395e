"""Another model or adapter while requests run: who is decoded with what, what is closed when, what the log would say."""

from __future__ import annotations

import asyncio

import pytest

from coderl_generator.adapters import Adapter, TakesAdapters, adapted_id
from coderl_generator.backend import Backend, FinishReason, GenerationRequest, Token, end_mark
from coderl_generator.complete import Budget, complete
from coderl_generator.errors import BackendRefused, BackendUnavailable, ModelDamaged
from coderl_generator.hot_swap import HotSwap
from coderl_generator.prompt import Place
from coderl_generator.scripted import Rule, Script, ScriptedBackend
from coderl_store.clock import SystemClock

REQUEST = GenerationRequest("x = 1\n")


def scripted(name: str, text: str = "one two three") -> ScriptedBackend:
    return ScriptedBackend(SystemClock(), Script(default=Rule(text=text)), generator_id=name)


async def text_of(backend: Backend) -> str:
    return "".join([token.text async for token in backend.stream(REQUEST)])


class Adaptable(ScriptedBackend):
    """A scripted backend that takes adapters and refuses one that is called `broken`."""

    adapter: Adapter | None = None

    @property
    def generator_id(self) -> str:
        return adapted_id("base", self.adapter)

    async def use_adapter(self, adapter: Adapter | None) -> None:
        if adapter is not None and adapter.name == "broken":
            raise ModelDamaged("it does not fit")
        self.adapter = adapter


class Unloadable(ScriptedBackend):
    """A model that cannot be loaded."""

    closed = False

    async def warm_up(self) -> None:
        raise ModelDamaged("it cannot be read")

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


async def test_a_running_request_ends_on_the_model_it_began_with() -> None:
    old, new = scripted("old", "alpha beta gamma"), scripted("new", "delta")
    hot = HotSwap(old)
    running = hot.stream(REQUEST)
    came = [(await anext(running)).text]
    await hot.swap(new)
    assert hot.generator_id == "new"
    assert await text_of(hot) == "delta"
    came += [token.text async for token in running]
    assert "".join(came) == "alpha beta gamma"


async def test_the_old_model_is_closed_when_its_last_stream_has_ended() -> None:
    old = scripted("old")
    hot = HotSwap(old)
    first, second = hot.stream(REQUEST), hot.stream(REQUEST)
    await anext(first)
    await anext(second)
    await hot.swap(scripted("new"))
    await first.aclose()
    await turns()
    assert await text_of(old)  # still open, for the second
    await second.aclose()
    await turns()
    with pytest.raises(BackendUnavailable):
        await text_of(old)
    await hot.aclose()


async def test_a_model_that_cannot_be_loaded_changes_nothing() -> None:
    hot, broken = HotSwap(scripted("old")), Unloadable(SystemClock())
    with pytest.raises(ModelDamaged):
        await hot.swap(broken)
    assert broken.closed
    assert hot.generator_id == "old"
    assert await text_of(hot) == "one two three"


async def test_closing_closes_the_model_that_serves_and_those_that_still_have_streams() -> None:
    old, new = scripted("old"), scripted("new")
    hot = HotSwap(old)
    running = hot.stream(REQUEST)
    await anext(running)
    await hot.swap(new)
    await hot.aclose()
    await hot.aclose()
    with pytest.raises(BackendUnavailable):
        await anext(running)
    for backend in (old, new, hot):
        with pytest.raises(BackendUnavailable):
            await text_of(backend)


async def test_a_swap_after_the_end_closes_what_it_was_given() -> None:
    hot, new = HotSwap(scripted("old")), scripted("new")
    await hot.aclose()
    with pytest.raises(BackendUnavailable):
        await hot.swap(new)
    with pytest.raises(BackendUnavailable):
        await text_of(new)


async def test_an_adapter_is_named_in_the_generator_id_and_a_broken_one_changes_nothing() -> None:
    hot = HotSwap(Adaptable(SystemClock()))
    assert isinstance(hot.backend, TakesAdapters)
    await hot.use_adapter(Adapter("team", "7", "anywhere"))
    assert hot.generator_id == "base+team@7"
    with pytest.raises(ModelDamaged):
        await hot.use_adapter(Adapter("broken", "8", "anywhere"))
    assert hot.generator_id == "base+team@7"
    await hot.use_adapter(None)
    assert hot.generator_id == "base"


async def test_a_backend_without_adapters_says_so() -> None:
    with pytest.raises(BackendRefused, match="swap the whole model"):
        await HotSwap(scripted("old")).use_adapter(Adapter("team", "7", "anywhere"))


async def test_it_is_a_backend_and_forces_a_beginning_where_the_one_that_serves_does() -> None:
    hot = HotSwap(ScriptedBackend(SystemClock(), forces_beginning=True))
    assert isinstance(hot, Backend)
    assert hot.forces_beginning
    await hot.swap(scripted("new"))
    assert not hot.forces_beginning


async def test_a_completion_names_the_weights_that_wrote_it_not_those_that_serve_when_it_ends() -> None:
    class Slow(ScriptedBackend):
        async def stream(self, request: GenerationRequest):  # type: ignore[no-untyped-def]  # as the protocol
            yield Token("value", 1, -0.1)
            await gate.wait()
            yield end_mark(FinishReason.END)

    gate = asyncio.Event()
    hot = HotSwap(Slow(SystemClock(), generator_id="old"))
    running = asyncio.create_task(complete(hot, Place("x = ", "", "python", "a.py"), Budget(), SystemClock().now_s))
    await turns()
    await hot.swap(scripted("new"))
    gate.set()
    assert (await running).generator_id == "old"
    assert (await complete(hot, Place("x = ", "", "python", "a.py"), Budget(), SystemClock().now_s)).generator_id == "new"


async def turns() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)
