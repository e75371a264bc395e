"""The model that a worker serves: how it is made, loaded, changed while it serves, and closed.

Each worker has its own: with a model inside the process, N workers hold it N times. The promoted model and the active gate of
the data folder are followed, as by a language server (`coderl_server.following`), unless the command line named one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from coderl_gate.artifact import GateArtifact
from coderl_gate.gate import Gate
from coderl_gate.quantiles import OnlineQuantiles, reference_table
from coderl_gate.tendency import NOBODY, Tendency
from coderl_generator.backend import Backend
from coderl_generator.errors import GeneratorError
from coderl_generator.hot_swap import HotSwap
from coderl_store.clock import Clock, SystemClock

from ..backends import SERVERS, GeneratorOptions, built
from ..errors import InputError
from ..following import Followed, Follower
from ..gates import chosen_artifact
from ..generators import Generators
from ..templates import chosen_template
from .metrics import Metrics
from .settings import Limits
from .turns import Turns

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """Which model is served, and how."""

    generator: GeneratorOptions
    template: str = ""
    """Of prompts; empty = the one that fits the model."""
    at_once: int | None = None
    """Streams at the model at once; None = one for a model inside the process, else 64."""


class Generation:
    """One worker's model, with the line before it. Used on the event loop."""

    def __init__(
        self, backend: HotSwap, template: str, artifact: GateArtifact, turns: Turns, follower: Follower | None
    ) -> None:
        self._backend = backend
        self.template = template
        """Name of the prompt template that fits the model."""
        self.artifact = artifact
        """The gate that decides on the model's texts."""
        self.turns = turns
        self.changes = 0
        """How often model, template or gate were changed."""
        self.follower = follower

    @property
    def backend(self) -> Backend:
        """The model itself: for whoever has a turn."""
        return self._backend

    @property
    def generator_id(self) -> str:
        """Of the request that begins next."""
        return self._backend.generator_id

    def of(self, caller_id: str) -> Backend:
        """The model as one caller has it."""
        return self.turns.of(caller_id)

    def change_gate(self, gate: Gate) -> None:
        """Another gate decides from now on."""
        self.artifact = gate.artifact
        self.changes += 1

    def change_template(self, template: str) -> None:
        """Prompts are written by this template from now on: another model runs."""
        self.template = template
        self.changes += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the model, follow what is promoted, and close it in the end. A model that cannot be loaded is said in the log of
        the server, and requests are answered 503."""
        work = [asyncio.ensure_future(self._load())]
        if self.follower is not None:
            work.append(asyncio.ensure_future(self.follower.follow()))
        try:
            yield
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            with suppress(GeneratorError):
                await self._backend.aclose()

    async def _load(self) -> None:
        try:
            await self._backend.warm_up()
        except GeneratorError as error:
            logger.error("The model could not be loaded: %s", error)


def generation_of(served: Served, home: Path, clock: Clock, limits: Limits, metrics: Metrics) -> Generation:
    """The model that is named, not loaded yet. Raises `InputError` where there is none."""
    options = served.generator
    template, template_warning = chosen_template(served.template, options.backend, options.model_name, home)
    backend = HotSwap(_built(options, home, clock))
    artifact, gate_warning = chosen_artifact(None, home, backend.generator_id)
    for warning in (template_warning, gate_warning):
        _notice("generator", warning)
    at_once = served.at_once or (64 if options.backend in SERVERS else 1)
    made = Generation(backend, template, artifact, Turns(backend, at_once, limits, metrics), None)

    def gate_for(generator_id: str) -> tuple[Gate, str]:
        found, warning = chosen_artifact(None, home, generator_id)
        return gate_of(found, generator_id), warning

    def build_model(model: str) -> Backend:
        return _built(replace(options, model=model), home, clock)

    template_for = partial(chosen_template, served.template, options.backend, home=home)
    generators = Generators(backend, made, build_model, gate_for, template_for, _notice)
    made.follower = Follower(home, Followed(options.followed, gate=True), generators.use, generators.gate_changed, _notice)
    return made


def available(served: Served, home: Path) -> Backend:
    """The backend that workers will make, not loaded. Raises `InputError`: said before any worker starts."""
    chosen_template(served.template, served.generator.backend, served.generator.model_name, home)
    return _built(served.generator, home, SystemClock())


def gate_of(artifact: GateArtifact, generator_id: str, tendency: Tendency = NOBODY) -> Gate:
    """A gate of its own for one caller, or for nobody in particular."""
    quantiles = OnlineQuantiles(generator_id, random.Random(secrets.randbits(64)), reference_table(generator_id))
    return Gate(artifact, generator_id, quantiles, tendency)


def _built(options: GeneratorOptions, home: Path, clock: Clock) -> Backend:
    backend, warning = built(options, home, clock)
    if backend is None:
        raise InputError(f"The model cannot be served: {warning.removesuffix('.')}.")
    return backend


def _notice(code: str, sentence: str) -> None:
    if sentence:
        logger.warning("%s: %s", code, sentence)
