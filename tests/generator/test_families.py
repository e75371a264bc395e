"""Which template a model gets, from what it says of itself."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.errors import ModelDamaged
from coderl_generator.families import ModelMetadata, family_of, lacking
from coderl_generator.fim_templates import FIM_TEMPLATES
from coderl_generator.gguf_header import read_metadata


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen2.5-Coder-7B-Instruct", "qwen2.5-coder"),
        ("Qwen2.5 Coder 1.5B", "qwen2.5-coder"),
        ("qwen3-coder:30b", "qwen2.5-coder"),
        ("bigcode/starcoder2-3b", "starcoder2"),
        ("codellama:7b-code", "codellama"),
        ("CodeLlama-34b-hf", "plain"),
        ("CodeLlama-7b-Python-hf", "plain"),
        ("codestral-latest", "codestral"),
        ("mamba-codestral-7B-v0.1", "plain"),
        ("deepseek-coder-6.7b-base", "deepseek-coder"),
        ("google/codegemma-2b", "codegemma"),
        ("ibm-granite/granite-8b-code-base-4k", "granite-code"),
        ("granite-4.0-h-tiny", "granite"),
        ("SmolLM2-135M-Instruct", "plain"),
        ("Qwen2.5-7B", "plain"),
        ("starcoderbase", "plain"),
        ("", "plain"),
    ],
)
def test_a_name_decides(name: str, family: str) -> None:
    assert family_of(ModelMetadata((name,))) == family


@given(st.sampled_from(sorted(FIM_TEMPLATES)), st.data())
def test_no_template_without_all_its_tokens_in_the_vocabulary(family: str, data: st.DataObject) -> None:
    needed = FIM_TEMPLATES[family].needed
    vocabulary = frozenset(data.draw(st.sets(st.sampled_from(needed)))) | {"a", "b"}
    name = {"granite-code": "granite-3b-code", "granite": "granite-4", "qwen2.5-coder": "qwen2.5-coder"}.get(family, family)
    taught = family if family == "smollm2-spm" else ""  # no model has it by its name
    chosen = family_of(ModelMetadata((name,), vocabulary=vocabulary, template=taught))
    assert chosen == (family if set(needed) <= vocabulary else "plain")
    assert set(lacking(family, vocabulary)) == set(needed) - vocabulary
    assert lacking(family, None) == ()


def test_tokens_in_the_vocabulary_alone_choose_nothing() -> None:
    vocabulary = frozenset(FIM_TEMPLATES["qwen2.5-coder"].needed)
    assert family_of(ModelMetadata(("my-own-model",), "qwen2", vocabulary)) == "plain"


def test_tokens_that_the_file_declares_do() -> None:
    tokens = ("▁<PRE>", "▁<SUF>", "▁<MID>")
    assert family_of(ModelMetadata(("mine",), "llama", frozenset(tokens), tokens)) == "codellama"
    bars = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    granite = frozenset((*bars, "<|reponame|>", "<|filename|>"))
    assert family_of(ModelMetadata(("mine",), "granite", granite, bars)) == "granite"
    assert family_of(ModelMetadata(("mine",), "qwen2", granite, bars[:2])) == "plain"


def test_what_a_model_was_taught_here_decides() -> None:
    name = "smollm2-135m-trained"
    taught = ModelMetadata((name,), vocabulary=frozenset(FIM_TEMPLATES["smollm2-spm"].needed), template="smollm2-spm")
    assert family_of(taught) == "smollm2-spm"
    assert family_of(replace(taught, vocabulary=frozenset({"a"}))) == "plain"
    assert family_of(replace(taught, template="of-a-later-version")) == "plain"
    assert family_of(replace(taught, template="")) == "plain"


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf(
    tokens: list[str],
    *,
    name: str = "Mine",
    declared: tuple[int, int, int] | None = None,
    version: int = 3,
    template: str = "",
) -> bytes:
    """A GGUF header as converters write it: with values and arrays of kinds that are not wanted in between."""
    entries = [
        text("general.architecture") + struct.pack("<I", 8) + text("qwen2"),
        text("general.name") + struct.pack("<I", 8) + text(name),
        text("qwen2.block_count") + struct.pack("<II", 4, 24),
        text("qwen2.rope.scale") + struct.pack("<If", 6, 1.5),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", 0.0, 1.0),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, len(tokens)) + b"".join(map(text, tokens)),
        text("tokenizer.ggml.merges") + struct.pack("<IIQ", 9, 8, 2) + text("a b") + text("c d"),
        text("tokenizer.chat_template") + struct.pack("<I", 8) + text("{{ <|fim_prefix|> }}"),
    ]
    if template:
        entries.append(text("coderl.template") + struct.pack("<I", 8) + text(template))
    for which, number in zip(("pre", "suf", "mid"), declared or (), strict=False):
        entries.append(text(f"tokenizer.ggml.fim_{which}_token_id") + struct.pack("<II", 4, number))
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(entries)) + b"".join(entries) + b"\0" * 64


def test_a_files_header_tells_name_vocabulary_and_declared_tokens(tmp_path: Path) -> None:
    file = tmp_path / "some-model.gguf"
    tokens = ["<|endoftext|>", *FIM_TEMPLATES["qwen2.5-coder"].needed, "é"]
    file.write_bytes(gguf(tokens, declared=(1, 2, 3)))
    metadata = read_metadata(file)
    assert metadata == ModelMetadata(("Mine", "some-model"), "qwen2", frozenset(tokens), tuple(tokens[1:4]))
    assert family_of(metadata) == "qwen2.5-coder"
    file.write_bytes(gguf(tokens, template="smollm2-spm"))
    assert read_metadata(file).template == "smollm2-spm"


@given(st.integers(0, 400))
def test_a_cut_header_is_damaged_and_nothing_worse(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    whole = gguf(["a", "b"])[:-64]
    file = tmp_path_factory.mktemp("gguf") / "cut.gguf"
    file.write_bytes(whole[: min(size + 1, len(whole) - 1)])
    with pytest.raises(ModelDamaged, match=r"cut\.gguf"):
        read_metadata(file)


@given(st.binary(min_size=24, max_size=200))
def test_noise_behind_the_magic_is_damaged(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    file = tmp_path_factory.mktemp("gguf") / "noise.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40) + noise)
    with pytest.raises(ModelDamaged):
        read_metadata(file)
