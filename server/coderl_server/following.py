"""A running server takes what is promoted on its machine: another model or adapter, another gate.

`coderl promote`, `coderl rollback` and `gate-calibrate --promote` replace small files in the data folder; a server looks at
them every two seconds (one `stat` each) and changes over between two requests. What was named on the command line is never
changed. Not followed: data folders on other machines, and an adapter on a server that is not this machine's and cannot see the
folder (the switch fails, which is said, and the old one goes on).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_gate.gate import active_file as active_gate
from coderl_generator.errors import GeneratorError
from coderl_generator.promotion import Kind, active, active_file

EVERY_S = 2.0
TAKE_ADAPTERS = ("openai", "transformers", "vllm")
"""Backends that load adapters while they serve."""

_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Followed:
    """What a server changes by itself."""

    kind: Kind | None
    """Which of the promoted generators it can load; None: its generator was named."""
    gate: bool
    """Whether the active gate decides; not where one was named."""


class Follower:
    """Looks for promotions. What is active when it is made counts as taken: the server was built with it, except for an
    adapter, which the first look takes."""

    def __init__(
        self,
        home: Path,
        followed: Followed,
        use: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
        gate_changed: Callable[[], Awaitable[None]],
        notice: Callable[[str, str], None],
    ) -> None:
        """`use` changes the generator, as `coderl/generator` does. `notice` is told under the code `promotion` why a promoted
        generator is not used, or nothing."""
        self._home = home
        self._followed = followed
        self._use = use
        self._gate_changed = gate_changed
        self._notice = notice
        self._models: _Stamp = None
        self._gate = _stamp(active_gate(home))
        self._used = self._wanted_id() if followed.kind is Kind.MODEL else ""
        self._looked = False

    async def follow(self) -> None:
        """Look every `EVERY_S`, until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Take what was promoted since the last look. A failure is said once and tried again after the next promotion."""
        models, gate = _stamp(active_file(self._home)), _stamp(active_gate(self._home))
        moved = not self._looked or models != self._models, gate != self._gate
        self._looked, self._models, self._gate = True, models, gate
        kind, wanted = self._followed.kind, self._wanted_id() if moved[0] else self._used
        if kind is not None and wanted != self._used and await self._take(kind):
            self._used = wanted
        if self._followed.gate and moved[1]:
            await self._gate_changed()

    async def _take(self, kind: Kind) -> bool:
        """Whether the wanted generator serves now."""
        try:
            wanted = active(self._home, kind)
        except GeneratorError as error:
            self._notice("promotion", f"The promoted generator cannot be used: {error}.")
            return False
        if kind is Kind.MODEL:
            told = await self._use({"model": "embedded" if wanted is None else str(wanted.path)})
        else:
            told = await self._use({"adapter": None if wanted is None else str(wanted.path)})
        name = "generator from before" if wanted is None else f"promoted {kind.value} {wanted.id}"
        serves = bool(told["changed"]) or (wanted is not None and told["generator"].endswith(wanted.id))
        failed = f"The {name} cannot be used, so {told['generator'] or 'none'} goes on: {told['message']}"
        self._notice("promotion", "" if serves else failed)
        return serves

    def _wanted_id(self) -> str:
        try:
            wanted = None if self._followed.kind is None else active(self._home, self._followed.kind)
        except GeneratorError:
            return "?"
        return "" if wanted is None else wanted.id


def _stamp(file: Path) -> _Stamp:
    """Changes with every replacement of the file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
