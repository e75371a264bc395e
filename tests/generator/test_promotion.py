"""What is active on a machine, what it replaced, and what is said of files that are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coderl_generator.adapters import Adapter
from coderl_generator.errors import ModelDamaged, ModelMissing
from coderl_generator.models import EMBEDDED, generator_id_of, models_folder
from coderl_generator.promotion import (
    ACTIVE,
    Kind,
    activate,
    active,
    active_file,
    chain,
    find_active,
    kept,
    promoted,
    rollback,
    sha256_of,
)
from coderl_trainer.tiny_llama import write_tiny_llama


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "Tiny Llama.gguf")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "kept-lines"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def promote(home: Path, source: Path) -> str:
    one = kept(home, source)
    activate(home, one)
    return one.id


def test_without_a_promotion_the_embedded_model_is_meant(tmp_path: Path) -> None:
    assert active(tmp_path) is None
    assert chain(tmp_path) == promoted(tmp_path) == []
    with pytest.raises(ModelMissing, match="embedded model is not installed"):
        find_active(tmp_path, ACTIVE)
    with pytest.raises(ModelMissing, match="nothing is promoted"):
        rollback(tmp_path)


def test_a_model_is_kept_under_its_id_and_survives_its_source(tmp_path: Path, model: Path) -> None:
    home = tmp_path / "home"
    assert promote(home, model) == "tiny-llama"
    with model.open("r+b") as opened:
        opened.write(b"overwritten in place")
    one = active(home)
    assert one is not None
    assert (one.kind, one.works, generator_id_of(one.path)) == (Kind.MODEL, True, "tiny-llama")
    assert find_active(home) == one.path == models_folder(home) / "promoted" / "tiny-llama.gguf"
    assert [path.name for path in one.path.parent.iterdir()] == ["tiny-llama.gguf"]


def test_two_files_of_one_name_get_two_ids(tmp_path: Path, model: Path) -> None:
    home, other = tmp_path / "home", write_tiny_llama(tmp_path / "tiny-llama.gguf", seed=1)
    first, second = promote(home, model), promote(home, other)
    assert second == f"tiny-llama-{sha256_of(kept(home, other))[:8]}"
    assert [one.id for one in chain(home)] == [second, first]
    assert promote(home, model) == first
    assert [one.id for one in promoted(home)] == sorted([first, second])


def test_no_other_file_takes_the_name_of_the_embedded_model(tmp_path: Path) -> None:
    pretender = write_tiny_llama(tmp_path / f"{EMBEDDED.name}.gguf")
    assert promote(tmp_path / "home", pretender).startswith(f"{EMBEDDED.name}-")


def test_the_way_back_ends_at_the_embedded_model(tmp_path: Path, model: Path) -> None:
    home = tmp_path / "home"
    first, second = promote(home, model), promote(home, write_tiny_llama(tmp_path / "second.gguf", seed=2))
    given_up, now = rollback(home)
    assert (given_up.id, now and now.id) == (second, first)
    assert rollback(home)[1] is None
    assert active(home) is None


def test_the_way_back_needs_the_earlier_file(tmp_path: Path, model: Path) -> None:
    home = tmp_path / "home"
    promote(home, model)
    second = promote(home, write_tiny_llama(tmp_path / "second.gguf", seed=2))
    (models_folder(home) / "promoted" / "tiny-llama.gguf").unlink()
    with pytest.raises(ModelMissing, match=r"tiny-llama\.gguf was active before and is gone"):
        rollback(home)
    one = active(home)
    assert one is not None
    assert one.id == second


def test_a_promoted_model_that_is_gone_is_said(tmp_path: Path, model: Path) -> None:
    home = tmp_path / "home"
    promote(home, model)
    (models_folder(home) / "promoted" / "tiny-llama.gguf").unlink()
    with pytest.raises(ModelMissing, match="run: coderl rollback"):
        find_active(home)


def test_adapters_and_models_are_active_side_by_side(tmp_path: Path, model: Path, adapter: Path) -> None:
    home = tmp_path / "home"
    label = Adapter.at(adapter).label
    promote(home, model)
    assert promote(home, adapter) == label
    one, beside = active(home, Kind.ADAPTER), active(home, Kind.MODEL)
    assert one is not None
    assert beside is not None
    assert (one.id, beside.id) == (label, "tiny-llama")
    assert Adapter.at(one.path).label == label, "the copy has another name than its source"
    assert rollback(home)[1] == beside
    assert active(home, Kind.ADAPTER) is None


@pytest.mark.parametrize("content", ["../outside\n", ".hidden\n", "a\\b\n", "\xff"])
def test_a_list_that_was_tampered_with_is_refused(tmp_path: Path, content: str) -> None:
    active_file(tmp_path).parent.mkdir()
    active_file(tmp_path).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelDamaged, match="delete it to use the embedded model"):
        chain(tmp_path)


def test_what_is_no_model_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "notes.gguf"
    file.write_text("no model")
    with pytest.raises(ModelDamaged, match="not a GGUF file"):
        kept(tmp_path / "home", file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelMissing, match="no adapter in"):
        kept(tmp_path / "home", tmp_path / "empty")
    assert promoted(tmp_path / "home") == []
