"""The loop, closed: an adapter becomes a file, the file is promoted, a running server takes it, the log says so, and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coderl_gate.artifact import save
from coderl_gate.fitness import GENERATORS
from coderl_gate.gate import promote as promote_gate
from coderl_gate.synthetic import knowing
from coderl_generator.models import EMBEDDED, models_folder
from coderl_store.records import Suggestion
from coderl_store.repository import Repository

URI = "file:///project/module.py"
SETTINGS = {"rule": "always_show", "epsilonSkip": 0, "epsilonWithhold": 0, "privacy": "code", "maxTokens": 4, "reuse": False}
PATIENCE_S = 60.0
ROWS, COLUMNS, RANK = 1536, 576, 2


def coderl(home: Path, *arguments: object) -> Any:
    command = [sys.executable, "-m", "coderl_server", *map(str, arguments), "--json"]
    environment = {**os.environ, "CODERL_HOME": str(home)}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def make_adapter(folder: Path) -> Path:
    """A small change of one layer of the embedded model, in PEFT's form."""
    rng = np.random.default_rng(0)
    module = "base_model.model.model.layers.3.mlp.up_proj"
    shapes = {f"{module}.lora_A.weight": (RANK, COLUMNS), f"{module}.lora_B.weight": (ROWS, RANK)}
    header, data = {}, b""
    for name, shape in shapes.items():
        raw = rng.normal(0, 0.01, shape).astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 4}))
    return folder


def wait_for_generator(client: Any, name: str) -> dict[str, Any]:
    """The status once this generator serves."""
    give_up_s = time.monotonic() + PATIENCE_S
    while (status := client.request("coderl/status"))["generator"] != name:
        assert time.monotonic() < give_up_s, f"{name} does not serve after {PATIENCE_S:g} s: {status}"
        time.sleep(0.1)
    return dict(status)


def wait_for_a_suggestion(client: Any) -> None:
    """On a machine that others keep busy the first token may be too late for one request, and the next one gets it."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not client.complete(URI, 3, 12, invoked=True):
        assert time.monotonic() < give_up_s, f"no suggestion in {PATIENCE_S:g} s: {client.why(URI)}"


@pytest.mark.slow
@pytest.mark.model
def test_a_running_server_takes_what_is_promoted_and_goes_back(
    start: Callable[..., Any], embedded_model: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    models_folder(home).mkdir(parents=True)
    (models_folder(home) / EMBEDDED.file_name).symlink_to(embedded_model)
    save(replace(knowing(), provenance={GENERATORS: [EMBEDDED.name]}), tmp_path / "gate")
    fitted = promote_gate(home, tmp_path / "gate")

    client = start(None, ("--template", "plain"), home=home, gate_folder=None)
    client.initialize({**SETTINGS, "deadlineMs": 60_000})
    client.open(URI, "import os\n\nvalues = [1, 2, 3]\ntotal = sum(")
    wait_for_a_suggestion(client)
    assert client.request("coderl/status")["gate"] == fitted.id

    made = coderl(home, "export", make_adapter(tmp_path / "kept"), "--to", tmp_path / "out.gguf")
    change = coderl(home, "promote", tmp_path / "out.gguf")
    assert change["active"] == made["generator_id"]
    assert any(EMBEDDED.name in notice for notice in change["notices"]), "nobody says that the gate was fitted for another"
    status = wait_for_generator(client, made["generator_id"])
    assert status["kind"] == "Warning"
    assert f"The active gate was fitted on {EMBEDDED.name}" in status["message"]
    assert status["gate"] != fitted.id, "a gate that was fitted for another generator goes on"
    wait_for_a_suggestion(client)
    findings = {one["name"]: one for one in examined(home)}
    assert made["generator_id"] in findings["Promoted model"]["text"]
    assert findings["Gate"]["state"] == "missing"
    assert "gate-calibrate --promote" in findings["Gate"]["cure"]

    assert coderl(home, "rollback")["active"] == EMBEDDED.name
    status = wait_for_generator(client, EMBEDDED.name)
    assert (status["kind"], status["gate"]) == ("Normal", fitted.id)
    wait_for_a_suggestion(client)
    client.flush()
    repository = Repository(f"sqlite:///{home / 'coderl.db'}")
    try:
        names = [row.generator_id for row in repository.stream(Suggestion)]
    finally:
        repository.close()
    assert [name for name, _ in groupby(names)] == [EMBEDDED.name, made["generator_id"], EMBEDDED.name]
    assert client.stop() == 0


def examined(home: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "coderl_server", "doctor", "--json"]
    environment = {**os.environ, "CODERL_HOME": str(home)}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    findings: list[dict[str, Any]] = json.loads(run.stdout)["findings"]
    return findings
