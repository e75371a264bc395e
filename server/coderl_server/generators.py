"""Another model, or another adapter, while the server runs; gate and prompt template are those of what decodes from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from coderl_gate.errors import GateError
from coderl_gate.gate import Gate
from coderl_generator.adapters import Adapter
from coderl_generator.backend import Backend
from coderl_generator.errors import GeneratorError
from coderl_generator.hot_swap import HotSwap

from .errors import InputError


class Decides(Protocol):
    """What decides on a generator's texts, such as an `Intervener`."""

    @property
    def generator_id(self) -> str:
        """Of the generator that runs."""
        ...

    def change_gate(self, gate: Gate) -> None:
        """Another gate decides from now on."""
        ...

    def change_template(self, template: str) -> None:
        """Prompts are written by this template from now on."""
        ...


class Generators:
    """Answers `coderl/generator`. Changes are made one at a time; while one is made the old generator goes on."""

    def __init__(
        self,
        running: HotSwap | None,
        decides: Decides,
        build: Callable[[str], Backend],
        gate_for: Callable[[str], tuple[Gate, str]],
        template_for: Callable[[str], tuple[str, str]],
        notice: Callable[[str, str], None] = lambda code, sentence: None,
    ) -> None:
        """`build` makes the backend of a model by its name or path, not loaded yet; raises `GeneratorError` or `InputError`.
        `gate_for` makes the gate of a generator by its id, and raises `GateError`; `template_for` gives a model's prompt
        template; each with a sentence where something is wrong with it, which `notice` is told by its code, or nothing."""
        self._running = running
        self._decides = decides
        self._build = build
        self._gate_for = gate_for
        self._template_for = template_for
        self._notice = notice
        self._changing = asyncio.Lock()

    async def use(self, wanted: object) -> dict[str, Any]:
        """`{"model": name or path}`, `{"adapter": folder, or null for the bare model}`, or nothing, to be told what runs.

        → `{"generator", "changed", "message"}`; where nothing could be changed `message` says why, and nothing is changed.
        After a change it says what is wrong with the template, if anything is.
        """
        asked = wanted if isinstance(wanted, dict) else {}
        async with self._changing:
            before = self._decides.generator_id
            try:
                message = await self._use(asked)
                if self._decides.generator_id != before:
                    if "model" in asked:
                        template, message = self._template_for(asked["model"])
                        self._decides.change_template(template)
                        self._notice("template", message)
                    self._regate()
            except (GeneratorError, GateError, InputError, OSError) as error:
                message = str(error)
                if isinstance(error, GateError):
                    self._notice("gate", message)
            after = self._decides.generator_id
        return {"generator": after, "changed": after != before, "message": message}

    async def gate_changed(self) -> None:
        """Another gate was promoted: it judges what is read from now on. Where it cannot be read, the old one goes on."""
        async with self._changing:
            try:
                self._regate()
            except GateError as error:
                self._notice("gate", str(error))

    def _regate(self) -> None:
        gate, warning = self._gate_for(self._decides.generator_id)
        self._decides.change_gate(gate)
        self._notice("gate", warning)

    async def _use(self, asked: dict[str, Any]) -> str:
        """Returns what stands in the way, or nothing."""
        model, adapter = asked.get("model"), asked.get("adapter")
        if not asked:
            return ""
        if self._running is None:
            return "No generator runs yet: install a model (`coderl models install`) and start the server again."
        if set(asked) == {"model"} and isinstance(model, str) and model:
            await self._running.swap(self._build(model))
        elif set(asked) == {"adapter"} and (adapter is None or isinstance(adapter, str)):
            made = None if adapter is None else await asyncio.to_thread(Adapter.at, adapter)
            await self._running.use_adapter(made)
        else:
            return "Give either `model`, a name or a path, or `adapter`, a folder or null."
        return ""
