"""What an adapter is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from coderl_generator.adapters import Adapter, adapted_id
from coderl_generator.errors import GeneratorError, ModelDamaged, ModelMissing


def folder(at: Path, weights: bytes = b"weights") -> Path:
    at.mkdir()
    (at / "adapter_config.json").write_text("{}")
    (at / "adapter_model.safetensors").write_bytes(weights)
    return at


def test_a_folder_gives_its_name_and_its_weights_the_version(tmp_path: Path) -> None:
    one, two = Adapter.at(folder(tmp_path / "My Team")), Adapter.at(folder(tmp_path / "b", b"others"), "My-Team")
    assert one.name == two.name == "My-Team"
    assert one.version != two.version
    assert one.label == f"My-Team@{one.version}"
    assert Adapter.at(tmp_path / "b", version="7").label == "b@7"


def test_the_generator_id_names_model_and_adapter() -> None:
    assert adapted_id("base", None) == "base"
    assert adapted_id("base", Adapter("team", "7", "anywhere")) == "base+team@7"


def test_what_is_no_adapter_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"adapter_config\.json"):
        Adapter.at(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelDamaged, match="no weights"):
        Adapter.at(tmp_path)


@pytest.mark.parametrize("word", ["", "a b", "a/b", "a@b", "ä", "x" * 101])
def test_a_name_or_version_that_would_not_stand_in_an_id_is_refused(word: str) -> None:
    with pytest.raises(GeneratorError, match="letters, digits"):
        Adapter(word, "1", "p")
    with pytest.raises(GeneratorError, match="letters, digits"):
        Adapter("a", word, "p")
