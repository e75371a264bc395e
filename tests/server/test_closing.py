"""`coderl export`, `promote`, `rollback` and `models list`, as a user calls them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coderl_store.repository import Repository
from coderl_store.versions import Event
from coderl_trainer.tiny_llama import write_tiny_llama

SOURCE = Path(__file__).parents[1] / "trainer" / "test_export.py"
spec = importlib.util.spec_from_file_location("test_export_parts", SOURCE)
assert spec is not None
assert spec.loader is not None
parts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)


def coderl(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coderl_server", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def told(*arguments: object) -> Any:
    run = coderl(*arguments, "--json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "Tiny.gguf", type_name="q8_0")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    folder: Path = parts.make_lora(tmp_path / "kept")
    return folder


def test_the_way_from_an_adapter_to_the_active_model_and_back(base: Path, lora: Path, tmp_path: Path, own_home: Path) -> None:
    out = tmp_path / "out.gguf"
    made = told("export", lora, "--base", base, "--to", out)
    assert (made["changed"], made["file"]) == (2, str(out))
    first = told("promote", base)
    assert (first["event"], first["active"], first["instead_of"]) == ("promoted", "tiny", "")
    second = told("promote", out)
    assert (second["active"], second["instead_of"]) == (made["generator_id"], "tiny")
    assert any("gate-calibrate --promote" in notice for notice in second["notices"])
    listed = told("models", "list")
    active = [row["id"] for row in listed["models"] if row["active"]]
    assert active == [made["generator_id"]]
    row = next(row for row in listed["models"] if row["active"])
    assert (row["base"], row["trained"]) == ("tiny", f"kept@{made['version']}")
    back = told("rollback")
    assert (back["event"], back["active"], back["instead_of"]) == ("rolled_back", "tiny", made["generator_id"])
    assert told("rollback")["active"] == "smollm2-135m-instruct-q4_1"
    repository = Repository(f"sqlite:///{own_home / 'coderl.db'}")
    try:
        facts = repository.versions()
    finally:
        repository.close()
    assert [(fact.event, fact.generator_id) for fact in facts] == [
        (Event.PROMOTED, "tiny"),
        (Event.PROMOTED, made["generator_id"]),
        (Event.ROLLED_BACK, "tiny"),
        (Event.ROLLED_BACK, "smollm2-135m-instruct-q4_1"),
    ]
    assert (facts[1].sha256, facts[1].size_bytes) == (made["sha256"], made["size_bytes"])
    assert (facts[1].base, facts[1].adapter, facts[1].instead_of) == ("tiny", f"kept@{made['version']}", "tiny")


def test_an_adapter_that_rounding_takes_away_is_said(tmp_path: Path) -> None:
    base = write_tiny_llama(tmp_path / "four.gguf", type_name="q4_1")
    faint = parts.make_lora(tmp_path / "faint", lora_alpha=0.01)
    run = coderl("export", faint, "--base", base, "--to", tmp_path / "out.gguf", "--type", "base")
    assert run.returncode == 0
    assert "of what was trained: say --type q8_0 or f16" in run.stdout


def test_a_run_whose_settings_are_damaged_is_not_exported_as_if_it_had_none(base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    weights = parts.make_lora(run / "best")
    (run / "metrics.jsonl").touch()
    (run / "config.json").write_text("{")
    for to in (tmp_path / "out.gguf", tmp_path / "served"):
        refused = coderl("export", run, "--base", base, "--to", to)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "config.json is no JSON" in refused.stderr
        assert not to.exists()
    weights.rename(tmp_path / "weights")
    assert told("export", tmp_path / "weights", "--base", base, "--to", tmp_path / "out.gguf")["changed"] == 2


def test_an_adapter_is_promoted_for_servers_that_load_adapters(lora: Path, tmp_path: Path) -> None:
    served = told("export", lora, "--to", tmp_path / "served")
    change = told("promote", tmp_path / "served")
    assert (change["kind"], change["active"]) == ("adapter", served["label"])
    assert "--backend vllm" in change["notices"][0]


def test_the_table_says_what_is_active_and_what_is_gone(base: Path) -> None:
    path = Path(told("promote", base)["path"])
    assert "active" in coderl("models", "list").stdout
    path.unlink()
    assert [row["works"] for row in told("models", "list")["models"] if row["id"] == "tiny"] == [False]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("export", "LORA", "--to", "out.gguf", "--base", "absent.gguf"), 2, "--base cannot be used"),
        (("export", "absent", "--to", "out.gguf", "--base", "BASE"), 2, "There is no folder absent"),
        (("export", "LORA", "--to", "out.gguf", "--base", "BASE", "--type", "q2"), 2, "The type must be one of"),
        (("export", "LORA", "--to", "BASE/out.gguf", "--base", "BASE"), 1, "cannot be written"),
        (("export", "LORA", "--to", "LORA"), 2, "exists already"),
        (("promote", "absent.gguf"), 2, "there is no model file"),
        (("promote", "LORA/adapter_config.json"), 2, "not a GGUF file"),
        (("promote", "EMPTY"), 2, "there is no adapter in"),
        (("rollback",), 1, "nothing is promoted"),
    ],
)
def test_a_mistake_is_one_sentence(
    base: Path, lora: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"BASE": str(base), "LORA": str(lora), "EMPTY": str(tmp_path / "empty"), "out.gguf": str(tmp_path / "out.gguf")}
    named = []
    for argument in arguments:
        head, _, tail = argument.partition("/")
        named.append(names.get(argument) or (f"{names[head]}/{tail}" if head in names else argument))
    run = coderl(*named)
    assert (run.returncode, run.stdout) == (code, "")
    assert said in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_model_that_cannot_be_loaded_does_not_become_active(base: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(base.read_bytes()[:-20_000])
    run = coderl("promote", broken)
    assert run.returncode == 1
    assert "llama.cpp cannot load broken.gguf" in run.stderr
    assert [row["id"] for row in told("models", "list")["models"] if row["active"]] == ["smollm2-135m-instruct-q4_1"]
