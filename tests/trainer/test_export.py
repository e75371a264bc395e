"""What is written, byte for byte, and what is refused. That it is right is the matter of test_export_parity.py."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, dequantize, quantize
from numpy.typing import NDArray

from coderl_generator.gguf_header import read_metadata, read_texts
from coderl_trainer.errors import ExportFailed, ExportRefused, RunError
from coderl_trainer.export import export_gguf, source_in
from coderl_trainer.gguf_base import entry
from coderl_trainer.llama_names import as_gguf, hf_name
from coderl_trainer.lora import export_lora, read_lora
from coderl_trainer.run_reading import template_of
from coderl_trainer.safetensors_file import tensors_of
from coderl_trainer.tiny_llama import write_tiny_llama

Q, UP = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"
SHAPES = {Q: (64, 64), UP: (96, 64)}
Floats = NDArray[np.float32]


def save(file: Path, tensors: Mapping[str, Floats], dtype: str = "F32") -> None:
    """A safetensors file, written by the letter of its format."""
    header, data = {}, b""
    for name, values in tensors.items():
        raw = (values.view(np.uint32) >> 16).astype("<u2").tobytes() if dtype == "BF16" else values.astype("<f4").tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def make_lora(folder: Path, shapes: Mapping[str, tuple[int, int]] = SHAPES, rank: int = 4, **settings: Any) -> Path:
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    tensors = {}
    for module, (rows, columns) in shapes.items():
        for half, shape in (("A", (rank, columns)), ("B", (rows, rank))):
            tensors[f"base_model.model.{module}.lora_{half}.weight"] = rng.normal(0, 0.1, shape).astype(np.float32)
    save(folder / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "bias": "none", "base_model_name_or_path": "/home/me/tiny"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "Tiny.gguf", type_name="q8_0")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return make_lora(tmp_path / "kept")


def contents(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(Metadata, tensors) of a GGUF file, as they stand in it."""
    reader = GGUFReader(file)
    fields = {key: entry(field) for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return fields, {one.name: (one.tensor_type, one.data.tobytes(), one.data) for one in reader.tensors}


def test_only_what_was_trained_and_the_name_differ_from_the_base(base: Path, lora: Path, tmp_path: Path) -> None:
    made = export_gguf(lora, base, tmp_path / "out.gguf")
    fields, tensors = contents(tmp_path / "out.gguf")
    fields_before, before = contents(base)
    changed = {"blk.0.attn_q.weight", "blk.1.ffn_up.weight"}
    assert list(tensors) == list(before)
    assert {name for name in before if tensors[name][1] != before[name][1]} == changed
    assert all(tensors[name][0] == before[name][0] for name in before)
    assert {key for key in fields_before if fields[key] != fields_before[key]} == {"general.name"}
    assert (made.changed, made.copied, made.type) == (2, len(before) - 2, "base")
    version = made.version
    assert made.generator_id == f"tiny-kept-{version}"
    assert read_texts(tmp_path / "out.gguf", ["coderl.generator_id", "coderl.base", "general.name"]) == {
        "coderl.generator_id": made.generator_id,
        "coderl.base": "tiny",
        "general.name": f"Tiny kept {version}",
    }


@pytest.mark.parametrize("type_name", ["base", "f16", "bf16", "q8_0", "q4_1", "q4_0", "f32"])
def test_changed_tensors_are_the_base_plus_the_adapter(base: Path, lora: Path, tmp_path: Path, type_name: str) -> None:
    export_gguf(lora, base, tmp_path / "out.gguf", type_name=type_name)
    kind = GGMLQuantizationType["Q8_0" if type_name == "base" else type_name.upper()]
    before, after = contents(base)[1], contents(tmp_path / "out.gguf")[1]
    adapter = read_lora(lora)
    for name, heads in (("blk.0.attn_q.weight", 4), ("blk.1.ffn_up.weight", 0)):
        module = str(hf_name(name)).removesuffix(".weight")
        a, b = (half.values() for half in adapter.modules[module])
        wanted = dequantize(before[name][2], GGMLQuantizationType.Q8_0) + as_gguf(np.float32(2.0) * (b @ a), heads)
        assert after[name][0] == kind
        packed = quantize(np.ascontiguousarray(wanted), kind)
        assert after[name][1] == packed.tobytes()


def test_the_order_of_rows_is_that_of_the_docstring() -> None:
    rows, heads = 24, 2
    size = rows // heads
    weight = np.arange(rows, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    moved = as_gguf(weight, heads)
    for head in range(heads):
        for k in range(size):
            assert moved[head * size + k, 0] == head * size + (k % 2) * size // 2 + k // 2
    assert as_gguf(weight, 0) is weight


def test_the_same_input_gives_the_same_file(base: Path, lora: Path, tmp_path: Path) -> None:
    first, second = (export_gguf(lora, base, tmp_path / name).sha256 for name in ("a.gguf", "b.gguf"))
    assert first == second
    assert export_gguf(make_lora(tmp_path / "other" / "kept", rank=2), base, tmp_path / "c.gguf").sha256 != first


def test_how_much_rounding_leaves_is_told(lora: Path, tmp_path: Path) -> None:
    """Changes smaller than half a step of four bits are rounded back to where they began; eight bits keep them on average."""
    base = write_tiny_llama(tmp_path / "four.gguf", type_name="q4_1")
    faint = make_lora(tmp_path / "faint", lora_alpha=0.2)
    kept = {name: export_gguf(faint, base, tmp_path / "out.gguf", type_name=name).kept for name in ("f32", "q8_0", "base")}
    assert kept["f32"] == pytest.approx(1.0, abs=1e-6)
    assert kept["q8_0"] == pytest.approx(1.0, abs=0.1)
    assert kept["base"] < 0.5
    assert export_gguf(lora, base, tmp_path / "out.gguf").kept > kept["base"]
    assert export_gguf(whole(base, tmp_path / "same"), base, tmp_path / "out.gguf").kept == 1.0


def test_an_export_can_be_the_base_of_the_next(base: Path, lora: Path, tmp_path: Path) -> None:
    first = export_gguf(lora, base, tmp_path / "a.gguf", name="one")
    second = export_gguf(lora, tmp_path / "a.gguf", tmp_path / "b.gguf", name="two", type_name="f16")
    assert second.base == first.generator_id
    assert second.generator_id == f"{first.generator_id}-two-{first.version}-f16"


def whole(base: Path, folder: Path, **changes: Floats) -> Path:
    """The base as a Hugging Face model would be saved, with some tensors replaced."""
    folder.mkdir()
    tensors = {}
    for tensor in GGUFReader(base).tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        heads = {"attn_q": 4, "attn_k": 2}.get(tensor.name.split(".")[-2], 0)
        if heads:  # back into Hugging Face's order
            values = values.reshape(heads, -1, 2, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        tensors[str(hf_name(tensor.name))] = np.ascontiguousarray(values)
    save(folder / "model.safetensors", {**tensors, **changes})
    (folder / "config.json").write_text("{}")
    return folder


def test_a_whole_model_that_was_not_trained_is_its_base(base: Path, tmp_path: Path) -> None:
    made = export_gguf(whole(base, tmp_path / "same"), base, tmp_path / "out.gguf", type_name="f16")
    assert (made.changed, contents(tmp_path / "out.gguf")[1].keys()) == (0, contents(base)[1].keys())


def test_a_whole_model_changes_what_it_changes(base: Path, tmp_path: Path) -> None:
    norm = np.full(64, 1.5, np.float32)
    up = np.random.default_rng(2).normal(0, 1, (96, 64)).astype(np.float32)
    changed = {"model.layers.0.input_layernorm.weight": norm, f"{UP}.weight": up}
    made = export_gguf(whole(base, tmp_path / "whole", **changed), base, tmp_path / "out.gguf", type_name="q4_1")
    after = contents(tmp_path / "out.gguf")[1]
    assert made.changed == 2
    assert after["blk.0.attn_norm.weight"][:2] == (GGMLQuantizationType.F32, norm.tobytes())
    assert after["blk.1.ffn_up.weight"][1] == quantize(up, GGMLQuantizationType.Q4_1).tobytes()


def test_parts_of_a_model_are_put_together(base: Path, tmp_path: Path) -> None:
    folder = whole(base, tmp_path / "whole", **{f"{UP}.weight": np.ones((96, 64), np.float32)})
    tensors = {name: tensor.values() for name, tensor in tensors_of(folder / "model.safetensors").items()}
    names = sorted(tensors)
    (folder / "model.safetensors").unlink()
    parts = {"part-1.safetensors": names[:5], "part-2.safetensors": names[5:]}
    for file, some in parts.items():
        save(folder / file, {name: tensors[name] for name in some})
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert export_gguf(folder, base, tmp_path / "out.gguf").changed == 1
    index["weight_map"][names[0]] = "../outside.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ExportRefused, match="outside its folder"):
        export_gguf(folder, base, tmp_path / "out.gguf")


def test_bfloat16_is_read_as_it_is(tmp_path: Path) -> None:
    values = np.array([[1.5, -0.0078125], [3.0e38, 1e-40]], np.float32)
    rounded = (values.view(np.uint32) >> 16 << 16).view(np.float32)
    save(tmp_path / "x.safetensors", {"x": values}, "BF16")
    assert np.array_equal(tensors_of(tmp_path / "x.safetensors")["x"].values(), rounded)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "trains biases"),
        ({"modules_to_save": ["lm_head"]}, "whole modules"),
        ({"rank_pattern": {"q_proj": 8}}, "a rank of its own"),
        ({"init_lora_weights": "pissa"}, "changes the base model's own weights"),
        ({"peft_type": "IA3"}, "only LORA"),
        ({"r": 8}, "says rank 8"),
        ({"lora_alpha": None}, "does not say its rank and alpha"),
    ],
)
def test_what_is_no_plain_lora_is_refused(base: Path, tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    folder = make_lora(tmp_path / "odd", **settings)
    for attempt in (lambda: export_gguf(folder, base, tmp_path / "out.gguf"), lambda: export_lora(folder, tmp_path / "out")):
        with pytest.raises(ExportRefused, match=said):
            attempt()
    assert not list(tmp_path.glob("out*"))


def test_an_adapter_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    wrong = make_lora(tmp_path / "wide", {Q: (128, 64)})
    with pytest.raises(ExportRefused, match=r"q_proj of the adapter is 128 by 64, and blk\.0\.attn_q\.weight .* is 64 by 64"):
        export_gguf(wrong, base, tmp_path / "out.gguf")
    deep = make_lora(tmp_path / "deep", {"model.layers.7.mlp.up_proj": (96, 64)})
    with pytest.raises(ExportRefused, match=r"model\.layers\.7\.mlp\.up_proj, and Tiny\.gguf has no linear layer"):
        export_gguf(deep, base, tmp_path / "out.gguf")


def test_an_adapter_that_diverged_is_refused_and_leaves_nothing(base: Path, tmp_path: Path) -> None:
    folder = make_lora(tmp_path / "nan")
    halves = {name: tensor.values() for name, tensor in tensors_of(folder / "adapter_model.safetensors").items()}
    next(iter(halves.values()))[0, 0] = np.nan
    save(folder / "adapter_model.safetensors", halves)
    (tmp_path / "out.gguf").write_text("what was there")
    with pytest.raises(ExportRefused, match="not finite"):
        export_gguf(folder, base, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_text() == "what was there"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("cut", [4, 100, -8])
def test_a_file_that_is_cut_short_is_refused(lora: Path, base: Path, tmp_path: Path, cut: int) -> None:
    file = lora / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ExportRefused, match=r"cut short|not a safetensors file"):
        export_gguf(lora, base, tmp_path / "out.gguf")


def test_a_base_of_another_family_is_refused(lora: Path, tmp_path: Path) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "other.gguf", "qwen2")
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ExportRefused, match="of the family qwen2; only llama"):
        export_gguf(lora, tmp_path / "other.gguf", tmp_path / "out.gguf")
    (tmp_path / "notes.gguf").write_text("no model at all, only a note")
    with pytest.raises(ExportRefused, match="cannot be read as a GGUF file"):
        export_gguf(lora, tmp_path / "notes.gguf", tmp_path / "out.gguf")


