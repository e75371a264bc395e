"""`coderl promote` and `coderl rollback`: which generator the servers of this machine use, and the fact of it in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from coderl_gate.errors import GateError
from coderl_gate.fitness import Fit
from coderl_generator.backend import GenerationRequest
from coderl_generator.errors import GeneratorError, ModelDamaged, ModelMissing
from coderl_generator.models import EMBEDDED, find_model
from coderl_generator.promotion import Kind, Promoted, activate, active, chain, kept, promoted, rollback, sha256_of
from coderl_generator.registry import backend
from coderl_store.clock import SystemClock, utc
from coderl_store.home import StoreSettings
from coderl_store.ids import IdSource
from coderl_store.repository import Repository
from coderl_store.versions import Event, GeneratorVersion
from coderl_trainer.errors import TrainerError
from coderl_trainer.lora import CONFIG, read_lora

from .errors import InputError
from .gates import chosen_artifact, generator_fit

PROBE = "def add(a, b):\n    return"
PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """What became active, and what to do about it."""

    event: str
    active: str
    """The generator's id; of an adapter `name@version`."""
    kind: str
    instead_of: str
    path: str
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)

    def render(self, console: Any) -> None:
        """Sentences."""
        before = f", instead of {self.instead_of}" if self.instead_of else ""
        lines = (f"The active {self.kind} is {self.active} now{before}.", *self.notices)
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Listing:
    """The generators of this machine."""

    rows: tuple[dict[str, Any], ...]
    history: tuple[GeneratorVersion, ...]

    def to_json(self) -> dict[str, Any]:
        """As `coderl models list --json` prints it."""
        history = [{**asdict(one), "at": one.at.isoformat(), "event": one.event.value} for one in self.history]
        return {"models": list(self.rows), "history": history}

    def render(self, console: Any) -> None:
        """A table."""
        from rich.table import Table

        table = Table("", "generator", "made from", "trained", "file")
        for row in self.rows:
            mark = "active" if row["active"] else "" if row["works"] else "gone"
            table.add_row(mark, row["id"], row["base"], row["trained"], row["path"])
        console.print(table)


def promote(source: Path) -> Change:
    """Check a GGUF file or an adapter, keep it in the data folder, write the fact into the log, make it active; in this order,
    so that what fails leaves the old one active. A model is checked by decoding a few tokens, an adapter by its form.

    Raises `InputError` for what is no model or adapter, `GeneratorError` for one that cannot be loaded, `StoreError`.
    """
    settings = StoreSettings.from_environment()
    try:
        if source.is_file():
            find_model(settings.home, str(source))
            asyncio.run(_decoded(source))
        elif (source / CONFIG).is_file():
            read_lora(source)
        one = kept(settings.home, source)
    except (ModelMissing, ModelDamaged, TrainerError) as error:
        raise InputError(f"{source} cannot be promoted: {str(error).removesuffix('.')}.") from error
    before = active(settings.home)
    _log(settings, Event.PROMOTED, one, before)
    activate(settings.home, one)
    return _change(settings.home, Event.PROMOTED, one, before)


def promote_again(settings: StoreSettings, generator_id: str) -> Change:
    """Make a generator the active one that was promoted on this machine before. Raises `ModelMissing` where it is not there."""
    one = next((one for one in promoted(settings.home) if one.id == generator_id), None)
    if one is None or not one.works:
        raise ModelMissing(f"the generator {generator_id} is not among those that were promoted here")
    before = active(settings.home)
    _log(settings, Event.PROMOTED, one, before)
    activate(settings.home, one)
    return _change(settings.home, Event.PROMOTED, one, before)


def roll_back(settings: StoreSettings | None = None) -> Change:
    """Go back to the generator that the active one replaced. Raises `ModelMissing` where there is none, and `StoreError`."""
    settings = settings or StoreSettings.from_environment()
    line = chain(settings.home)
    if line and (len(line) == 1 or line[1].works):
        _log(settings, Event.ROLLED_BACK, line[1] if len(line) > 1 else None, line[0])
    given_up, now = rollback(settings.home)
    return _change(settings.home, Event.ROLLED_BACK, now, given_up)


