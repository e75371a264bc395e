"""The files of a run on the disk: canonical JSON, whole files written at once, and lines that a kill cannot garble.

A line counts when its line break is there. Covered: a process killed at any moment and a full disk (the line that did not fit
is taken back). After a power cut the last line may be unreadable as far as the disk did not honour `fsync`; it is dropped like
a half one. Not covered: several writers (the caller holds the lock), and a file edited by hand while it grows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from coderl_store.segment import sync_directory

from .errors import RunError, TrainerError

CONFIG: Final = "config.json"
ENVIRONMENT: Final = "environment.json"
GIT: Final = "git.json"
RESUMED: Final = "resumed.jsonl"
METRICS_FILE: Final = "metrics.jsonl"
SAMPLES: Final = "samples.jsonl"
HELD_OUT: Final = "heldout.jsonl"
MANIFEST: Final = "manifest.json"
REPORT: Final = "report.html"
PLOTS: Final = "plots"
ADAPTERS: Final = "adapters"
"""What a server of samples loads while the run goes on; taken away at its end."""
DERIVED: Final = frozenset({REPORT, PLOTS, ADAPTERS})
"""Made from the rest at any time, or not there to stay, so the manifest does not list them."""


def canonical(value: Any) -> str:
    """Strict JSON with sorted keys: equal configurations give equal text. Dataclasses, enums, paths, times, sets and the like.

    Raises `RunError` for what JSON cannot say, such as an infinity or an object, naming where it stands.
    """
    return json.dumps(_plain(value, "config"), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value, where)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RunError(f"{where} is {value}, which a file cannot hold.")
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), f"{where}.{field.name}") for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, where) for item in value), key=str)
    raise RunError(f"{where} is a {type(value).__name__}, which a file cannot hold.")


def write_whole(path: Path, content: str | bytes) -> None:
    """The file has all of `content` or what it had before. Raises `RunError` where it cannot be written."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with draft.open("wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk refuses inside leaves as `RunError`; this package's errors, some of which are OSErrors, as they are."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TrainerError):
            raise
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `RunError` for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except ValueError as error:
        raise RunError(f"{path} is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} is no JSON object.")
    return value


def lines(path: Path, *, ordered: bool = True) -> Iterator[tuple[dict[str, Any], int]]:
    """The rows of a file of JSON lines, each with the byte after its line break; nothing where there is no such file.

    A half line at the end, or a last line that is no JSON, is no row: a kill or a power cut left it. Raises `RunError`, naming
    file and line, where a line before the last is no object with a step, or (`ordered`) steps go down.
    """
    end, step, bad = 0, -math.inf, ""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if bad:
                    raise RunError(bad)
                row, bad = _row(line, f"{path} line {number}")
                if row is None:
                    continue
                if ordered and row["step"] < step:
                    raise RunError(f"{path} line {number} has step {row['step']} after step {step:.0f}.")
                step, end = row["step"], end + len(line)
                yield row, end
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}.") from error


def _row(line: bytes, where: str) -> tuple[dict[str, Any] | None, str]:
    """The row, or None and what to say of it where others follow."""
    try:
        row = json.loads(line)
    except ValueError as error:
        return None, f"{where} is no JSON: {error}."
    if not line.endswith(b"\n"):
        return None, f"{where} is a half line."
    step = row.get("step") if isinstance(row, dict) else None
    if not isinstance(step, int) or isinstance(step, bool):
        return None, f"{where} is no JSON object with a whole number as its step."
    return row, ""


class LineFile:
    """A file that grows by whole lines, each safe on the disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        """Opened or made. Raises `RunError`."""
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise RunError(f"{path} cannot be opened: {error.strerror or error}.") from error

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Write rows as lines, all or none of them. Raises `RunError` where the disk refuses, and the file is as before."""
        data = memoryview("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode("ascii"))
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise RunError(f"{self.path} cannot be written: {error.strerror or error}.") from error
        self._size += len(data)

    def cut(self, size: int) -> None:
        """Keep the first `size` bytes. Raises `RunError`."""
        try:
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
        except OSError as error:
            raise RunError(f"{self.path} cannot be cut back: {error.strerror or error}.") from error
        self._size = size

    def close(self) -> None:
        os.close(self._descriptor)


def digests(folder: Path) -> list[dict[str, Any]]:
    """Path, size in bytes and SHA-256 of every file of a run, sorted by path, without the manifest and what is made from the
    rest. Links are not followed."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink() or not path.is_file() or name.parts[0] in DERIVED or str(name) == MANIFEST:
            continue
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found.append({"path": name.as_posix(), "bytes": path.stat().st_size, "sha256": digest})
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror or error}.") from error
    return found
