"""Where a language server's generator comes from, with the prompt template and the gate that belong to it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coderl_gate.gate import Gate
from coderl_gate.quantiles import OnlineQuantiles, reference_table
from coderl_gate.tendency import NOBODY
from coderl_generator.backend import Backend
from coderl_store.clock import Clock

from .backends import GeneratorOptions, built
from .errors import InputError
from .gates import chosen_artifact
from .remote.address import TEAM, TeamServer
from .templates import chosen_template

if TYPE_CHECKING:
    from .remote.link import Link


class Sources:
    """This machine's model, and with a team's server also that one's, under the name `TEAM`."""

    def __init__(
        self, options: GeneratorOptions, template: str, gate: Path | None, home: Path, clock: Clock, server: TeamServer | None
    ) -> None:
        """`template` and `gate` as the command line named them. Raises InputError where an option can never work."""
        self._options = options
        self._template = template
        self._gate = gate
        self._home = home
        self._clock = clock
        self.first, self.warning = built(options, home, clock)
        """What generates from the start, and what to say where that is nothing."""
        self.first_model = options.model
        self.link: Link | None = None
        if server is not None:
            from .remote.link import Fallback, Link  # it brings an HTTP client, which others need not wait for

            fallback = None if self.first is None else Fallback(options.model, self.first.generator_id)
            self.link = Link(server, server.folder(home), fallback)
            self.link.meet()
            if self.link.remote:
                self.first, self.warning, self.first_model = self.link.backend(), "", TEAM

    @property
    def user_key(self) -> str:
        """Whose the rows are on a team's server, as far as it was ever asked: the gate's tendencies are kept by that key."""
        return "" if self.link is None else self.link.facts.user_key

    def build(self, model: str) -> Backend:
        """Another model, not loaded yet. Raises `GeneratorError` and `InputError`."""
        if self.link is not None and model == TEAM:
            return self.link.backend()
        made, warning = built(replace(self._options, model=model), self._home, self._clock)
        if made is None:
            raise InputError(warning)
        return made

    def template_for(self, model: str) -> tuple[str, str]:
        """The prompt template of a model, and what is wrong with it. Raises `InputError` for an unknown one."""
        if self.link is not None and model == TEAM:
            return self._template or self.link.template, ""
        name = replace(self._options, model=model).model_name
        return chosen_template(self._template, self._options.backend, name, self._home)

    def gate_for(self, generator_id: str, user_key: str, rng: random.Random) -> tuple[Gate, str]:
        """The gate of a generator as one programmer has it, and what is wrong with it."""
        team = None if self.link is None else self.link.gate
        artifact, warning = chosen_artifact(self._gate, self._home, generator_id, team)
        quantiles = OnlineQuantiles(generator_id, random.Random(rng.getrandbits(64)), reference_table(generator_id))
        return Gate(artifact, generator_id, quantiles, artifact.tendencies.get(user_key, NOBODY)), warning
