"""Tensors of safetensors files as numpy arrays, without torch and without the safetensors library (numpy knows no bfloat16).

Format (safetensors, "Format"): eight bytes N, little-endian; N bytes of JSON, name → {dtype, shape, data_offsets}; then the
values, row by row, little-endian. Nothing is read before it is asked for, one tensor at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ExportFailed, ExportRefused

Floats = NDArray[np.float32]

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"

_NUMBERS = MappingProxyType({"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"})
"""dtype → how numpy reads it. A bfloat16 is the upper half of a float32."""
_MOST_HEADER_BYTES = 100_000_000
"""The format's own limit."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where one tensor lies."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    at: int
    """Offset of the first value in the file, in bytes."""

    def values(self) -> Floats:
        """The values as float32, `shape`. Raises `ExportFailed` (it cannot be read) and `ExportRefused` (not finite)."""
        count, form = math.prod(self.shape), np.dtype(_NUMBERS[self.dtype])
        try:
            raw = np.fromfile(self.file, form, count, offset=self.at)
        except OSError as error:
            raise ExportFailed(f"{self.file} cannot be read: {error.strerror or error}.") from error
        if len(raw) != count:
            raise ExportRefused(f"{self.file} is cut short: {self.name} is not whole.")
        wide = (raw.astype(np.uint32) << 16).view(np.float32) if self.dtype == "BF16" else raw.astype(np.float32)
        if not np.isfinite(wide).all():
            raise ExportRefused(f"{self.name} in {self.file.name} holds values that are not finite: the training diverged.")
        return wide.reshape(self.shape)


def tensors_of(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one file by name.

    Raises `ExportRefused` for what is no such file or is damaged, `ExportFailed` where it cannot be read.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= min(_MOST_HEADER_BYTES, size - 8):
                raise ExportRefused(f"{file} is not a safetensors file, or it is cut short.")
            header = json.loads(opened.read(length))
    except OSError as error:
        raise ExportFailed(f"{file} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        if isinstance(error, ExportRefused):
            raise
        raise ExportRefused(f"{file} is not a safetensors file: {error}.") from error
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"} if isinstance(header, dict) else None
    if not entries:
        raise ExportRefused(f"{file} holds no tensors.")
    return {name: _stored(name, entry, file, 8 + length, size) for name, entry in entries.items()}


def tensors_in(folder: Path) -> Mapping[str, StoredTensor]:
    """The tensors of a model's folder: `model.safetensors`, or the parts that its index names. Raises as `tensors_of`."""
    index = folder / INDEX
    if not index.is_file():
        return tensors_of(folder / WEIGHTS)
    try:
        parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ExportRefused(f"{index} is not an index of safetensors files ({type(error).__name__}).") from error
    if any(not isinstance(part, str) or Path(part).name != part for part in parts):
        raise ExportRefused(f"{index} names files outside its folder.")
    found: dict[str, StoredTensor] = {}
    for part in parts:
        found |= tensors_of(folder / part)
    return found


def _stored(name: str, entry: Any, file: Path, data_at: int, size: int) -> StoredTensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if dtype not in _NUMBERS:
            raise ExportRefused(f"{name} in {file} has the type {dtype}; known are {', '.join(_NUMBERS)}.")
        fits = end - begin == math.prod(shape) * np.dtype(_NUMBERS[dtype]).itemsize and begin >= 0 and data_at + end <= size
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ExportRefused):
            raise
        raise ExportRefused(f"{file} is damaged: the entry of {name} cannot be read.") from error
    if not fits:
        raise ExportRefused(f"{file} is damaged or cut short: {name} does not lie in it.")
    return StoredTensor(name, shape, dtype, file, data_at + begin)
