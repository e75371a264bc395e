"""The GGUF file an export begins with: read lazily, tensor by tensor. Needs the package `gguf` (coderl[train])."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ExportFailed, ExportRefused
from .llama_names import Heads
from .safetensors_file import Floats

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFValueType, ReaderField, ReaderTensor

ARCHITECTURE = "llama"


@dataclass(frozen=True, slots=True)
class Base:
    """An opened base. The tensors' data are views of the file."""

    path: Path
    reader: GGUFReader
    tensors: Mapping[str, ReaderTensor]
    heads: Heads

    def shape(self, name: str) -> tuple[int, ...]:
        """(out, in) or (n,), as numpy has it; the file counts from the innermost."""
        return tuple(int(size) for size in reversed(self.tensors[name].shape))

    def values(self, name: str) -> Floats:
        """A tensor as float32. Raises `ExportRefused` where its quantisation cannot be undone here."""
        from gguf import dequantize

        tensor = self.tensors[name]
        try:
            values: Floats = dequantize(tensor.data, tensor.tensor_type).reshape(self.shape(name))
        except NotImplementedError as error:
            raise ExportRefused(
                f"{name} of {self.path.name} is {tensor.tensor_type.name}, which cannot be unpacked."
            ) from error
        return values

    def text(self, key: str) -> str:
        """A text of the metadata; empty where there is none."""
        field = self.reader.fields.get(key)
        value = None if field is None else field.contents()
        return value if isinstance(value, str) else ""


def open_base(path: Path) -> Base:
    """Open a base. Raises `ExportFailed` (`gguf` is not installed, the file cannot be read) and `ExportRefused` (it is no GGUF
    file, one part of several, or not of the llama family)."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ExportFailed(f"The package gguf cannot be imported ({error}): install coderl[train].") from error
    try:
        reader = GGUFReader(path)
    except OSError as error:
        raise ExportFailed(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, IndexError) as error:
        raise ExportRefused(f"{path} cannot be read as a GGUF file: {error}.") from error
    architecture = _value(reader, "general.architecture", "")
    if architecture != ARCHITECTURE:
        raise ExportRefused(
            f"{path.name} is of the family {architecture or 'nobody names'}; only {ARCHITECTURE} can be exported."
        )
    if _value(reader, "split.count", 1) > 1:
        raise ExportRefused(f"{path.name} is one part of several: join them with llama.cpp's gguf-split first.")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    if any("_exps." in name for name in tensors):
        raise ExportRefused(f"{path.name} is a mixture of experts, which cannot be exported.")
    query = _value(reader, f"{ARCHITECTURE}.attention.head_count", 0)
    key = _value(reader, f"{ARCHITECTURE}.attention.head_count_kv", query)
    if not (isinstance(query, int) and isinstance(key, int) and query > 0 and key > 0):
        raise ExportRefused(f"{path.name} does not say one number of heads for all layers.")
    return Base(path, reader, tensors, Heads(query, key))


def entry(field: ReaderField) -> tuple[Any, GGUFValueType, GGUFValueType | None]:
    """(Value, type, type of an array's items) of a metadata entry, texts as the bytes that stand in the file."""
    from gguf import GGUFValueType

    kind, items = field.types[0], field.types[-1] if len(field.types) > 1 else None
    if kind is GGUFValueType.STRING:
        return bytes(field.parts[-1]), kind, None
    if kind is GGUFValueType.ARRAY and items is GGUFValueType.STRING:
        return [bytes(field.parts[index]) for index in field.data], kind, items
    return field.contents(), kind, items


def _value(reader: GGUFReader, key: str, otherwise: Any) -> Any:
    field = reader.fields.get(key)
    return otherwise if field is None else field.contents()
