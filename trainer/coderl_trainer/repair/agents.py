"""Which program the agent is: a command that talks to an OpenAI-compatible endpoint and works in a folder. Pure.

    simplecoder {task} --base-url {base_url} --model {model} …

The command is split as a shell would split it, *then* the words in braces are filled in, so that nothing in a task can add an
argument. No shell is started.
"""

from __future__ import annotations

import shlex
import string
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from coderl_trainer.errors import AgentUnusable

SIMPLECODER: Final = (
    "simplecoder {task} --output-root {repository} --base-url {base_url} --model {model} --scaffold {scaffold} "
    "--non-interactive --allow write,shell --max-steps {max_steps} --trajectory {trajectory}"
)
WORDS: Final = ("task", "repository", "base_url", "model", "scaffold", "max_steps", "trajectory", "python")


class Scaffold(StrEnum):
    """How much is built around the model."""

    NANO = "nano"
    """Shell and patches alone."""
    FULL = "full"
    """Every tool, retrieval, planning."""


@dataclass(frozen=True, slots=True)
class Agent:
    """A command and what fills it. Raises `AgentUnusable` for one that cannot be split or has unknown words in braces."""

    command: str = SIMPLECODER
    model: str = "agent"
    """The name that the command is given; the proxy asks the server for the one it serves."""
    scaffold: Scaffold = Scaffold.NANO
    max_steps: int = 20

    def __post_init__(self) -> None:
        parts = self._parts()
        if not parts:
            raise AgentUnusable("The agent's command is empty.")
        known = ", ".join(f"{{{word}}}" for word in WORDS)
        for part in parts:
            try:
                words = [name for _, name, _, _ in string.Formatter().parse(part) if name is not None]
            except ValueError as error:
                raise AgentUnusable(f"The agent's command has a part {part!r}: {error}.") from error
            if unknown := [word for word in words if word not in WORDS]:
                raise AgentUnusable(f"The agent's command has {{{unknown[0]}}}; known are {known}.")
        if not any("{task}" in part for part in parts):
            raise AgentUnusable("The agent's command has no {task}: the agent would not know what to do.")
        if self.max_steps < 1:
            raise AgentUnusable("An agent needs at least one step.")

    @property
    def asks(self) -> bool:
        """Whether the command is told of the model server."""
        return "{base_url}" in self.command

    def argv(self, places: Mapping[str, str]) -> tuple[str, ...]:
        """The command with `task`, `repository`, `base_url`, `trajectory`, `python` of one run filled in."""
        own = {"model": self.model, "scaffold": self.scaffold.value, "max_steps": str(self.max_steps)}
        return tuple(part.format(**own, **places) for part in self._parts())

    def _parts(self) -> list[str]:
        try:
            return shlex.split(self.command)
        except ValueError as error:
            raise AgentUnusable(f"The agent's command cannot be split: {error}.") from error
