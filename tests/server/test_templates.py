"""The prompt template of a session: named, or found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coderl_generator.models import EMBEDDED
from coderl_generator.scripted import Rule
from coderl_server.errors import InputError
from coderl_server.templates import chosen_template
from coderl_store.records import Incident


@pytest.mark.parametrize(
    ("named", "model", "template"),
    [
        ("", "Qwen/Qwen2.5-Coder-7B", "qwen2.5-coder"),
        ("auto", "codestral-latest", "codestral"),
        ("", "some-model", "plain"),
        ("starcoder2", "Qwen/Qwen2.5-Coder-7B", "starcoder2"),
        ("plain", "Qwen/Qwen2.5-Coder-7B", "plain"),
    ],
)
def test_behind_a_server_the_models_name_decides_and_the_flag_overrides(named: str, model: str, template: str) -> None:
    assert chosen_template(named, "openai", model, Path("nowhere")) == (template, "")


def test_a_file_that_is_missing_or_no_model_leaves_it_to_the_flag(tmp_path: Path) -> None:
    assert chosen_template("", "llamacpp", str(tmp_path / "no.gguf"), tmp_path) == ("plain", "")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\0\0\0")
    assert chosen_template("", "llamacpp", str(tmp_path / "cut.gguf"), tmp_path) == ("plain", "")
    assert chosen_template("granite", "llamacpp", str(tmp_path / "cut.gguf"), tmp_path) == ("granite", "")
    assert chosen_template("", "scripted", "", tmp_path) == ("plain", "")


@pytest.mark.model
def test_the_embedded_model_is_prefix_only_and_says_what_another_template_lacks(embedded_model: Path) -> None:
    home = embedded_model.parent.parent
    assert embedded_model.name == EMBEDDED.file_name
    assert chosen_template("", "llamacpp", "embedded", home) == ("plain", "")
    template, warning = chosen_template("qwen2.5-coder", "llamacpp", "embedded", home)
    assert template == "qwen2.5-coder"
    assert "<|fim_prefix|>" in warning


def test_an_unknown_template_is_the_users_mistake(coderl: Callable[..., tuple[int, str, str]]) -> None:
    with pytest.raises(InputError, match="starcoder2"):
        chosen_template("qwen", "openai", "m", Path("nowhere"))
    code, _, err = coderl("lsp", "--backend", "scripted", "--template", "qwen")
    assert code == 2
    assert "--template" in err


def test_leaking_tokens_are_told_once_in_a_sentence(workbench: Any) -> None:
    bench = workbench(decides="always_show", rule=Rule(text="x<|fim_middle|>y"), reuse=False)
    bench.open("sum(\n" * 9)
    for line in range(9):
        bench.ask(line, 4)
    told = [sentence for sentence in bench.told if "template" in sentence]
    assert len(told) == 1
    assert "`plain`" in told[0]
    assert [row.code for row in bench.rows(Incident)] == ["template"]
