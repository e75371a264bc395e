"""Adapters: small sets of weights on top of a model (LoRA), which may be changed while a backend serves."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from coderl_generator.errors import GeneratorError, ModelDamaged, ModelMissing

logger = logging.getLogger(__name__)

_WORD = re.compile(r"[A-Za-z0-9._-]{1,100}")
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_VERSION_CHARS = 12


@dataclass(frozen=True, slots=True)
class Adapter:
    """One version of an adapter. Two versions never share a label: what is behind a label does not change."""

    name: str
    version: str
    path: str
    """A folder in PEFT's form, as the machine that decodes sees it."""

    def __post_init__(self) -> None:
        for what, word in (("name", self.name), ("version", self.version)):
            if not _WORD.fullmatch(word):
                raise GeneratorError(f"an adapter's {what} is made of letters, digits, `.`, `_` and `-`, not {word[:60]!r}")

    @property
    def label(self) -> str:
        """`name@version`: what stands in generator ids, and the name a model server is told."""
        return f"{self.name}@{self.version}"

    @staticmethod
    def at(folder: Path | str, name: str = "", version: str = "") -> Adapter:
        """The adapter in a folder of this machine. Without a name that of the folder, up to an `@`; without a version the first
        twelve hexadecimal digits of its weights' SHA-256. Raises `ModelMissing` and `ModelDamaged`."""
        path = Path(folder).expanduser()
        if not (path / "adapter_config.json").is_file():
            raise ModelMissing(f"there is no adapter in {path}: it has no adapter_config.json")
        weights = [path / file for file in _WEIGHTS if (path / file).is_file()]
        if not weights:
            raise ModelDamaged(f"the adapter in {path} has no weights ({' or '.join(_WEIGHTS)})")
        if not version:
            with weights[0].open("rb") as file:
                version = hashlib.file_digest(file, "sha256").hexdigest()[:_VERSION_CHARS]
        return Adapter(
            name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.name.partition("@")[0])[:100] or "adapter", version, str(path)
        )


@runtime_checkable
class TakesAdapters(Protocol):
    """A backend whose adapter can be changed while it serves."""

    @property
    def adapter(self) -> Adapter | None:
        """The adapter that the next request is decoded with."""
        ...

    async def use_adapter(self, adapter: Adapter | None) -> None:
        """Decode every request that begins from now on with `adapter`; None = with the bare model.

        Returns when the adapter serves. Requests that run finish with what they began with. `generator_id` changes in
        the same moment. Raises `GeneratorError` where the adapter cannot be loaded: then nothing has changed.
        """
        ...


def adapted_id(model_id: str, adapter: Adapter | None) -> str:
    """The generator id of a model with an adapter: `model+name@version`."""
    return model_id if adapter is None else f"{model_id}+{adapter.label}"


class InUse:
    """How many streams use one version of the weights."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._count += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._idle.set()

    async def wait_until_idle(self) -> None:
        """Return when no stream uses it."""
        await self._idle.wait()


class AdapterSwitch:
    """Which adapter serves, for a backend that can decode with several at once.

    An adapter that was replaced is unloaded after its last stream; failing to is a warning, since nobody waits for it.
    """

    def __init__(
        self,
        load: Callable[[Adapter], Awaitable[None]],
        unload: Callable[[Adapter], Awaitable[None]] | None,
        first: Adapter | None = None,
    ) -> None:
        """`load` returns when the adapter can serve, at once where it is loaded already. `unload`: None = they stay loaded.
        `first` serves from the beginning; loading it is the backend's own business."""
        self._load = load
        self._unload = unload
        self._in_use: dict[str, InUse] = {}
        self._changing = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self.current = first

    def using(self, adapter: Adapter | None) -> AbstractContextManager[None]:
        """Held by a stream as long as it decodes with `adapter`."""
        return nullcontext() if adapter is None else self._in_use.setdefault(adapter.label, InUse())

    async def use(self, adapter: Adapter | None) -> None:
        """As `TakesAdapters.use_adapter`. Raises what loading raises."""
        async with self._changing:
            if adapter is not None and adapter != self.current:
                await self._load(adapter)
            before, self.current = self.current, adapter
        if before is not None and before != adapter and self._unload is not None:
            task = asyncio.create_task(self._retire(before, self._unload))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def aclose(self) -> None:
        """Adapters that still have streams stay loaded."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    async def _retire(self, adapter: Adapter, unload: Callable[[Adapter], Awaitable[None]]) -> None:
        if adapter.label in self._in_use:
            await self._in_use[adapter.label].wait_until_idle()
        async with self._changing:
            if self.current is not None and self.current.label == adapter.label:
                return  # it was taken back meanwhile
            try:
                await unload(adapter)
            except GeneratorError as error:
                logger.warning("the adapter %s stays loaded: %s", adapter.label, error)
            self._in_use.pop(adapter.label, None)
