"""Which session this is: an id that follows from all that shapes it, so that only a true repetition shares ids with another.

What counts: this version of CodeRL, every option but the place of the log, the files with their text, the gate, the script, and
the model by its name and size. Not covered: a model file exchanged for another of the same name and size, a generator behind
an address that changes by itself, another operating system's floating-point digits.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from coderl_store.clock import VirtualClock
from coderl_store.ids import IdSource
from coderl_store.records import Privacy

from ..errors import InputError
from .options import SimulateOptions, Typescript

_NOT_PART_OF_IT = ("files", "home", "gate", "script", "model", "privacy")
"""Options that are left out or enter by their content."""


def session_id(options: SimulateOptions, typescripts: Sequence[Typescript], gate_id: str, privacy: Privacy) -> str:
    """The session's UUIDv7, at the time at which every virtual clock begins. Raises InputError for a script that cannot be
    read."""
    told = {name: value for name, value in asdict(options).items() if name not in _NOT_PART_OF_IT}
    parts = {
        **told,
        "coderl": version("coderl"),
        "files": [(typescript.uri, _hash(typescript.text.encode("utf-8", "surrogatepass"))) for typescript in typescripts],
        "gate": gate_id,
        "script": None if options.script is None else _hash(_content(options.script)),
        "model": _model(options.model),
        "privacy": privacy.value,
    }
    key = _hash(json.dumps(parts, sort_keys=True, default=str).encode())
    return IdSource(VirtualClock(), random.Random(key)).new()


def _model(name: str | None) -> object:
    path = Path(name or "")
    return [path.name, path.stat().st_size] if path.is_file() else name


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The script {path} cannot be read: {error.strerror or error}.") from error


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
