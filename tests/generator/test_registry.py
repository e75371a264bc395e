"""Backends by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from coderl_generator.errors import UnknownBackend
from coderl_generator.registry import KNOWN, backend
from coderl_generator.scripted import ScriptedBackend
from coderl_store.clock import SystemClock


def test_a_backend_is_built_by_name_or_by_dotted_path() -> None:
    assert isinstance(backend("scripted", clock=SystemClock()), ScriptedBackend)
    assert isinstance(backend("coderl_generator.scripted.ScriptedBackend", clock=SystemClock()), ScriptedBackend)
    assert backend("openai", base_url="http://127.0.0.1:1/v1", model="m").generator_id == "m"
    assert backend("llamacpp", model_path="Some.gguf").generator_id == "some"


@pytest.mark.parametrize("name", ["gpt", "", "no.such.module", "coderl_generator.scripted.Nothing", "collections.OrderedDict"])
def test_an_unknown_backend_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownBackend, match=r"llamacpp, openai, scripted, transformers, vllm|is no backend"):
        backend(name)


def test_a_wrong_option_is_a_sentence() -> None:
    with pytest.raises(UnknownBackend, match="options"):
        backend("scripted", clok=SystemClock())


def test_naming_the_backends_loads_none_of_them() -> None:
    code = "import sys, coderl_generator.registry; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"httpx", "xllamacpp", "numpy", "pydantic", "torch", "transformers", "vllm"}
    assert not heavy & set(run.stdout.split())
    assert set(KNOWN) == {"llamacpp", "openai", "scripted", "transformers", "vllm"}
