"""What was trained as a GGUF file that llama.cpp loads: the base GGUF, tensor by tensor, with the changed weights in it.

Copied byte for byte: every tensor that training left as it was, and every entry of the metadata (the tokenizer, the chat
template, the shape of the model) but the name. Changed tensors are unpacked, changed in float32 and written in the type of the
base's tensor, or in the one that is asked for. Tied embeddings stay tied. Where the base has four bits a small change is mostly
rounded away (`Exported.kept`): eight bits keep it.

What is promised: the logits of the file are those of the Hugging Face model, within the rounding of the type
(docs/training.md, "Closing the loop", has the figures; tests/trainer/test_export_parity.py measures them). The file appears
under its name when it is complete and on the disk; until then, and after any failure, what was there before is unchanged.

Not covered: families other than llama; types that the package `gguf` reads and does not write (the K quantisations); a process
that is killed leaves a hidden part file beside the target.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coderl_generator.adapters import Adapter
from coderl_generator.gguf_header import TEMPLATE
from coderl_generator.models import generator_id_of

from .errors import ExportFailed, ExportRefused
from .gguf_base import Base, entry, open_base
from .llama_names import LINEAR, as_gguf, hf_name
from .lora import CONFIG, PlainLora, read_lora
from .safetensors_file import Floats, StoredTensor, tensors_in

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

AS_BASE = "base"
TYPES = (AS_BASE, "f32", "f16", "bf16", "q8_0", "q4_1", "q4_0")
GENERATOR_ID = "coderl.generator_id"
"""Key of the metadata: the name that the file's suggestions bear in the log, once it is promoted."""

