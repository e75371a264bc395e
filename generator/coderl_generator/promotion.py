"""Which trained generator the servers of this machine use: promoted files and adapters, and the way back.

As with gates (`coderl_gate.gate`), in the folder `models` of the data directory:

    models/promoted/<id>.gguf   models, copied and never changed once there
    models/promoted/<id>/       adapters in PEFT's form, copied; <id> is name@version
    models/active               ids, one per line, the active one first, then those it replaced

A server takes the newest that it can load: `llamacpp` a model, the backends that take adapters an adapter. Where none was
promoted, that is the embedded model, or the bare model of the server's own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from coderl_generator.adapters import Adapter
from coderl_generator.errors import GeneratorError, ModelDamaged, ModelMissing
from coderl_generator.gguf_header import read_texts
from coderl_generator.models import EMBEDDED, find_model, generator_id_of, models_folder

ACTIVE = "active"
"""Names the model that was promoted last, else the embedded one, where a model is named."""

_REMEMBERED = 20
"""How many replaced generators `models/active` remembers."""
_KEYS = ("coderl.generator_id", "coderl.base", "coderl.adapter.name", "coderl.adapter.version")
"""Texts of a GGUF file's metadata that `coderl export` writes."""
_DIGITS = 8


class Kind(StrEnum):
    """What was promoted."""

    MODEL = "model"
    ADAPTER = "adapter"


@dataclass(frozen=True, slots=True)
class Promoted:
    """One generator that was promoted here."""

    id: str
    """Of a model its generator id; of an adapter `name@version`, which stands behind the `+` of generator ids."""
    kind: Kind
    path: Path
    base: str = ""
    trained: str = ""
    """`name@version` of what was trained; both empty where the file does not say it."""

    @property
    def works(self) -> bool:
        """Whether it is still there."""
        return self.path.exists()


def active_file(home: Path) -> Path:
    """The file that names what is active. It is replaced, never written in place: a look at it is a look at the whole."""
    return models_folder(home) / "active"


def active(home: Path, kind: Kind | None = None) -> Promoted | None:
    """The newest promoted generator (of a kind); None where there is none. Raises `ModelDamaged` for an unreadable list."""
    return next((one for one in chain(home) if kind in (None, one.kind)), None)


def find_active(home: Path, name_or_path: str = ACTIVE) -> Path:
    """The file of a model as `find_model` finds it, and that of `active`. Raises `ModelMissing` and `ModelDamaged`."""
    if name_or_path != ACTIVE:
        return find_model(home, name_or_path)
    one = active(home, Kind.MODEL)
    if one is None:
        return find_model(home)
    if not one.works:
        raise ModelMissing(f"the promoted model {one.path} is gone; run: coderl rollback")
    return find_model(home, str(one.path))


def chain(home: Path) -> list[Promoted]:
    """The active generator, then those it replaced. Raises `ModelDamaged` for an unreadable list."""
    return [_named(home, name) for name in _names(home)]


def promoted(home: Path) -> list[Promoted]:
    """Every generator that was ever promoted here and is still there, by name."""
    folder = _folder(home)
    names = [path.name.removesuffix(".gguf") for path in folder.glob("*") if not path.name.startswith(".")]
    return [_named(home, name) for name in sorted(set(names))]


def kept(home: Path, source: Path) -> Promoted:
    """Take a GGUF file or an adapter's folder into the data directory, under its id, without making it active.

    A model's id is what `coderl export` wrote into it, else that of its file's name; where another file has that id already,
    the first eight digits of its SHA-256 follow.

    Raises `ModelMissing`, `ModelDamaged`, `GeneratorError` (it cannot be written).
    """
    try:
        return _kept_adapter(home, source) if source.is_dir() else _kept_model(home, source)
    except OSError as error:
        if isinstance(error, GeneratorError):
            raise
        raise GeneratorError(f"{source} cannot be taken into {_folder(home)}: {error.strerror or error}") from error


