"""Another model or adapter while the server runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coderl_gate.errors import ArtifactError
from coderl_gate.gate import Gate
from coderl_gate.quantiles import OnlineQuantiles
from coderl_generator.errors import ModelMissing
from coderl_generator.hot_swap import HotSwap
from coderl_generator.scripted import Rule, Script, ScriptedBackend
from coderl_server.generators import Generators
from coderl_store.clock import SystemClock


def scripted(name: str) -> ScriptedBackend:
    return ScriptedBackend(SystemClock(), Script(default=Rule(text=f"{name})")), generator_id=name)


def template_for(model: str) -> tuple[str, str]:
    return ("starcoder2", "The vocabulary lacks a token.") if model.startswith("starcoder2") else ("plain", "")


class Desk:
    """A service on a workbench whose generator can be changed."""

    def __init__(self, workbench: Any, **options: Any) -> None:
        self.bench = workbench(backend=HotSwap(scripted("first")), decides="always_show", **options)
        intervener = self.bench.service._intervener
        self.notices: dict[str, str] = {}
        self.generators = Generators(
            self.bench.backend, intervener, self.built, self.gate_for, template_for, self.notices.__setitem__
        )
        self.bench.open()

    def built(self, model: str) -> ScriptedBackend:
        if model == "absent":
            raise ModelMissing("there is no model file at absent")
        return scripted(model)

    def gate_for(self, generator_id: str) -> tuple[Gate, str]:
        if generator_id == "unjudged":
            raise ArtifactError("The gate cannot be read.")
        gate = Gate(self.bench.gate.artifact, generator_id, OnlineQuantiles(generator_id, self.bench.service._rng))
        return gate, "The active gate was fitted on first." if generator_id == "second" else ""


async def test_another_model_writes_and_is_named_in_the_log(workbench: Any) -> None:
    desk = Desk(workbench)
    await desk.bench.service.suggest(desk.bench.capture())
    assert await desk.generators.use({"model": "second"}) == {"generator": "second", "changed": True, "message": ""}
    await desk.bench.service.suggest(desk.bench.capture())
    await asyncio.sleep(0.01)
    assert (desk.bench.suggestion.text, desk.bench.suggestion.generator_id) == ("second)", "second")
    assert desk.bench.decision.generator_id == "second"
    assert desk.bench.service.status()["generator"] == "second"
    assert desk.bench.service._intervener.gate.generator_id == "second"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"model": "absent"}, "no model file"),
        ({"adapter": "/nowhere"}, "no adapter in"),
        ({"adapter": None}, "takes no adapters"),
        ({"model": "second", "adapter": None}, "Give either"),
        ({"model": 3}, "Give either"),
        ({"weights": "x"}, "Give either"),
    ],
)
async def test_what_cannot_be_done_is_said_and_changes_nothing(workbench: Any, wanted: object, said: str) -> None:
    desk = Desk(workbench)
    told = await desk.generators.use(wanted)
    assert (told["generator"], told["changed"]) == ("first", False)
    assert said in told["message"]


async def test_prompts_are_written_as_the_new_model_reads_them(workbench: Any) -> None:
    desk = Desk(workbench)
    told = await desk.generators.use({"model": "starcoder2-3b"})
    assert told == {"generator": "starcoder2-3b", "changed": True, "message": "The vocabulary lacks a token."}
    await desk.bench.service.suggest(desk.bench.capture())
    prompt = desk.bench.backend.backend.requests[-1].prompt
    assert prompt.startswith("<fim_prefix>")
    await desk.generators.use({"model": "plainer"})
    await desk.bench.service.suggest(desk.bench.capture())
    assert "<fim_prefix>" not in desk.bench.backend.backend.requests[-1].prompt


@pytest.mark.parametrize("wanted", [{}, None, [], "second"])
async def test_nothing_asks_what_runs(workbench: Any, wanted: object) -> None:
    assert await Desk(workbench).generators.use(wanted) == {"generator": "first", "changed": False, "message": ""}


async def test_a_model_that_no_gate_can_judge_is_said(workbench: Any) -> None:
    """The model serves all the same, with the gate that was there: it knows nothing of the new one's log-probs."""
    desk = Desk(workbench)
    told = await desk.generators.use({"model": "unjudged"})
    assert told == {"generator": "unjudged", "changed": True, "message": "The gate cannot be read."}
    assert desk.notices["gate"] == "The gate cannot be read."


async def test_a_gate_that_was_fitted_for_another_generator_is_said_until_it_fits(workbench: Any) -> None:
    desk = Desk(workbench)
    await desk.generators.use({"model": "second"})
    assert desk.notices["gate"] == "The active gate was fitted on first."
    await desk.generators.use({"model": "third"})
    assert desk.notices["gate"] == ""


async def test_a_gate_that_was_promoted_meanwhile_judges_from_then_on(workbench: Any) -> None:
    desk = Desk(workbench)
    before = desk.bench.service._intervener.gate
    await desk.generators.gate_changed()
    assert desk.bench.service._intervener.gate is not before
    assert desk.notices["gate"] == ""


async def test_without_a_generator_there_is_nothing_to_change(workbench: Any) -> None:
    bench = workbench(backend=None)
    generators = Generators(None, bench.service._intervener, scripted, lambda name: (bench.gate, ""), template_for)
    assert "install a model" in (await generators.use({"model": "second"}))["message"]