_FILE_TYPES = MappingProxyType({"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "bf16": 32})
"""llama.cpp's `general.file_type`: what most tensors are."""
_VERSION_CHARS = 12

Progress = Callable[[int, int], None]
"""Told (tensors written, tensors in all)."""
Change = Callable[[], Floats]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    file: str
    generator_id: str
    base: str
    name: str
    version: str
    type: str
    changed: int
    """Tensors with new values."""
    copied: int
    """Tensors that are those of the base, byte for byte."""
    kept: float
    """Share of the training that is left after rounding: the change that was written, projected on the change that was wanted.
    Below 1 where small changes are rounded back to the base's own values, as four bits do."""
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """As `coderl export --json` prints it."""
        return asdict(self)


class _Kept:
    """Sums of products over all changed tensors."""

    def __init__(self) -> None:
        self._written = self._wanted = 0.0

    def add(self, written: Floats, wanted: Floats, before: Floats) -> None:
        """Count one tensor in."""
        change = (wanted - before).astype(np.float64)
        self._written += float(((written - before) * change).sum())
        self._wanted += float((change * change).sum())

    @property
    def share(self) -> float:
        """See `Exported.kept`; 1 where nothing was trained."""
        return self._written / self._wanted if self._wanted else 1.0


@dataclass(frozen=True, slots=True)
class _Trained:
    """What is to be written: name and version, and the changed tensors by their GGUF names."""

    name: str
    version: str
    changes: Mapping[str, Change]


def export_gguf(
    source: Path,
    base_file: Path,
    to: Path,
    *,
    type_name: str = AS_BASE,
    name: str = "",
    template: str = "",
    progress: Progress | None = None,
) -> Exported:
    """Write `to` from the GGUF `base_file` and what `source` trained: a PEFT adapter, or a whole Hugging Face model.

    `name`: how the training is called, by default as its folder. `template`: the prompts that it was trained on; the language
    server takes it from the file; empty = what the base says. `progress` is told how many tensors of how many are written.
    An existing `to` is replaced. Raises `ExportRefused` and `ExportFailed`.
    """
    if type_name not in TYPES:
        raise ExportRefused(f"The type must be one of {', '.join(TYPES)}, not {type_name}.")
    base = open_base(base_file)
    if to.exists() and to.samefile(base_file):
        raise ExportRefused(f"{to} is the base itself: name another file.")
    trained = _trained(source, base, name)
    types = {tensor: _type_of(base, tensor, type_name) for tensor in trained.changes}
    base_id = base.text(GENERATOR_ID) or generator_id_of(base_file)
    parts = (base_id, trained.name, trained.version, *(() if type_name == AS_BASE else (type_name,)))
    generator_id = generator_id_of(Path("-".join(parts) + ".gguf"))
    facts = {GENERATOR_ID: generator_id, "coderl.base": base_id, "coderl.adapter.name": trained.name}
    facts |= {"coderl.adapter.version": trained.version, "coderl.type": type_name}
    facts |= {TEMPLATE: template} if template else {}
    kept = _Kept()
    size, digest = _write(base, trained, types, facts, to, type_name, kept, progress or _quiet)
    return Exported(
        file=str(to),
        generator_id=generator_id,
        base=base_id,
        name=trained.name,
        version=trained.version,
        type=type_name,
        changed=len(trained.changes),
        copied=len(base.tensors) - len(trained.changes),
        kept=kept.share,
        size_bytes=size,
        sha256=digest,
    )


def _quiet(done: int, all_of_them: int) -> None:
    """Nobody wants to know."""


def source_in(folder: Path) -> Path:
    """The folder of the weights: `folder` itself, or the newest of a run's.

    A run keeps them in `best`, `final`, `adapter` or `model`, else in the folder of `checkpoints` with the highest number;
    there directly, or in `adapter` or `model` below. Raises `ExportRefused` where there is none.
    """
    if not folder.is_dir():
        raise ExportRefused(f"There is no folder {folder}: name an adapter, a model's folder or a run.")
    numbered = sorted((folder / "checkpoints").glob("*"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.name)])
    for found in (folder, *(folder / name for name in ("best", "final", "adapter", "model")), *reversed(numbered)):
        for place in (found, found / "adapter", found / "model"):
            if (place / CONFIG).is_file() or ((place / "config.json").is_file() and any(place.glob("*.safetensors"))):
                return place
    raise ExportRefused(
        f"There is nothing to export in {folder}: neither {CONFIG} (an adapter) nor config.json with safetensors (a model)."
    )


def _trained(source: Path, base: Base, name: str) -> _Trained:
    if (source / CONFIG).is_file():
        lora = read_lora(source)
        adapter = Adapter.at(source, name)
        return _Trained(adapter.name, adapter.version, _merged(lora, base))
    changes = _replaced(source, base)
    digest = hashlib.sha256()
    for file in sorted(source.glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    version = digest.hexdigest()[:_VERSION_CHARS]
    return _Trained(Adapter(name or _word(source.resolve().name), version, str(source)).name, version, changes)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:100] or "model"


def _merged(lora: PlainLora, base: Base) -> dict[str, Change]:
    """The tensors that an adapter changes."""
    by_module = {str(hf_name(name)).removesuffix(".weight"): name for name in base.tensors if _is_linear(name)}
    changes: dict[str, Change] = {}
    for module in lora.modules:
        name = by_module.get(module)
        if name is None:
            raise ExportRefused(
                f"The adapter in {lora.folder} changes {module}, and {base.path.name} has no linear layer of that name: "
                "it was trained on another model, or on its embeddings."
            )
        if lora.shape(module) != base.shape(name):
            raise ExportRefused(
                f"{module} of the adapter is {_by(lora.shape(module))}, and {name} of {base.path.name} is "
                f"{_by(base.shape(name))}: it was trained on another model."
            )
        changes[name] = _adding(lora, module, base, name)
    return changes


def _adding(lora: PlainLora, module: str, base: Base, name: str) -> Change:
    return lambda: base.values(name) + as_gguf(lora.delta(module), base.heads.of(name))


def _instead(tensor: StoredTensor, heads: int) -> Change:
    return lambda: as_gguf(tensor.values(), heads)


def _is_linear(name: str) -> bool:
    return name.startswith("blk.") and name.split(".")[2] in LINEAR and hf_name(name) is not None


def _replaced(source: Path, base: Base) -> dict[str, Change]:
    """The tensors in which a whole model differs from the base, also after rounding the base's to bfloat16 or float16."""
    stored = dict(tensors_in(source))
    changes: dict[str, Change] = {}
    head = stored.pop("lm_head.weight", None) if "output.weight" not in base.tensors else None
    embedding = stored.get("model.embed_tokens.weight")
    if head is not None and embedding is not None and not np.array_equal(head.values(), embedding.values()):
        raise ExportRefused(f"{source} has an output layer of its own, and {base.path.name} uses its embeddings as one.")
    for name in base.tensors:
        hf = hf_name(name)
        if hf is None:
            continue
        tensor = stored.pop(hf, None)
        if tensor is None:
            raise ExportRefused(f"{source} lacks {hf}, which {base.path.name} has: it is another model.")
        if tensor.shape != base.shape(name):
            raise ExportRefused(
                f"{hf} in {source} is {_by(tensor.shape)}, and {name} of {base.path.name} is {_by(base.shape(name))}: "
                "it is another model."
            )
        values, before = as_gguf(tensor.values(), base.heads.of(name)), base.values(name)
        if not any(np.array_equal(values, rounded) for rounded in (before, _as_bf16(before), _as_f16(before))):
            changes[name] = _instead(tensor, base.heads.of(name))
    surplus = [name for name in stored if not name.endswith("rotary_emb.inv_freq")]
    if surplus:
        raise ExportRefused(f"{source} holds {surplus[0]}, which {base.path.name} has no place for: it is another model.")
    return changes


def _as_bf16(values: Floats) -> Floats:
    """Rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded: Floats = ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return rounded


def _as_f16(values: Floats) -> Floats:
    return values.astype(np.float16).astype(np.float32)


def _by(shape: tuple[int, ...]) -> str:
    return " by ".join(map(str, shape))


def _type_of(base: Base, name: str, type_name: str) -> GGMLQuantizationType:
    """The type that a changed tensor is written in. What has one row (a norm) stays as it is in the base."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quantize

    shape = base.shape(name)
    kind = base.tensors[name].tensor_type if type_name == AS_BASE or len(shape) < 2 else GGMLQuantizationType[type_name.upper()]
    block = GGML_QUANT_SIZES[kind][0]
    if shape[-1] % block:
        raise ExportRefused(f"{name} has rows of {shape[-1]}, and {kind.name} packs {block} at a time: say --type f16.")
    try:
        quantize(np.zeros((1, block), np.float32), kind)
    except NotImplementedError as error:
        raise ExportRefused(f"{name} of the base is {kind.name}, which cannot be written here: say --type q8_0.") from error
    return kind


def _write(
    base: Base,
    trained: _Trained,
    types: Mapping[str, GGMLQuantizationType],
    facts: Mapping[str, str],
    to: Path,
    type_name: str,
    kept: _Kept,
    progress: Progress,
) -> tuple[int, str]:
    """(Size in bytes, SHA-256) of the file, written beside its place and then renamed."""
    part: Path | None = None
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{to.name}.", suffix=".part", dir=to.parent)
        os.close(handle)
        part = Path(scratch)
        _write_all(base, trained, types, facts, part, type_name, kept, progress)
        with part.open("rb") as written:
            os.fsync(written.fileno())
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        part.chmod(0o644)
        size = part.stat().st_size
        part.replace(to)
    except OSError as error:
        reason = error.strerror or "not all of it could be written, the disk seems to be full"  # numpy says no more
        raise ExportFailed(f"{to} cannot be written: {reason}.") from error
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    return size, digest


def _write_all(
    base: Base,
    trained: _Trained,
    types: Mapping[str, GGMLQuantizationType],
    facts: Mapping[str, str],
    part: Path,
    type_name: str,
    kept: _Kept,
    progress: Progress,
) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(part, base.text("general.architecture"))
    try:
        writer.data_alignment = base.reader.alignment
        _add_metadata(writer, base, f"{trained.name} {trained.version}", facts, type_name)
        for name, tensor in base.tensors.items():
            kind = types.get(name, tensor.tensor_type)
            writer.add_tensor_info(name, base.shape(name), np.dtype(np.float32), _bytes_of(base.shape(name), kind), kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, (name, tensor) in enumerate(base.tensors.items()):
            progress(done, len(base.tensors))
            change = trained.changes.get(name)
            writer.write_tensor_data(tensor.data if change is None else _changed(base, name, change(), types[name], kept))
        writer.flush()
        progress(len(base.tensors), len(base.tensors))
    finally:
        with suppress(OSError):  # a full disk says so once more when what is buffered is written
            writer.close()


def _bytes_of(shape: tuple[int, ...], kind: GGMLQuantizationType) -> int:
    from gguf import GGML_QUANT_SIZES

    block, size = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block * size


def _changed(base: Base, name: str, wanted: Floats, kind: GGMLQuantizationType, kept: _Kept) -> NDArray[Any]:
    from gguf import dequantize

    packed = _packed(name, wanted, kind)
    kept.add(dequantize(packed, kind).reshape(wanted.shape), wanted, base.values(name))
    return packed


def _packed(name: str, values: Floats, kind: GGMLQuantizationType) -> NDArray[Any]:
    from gguf import quantize

    with np.errstate(over="ignore"):
        packed: NDArray[Any] = np.ascontiguousarray(quantize(np.ascontiguousarray(values), kind))
    if packed.dtype == np.float16 and not np.isfinite(packed).all():
        raise ExportRefused(f"{name} has weights that are too large for f16: say --type bf16.")
    return packed


def _add_metadata(writer: GGUFWriter, base: Base, label: str, facts: Mapping[str, str], type_name: str) -> None:
    from gguf import GGUFValueType

    for key, field in base.reader.fields.items():
        if key.startswith("GGUF.") or key in facts:
            continue  # the counts of the header, which the writer makes itself
        value, kind, items = entry(field)
        if kind is GGUFValueType.ARRAY and not len(value):
            continue  # the format has them, the writer does not
        if key == "general.name":
            value = f"{base.text(key)} {label}"
        if key == "general.file_type" and type_name != AS_BASE:
            value = _FILE_TYPES[type_name]
        writer.kv_data[0].pop(key, None)
        writer.add_key_value(key, value, kind, items)
    for key, text in facts.items():
        writer.add_key_value(key, text, GGUFValueType.STRING)