def listing() -> Listing:
    """Every generator of this machine, and what became active when."""
    settings = StoreSettings.from_environment()
    home = settings.home
    in_use = {None if (one := active(home, kind)) is None else one.id for kind in Kind}
    rows = [_row(one, one.id in in_use) for one in _known(home)]
    repository = Repository(settings.database_url)
    try:
        history = repository.versions()
    finally:
        repository.close()
    return Listing((_embedded_row(home), *rows), tuple(history))


def _known(home: Path) -> Sequence[Promoted]:
    """The active one and those it replaced, in this order, gone ones too; then the others."""
    line = list({one.id: one for one in chain(home)}.values())
    return [*line, *(one for one in promoted(home) if one.id not in {other.id for other in line})]


def _row(one: Promoted, is_active: bool) -> dict[str, Any]:
    row = {**asdict(one), "kind": one.kind.value, "path": str(one.path)}
    return {**row, "active": is_active, "works": one.works}


def _embedded_row(home: Path) -> dict[str, Any]:
    try:
        path, works = str(find_model(home)), True
    except GeneratorError:
        path, works = "", False
    row = {"id": EMBEDDED.name, "kind": "embedded", "path": path, "base": "", "trained": ""}
    return {**row, "active": active(home, Kind.MODEL) is None, "works": works}


def _log(settings: StoreSettings, event: Event, now: Promoted | None, before: Promoted | None) -> None:
    clock = SystemClock()
    version = GeneratorVersion(
        id=IdSource(clock).new(),
        at=utc(clock.now_s()),
        event=event,
        generator_id=EMBEDDED.name if now is None else now.id,
        kind="embedded" if now is None else now.kind.value,
        instead_of="" if before is None else before.id,
    )
    if now is not None:
        files = [now.path] if now.kind is Kind.MODEL else list(now.path.glob("adapter_model.*"))
        size = sum(file.stat().st_size for file in files)
        version = replace(version, base=now.base, adapter=now.trained, sha256=sha256_of(now), size_bytes=size)
    repository = Repository(settings.database_url)
    try:
        repository.add_version(version)
    finally:
        repository.close()


def _change(home: Path, event: Event, now: Promoted | None, before: Promoted | None) -> Change:
    kind = "model" if now is None else now.kind.value
    name = EMBEDDED.name if now is None else now.id
    path = "" if now is None else str(now.path)
    return Change(event.value, name, kind, "" if before is None else before.id, path, _notices(home, now, name))


def _notices(home: Path, now: Promoted | None, name: str) -> tuple[str, ...]:
    if now is not None and now.kind is Kind.ADAPTER:
        return (
            "Running servers with --backend vllm, transformers or openai take it within seconds; the embedded backend loads no "
            "adapters: `coderl export` merges one into a GGUF file.",
        )
    running = "Running servers that were started without --model take it within seconds."
    try:
        artifact, sentence = chosen_artifact(None, home, name)
        unknown = generator_fit(artifact, name) in (Fit.LEARNING, Fit.FOREIGN)
    except GateError as error:
        return running, str(error)
    cure = "The gate does not know its log-probs yet: run `gate-calibrate --promote` once some days were logged with it."
    return (running, sentence) if sentence else (running, cure) if unknown else (running,)


async def _decoded(path: Path) -> None:
    """Raises `GeneratorError` where the model cannot be loaded or writes nothing."""
    model = backend("llamacpp", model_path=path)
    try:
        request = GenerationRequest(prompt=PROBE, max_tokens=4, timeout_s=PROBE_TIMEOUT_S)
        if not [token async for token in model.stream(request)]:
            raise GeneratorError(f"{path} was loaded and writes nothing")
    finally:
        await model.aclose()
