"""Another model in a running server, and its name in the log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coderl_store.records import Suggestion
from coderl_store.repository import Repository

URI = "file:///project/module.py"
SETTINGS = {"rule": "always_show", "epsilonSkip": 0, "epsilonWithhold": 0, "privacy": "code", "maxTokens": 4, "reuse": False}


@pytest.mark.model
def test_a_model_is_changed_without_a_restart(start: Callable[..., Any], embedded_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "Other Model.gguf"
    other.symlink_to(embedded_model)
    client = start(None, ("--backend", "llamacpp", "--model", str(embedded_model), "--template", "plain"))
    client.initialize({**SETTINGS, "deadlineMs": 60_000})
    client.open(URI, "import os\n\nvalues = [1, 2, 3]\ntotal = sum(")
    client.complete(URI, 3, 12, invoked=True)
    first = client.request("coderl/status")["generator"]
    told = client.request("coderl/generator", {"model": str(other)})
    assert told == {"generator": "other-model", "changed": True, "message": ""}
    client.complete(URI, 3, 12, invoked=True)
    refused = client.request("coderl/generator", {"model": str(tmp_path / "absent.gguf")})
    assert (refused["generator"], refused["changed"]) == ("other-model", False)
    assert "absent.gguf" in refused["message"]
    client.flush()
    repository = Repository(f"sqlite:///{client.home / 'coderl.db'}")
    try:
        names = [row.generator_id for row in repository.stream(Suggestion)]
    finally:
        repository.close()
    assert names == [first, "other-model"]