def activate(home: Path, one: Promoted) -> None:
    """Make a kept generator the active one. Raises `GeneratorError` where that cannot be written."""
    names = _names(home)
    if names[:1] != [one.id]:
        _write_names(home, [one.id, *names])


def rollback(home: Path) -> tuple[Promoted, Promoted | None]:
    """Go back to the generator that the active one replaced: (the one given up, the one active now; None = the embedded).

    Raises `ModelMissing` where nothing is promoted or the earlier one is gone (then nothing changes).
    """
    line = chain(home)
    if not line:
        raise ModelMissing("nothing is promoted: the embedded model is active, and there is nothing to go back to")
    earlier = line[1] if len(line) > 1 else None
    if earlier is not None and not earlier.works:
        raise ModelMissing(f"{earlier.path} was active before and is gone; delete {active_file(home)} for the embedded model")
    _write_names(home, [one.id for one in line[1:]])
    return line[0], earlier


def sha256_of(one: Promoted) -> str:
    """Of the file, or of the adapter's weights."""
    return _sha256(one.path if one.kind is Kind.MODEL else next(one.path.glob("adapter_model.*")))


def _kept_model(home: Path, source: Path) -> Promoted:
    find_model(home, str(source))
    said = read_texts(source, _KEYS)
    digest = _sha256(source)
    name = (
        generator_id_of(Path(f"{said['coderl.generator_id']}.gguf"))
        if "coderl.generator_id" in said
        else generator_id_of(source)
    )
    taken = name == EMBEDDED.name and digest != EMBEDDED.sha256
    target = _folder(home) / f"{name}.gguf"
    if taken or (target.exists() and _sha256(target) != digest):
        name = f"{name}-{digest[:_DIGITS]}"
        target = _folder(home) / f"{name}.gguf"
    if not target.exists() or _sha256(target) != digest:
        _copy(source, target)
    return _named(home, name)


def _copy(source: Path, target: Path) -> None:
    """It appears whole. No hard link: who writes the source anew in place would change what servers have mapped into memory."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{uuid.uuid4().hex}")
    try:
        shutil.copyfile(source, draft)
        with draft.open("rb") as copied:
            os.fsync(copied.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _kept_adapter(home: Path, source: Path) -> Promoted:
    adapter = Adapter.at(source)
    target = _folder(home) / adapter.label
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adapter-", dir=target.parent) as scratch:
            copied = shutil.copytree(source, Path(scratch) / "adapter")
            copied.rename(target)
    return _named(home, adapter.label)


def _named(home: Path, name: str) -> Promoted:
    folder = _folder(home) / name
    if folder.is_dir():
        return Promoted(name, Kind.ADAPTER, folder, trained=name)
    path = folder.with_name(f"{name}.gguf")
    said: dict[str, str] = {}
    if path.is_file():
        said = read_texts(path, _KEYS)
    elif "@" in name:
        return Promoted(name, Kind.ADAPTER, folder, trained=name)
    trained = "@".join(part for key in _KEYS[2:] if (part := said.get(key)))
    return Promoted(name, Kind.MODEL, path, said.get("coderl.base", ""), trained)


def _folder(home: Path) -> Path:
    return models_folder(home) / "promoted"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(home: Path) -> list[str]:
    file = active_file(home)
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ModelDamaged(f"{file} cannot be read ({error}): delete it to use the embedded model") from error
    if any("/" in name or "\\" in name or name.startswith(".") for name in names):
        raise ModelDamaged(f"{file} does not hold names of generators: delete it to use the embedded model")
    return names


def _write_names(home: Path, names: Sequence[str]) -> None:
    file = active_file(home)
    temporary = file.with_name(f".active.{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write("".join(f"{name}\n" for name in names[:_REMEMBERED]))
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise GeneratorError(f"{file} cannot be written: {error.strerror or error}") from error