def test_the_base_is_not_overwritten(base: Path, lora: Path) -> None:
    before = base.read_bytes()
    with pytest.raises(ExportRefused, match="is the base itself"):
        export_gguf(lora, base, base)
    assert base.read_bytes() == before


def test_a_type_that_rows_do_not_fit_is_refused(lora: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="The type must be one of"):
        export_gguf(lora, tmp_path / "any.gguf", tmp_path / "out.gguf", type_name="q3_k")


FULL = """
import resource, sys
from pathlib import Path
from coderl_trainer.export import export_gguf
from coderl_trainer.errors import ExportFailed
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    export_gguf(*map(Path, sys.argv[1:]))
except ExportFailed as error:
    print(error)
"""


def test_a_full_disk_leaves_no_half_file(base: Path, lora: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the kernel ends the write in the same place."""
    out = tmp_path / "there" / "out.gguf"
    command = [sys.executable, "-c", FULL, str(lora), str(base), str(out)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert "out.gguf cannot be written: not all of it could be written" in run.stdout
    assert list(out.parent.iterdir()) == []


def test_where_nothing_can_be_written_is_said(base: Path, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportFailed, match="cannot be written"):
        export_gguf(lora, base, tmp_path / "file" / "out.gguf")


def test_an_adapter_for_vllm_names_no_path_of_this_machine(lora: Path, tmp_path: Path) -> None:
    adapter = export_lora(lora, tmp_path / "served")
    assert (adapter.rank, adapter.scale) == (4, 2.0)
    config = json.loads((tmp_path / "served" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["inference_mode"], config["r"]) == ("tiny", True, 4)
    weights = "adapter_model.safetensors"
    assert (tmp_path / "served" / weights).read_bytes() == (lora / weights).read_bytes()
    with pytest.raises(ExportRefused, match="exists already"):
        export_lora(lora, tmp_path / "served")


def test_an_adapter_whose_rank_a_server_does_not_take_is_refused(tmp_path: Path) -> None:
    folder = make_lora(tmp_path / "wide", rank=32)
    with pytest.raises(ExportRefused, match="--max-lora-rank 32"):
        export_lora(folder, tmp_path / "served")
    assert export_lora(folder, tmp_path / "served", max_rank=32).rank == 32


def test_the_newest_weights_of_a_run_are_found(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step in (9, 10, 100):
        make_lora(run / "checkpoints" / f"step-{step}" / "adapter")
    assert source_in(run) == run / "checkpoints" / "step-100" / "adapter"
    make_lora(run / "best")
    assert source_in(run) == run / "best"
    assert source_in(run / "checkpoints" / "step-9") == run / "checkpoints" / "step-9" / "adapter"
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(ExportRefused, match=r"There is (nothing to export in|no folder)"):
            source_in(nothing)


def test_the_template_of_a_run_is_written_and_stays(base: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20261127T000000Z-taught"
    weights = make_lora(run / "best" / "adapter")
    assert template_of(weights) == ""
    (run / "metrics.jsonl").touch()
    with pytest.raises(RunError, match=r"config\.json"):
        template_of(weights)
    (run / "config.json").write_text(json.dumps({"template": "smollm2-spm"}))
    assert template_of(weights) == template_of(run) == "smollm2-spm"
    export_gguf(weights, base, tmp_path / "taught.gguf", template=template_of(weights))
    assert read_metadata(tmp_path / "taught.gguf").template == "smollm2-spm"
    export_gguf(weights, tmp_path / "taught.gguf", tmp_path / "next.gguf")
    assert read_metadata(tmp_path / "next.gguf").template == "smollm2-spm"
    export_gguf(weights, tmp_path / "taught.gguf", tmp_path / "plain.gguf", template="plain")
    assert read_metadata(tmp_path / "plain.gguf").template == "plain"
