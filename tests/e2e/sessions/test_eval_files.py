"""`coderl eval --files`: a simulated programmer types files into a real server, for one model and for two."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coderl_server.cli import main
from coderl_server.simulate import SimulateOptions, run

Oracle = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path, source: Path) -> list[str]:
    """Two files that the oracle knows."""
    other = tmp_path / "other.py"
    other.write_text(source.read_text(encoding="utf-8").replace("total", "added"), encoding="utf-8")
    return [str(source), str(other)]


@pytest.fixture
def evaluated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_gate: Path, files: list[str]
) -> Callable[..., str]:
    """The command line in this process; what it prints."""

    def command(*arguments: str) -> str:
        typed = [word for file in files for word in ("--files", file)]
        fixed = ("--backend", "scripted", "--gate", str(small_gate), "--rule", "always_show", "--seed", "4")
        monkeypatch.setattr(sys, "argv", ["coderl", "eval", *typed, *fixed, *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert not left.value.code, err
        return str(out)

    return command


def test_one_model_saves_what_the_simulated_session_says(
    evaluated: Callable[..., str], oracle: Oracle, files: list[str], small_gate: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "saved.png"
    found = json.loads(evaluated("--script", str(oracle(0.1)), "--json", "--picture", str(picture)))
    saved = found["seconds_saved"]
    session = run(
        SimulateOptions(
            tuple(map(Path, files)), seed=4, backend="scripted", script=oracle(0.1), gate=small_gate, rule="always_show",
            model="embedded", home=tmp_path / "home",
        )
    )  # fmt: skip
    assert saved["total_s"] == pytest.approx(session.total.seconds_saved, abs=1e-6)
    assert [part["file"] for part in saved["files"]] == files
    rates = [part.counters.seconds_saved_per_1000_keystrokes or 0.0 for part in session.files]
    assert saved["per_1000_keystrokes"]["estimate"] == pytest.approx(sum(rates) / 2)
    lengths = saved["by_length"].values()
    assert sum(part["seen"] for part in lengths) == saved["seen"] == session.total.seen > 0
    assert sum(part["seconds_saved"] for part in lengths) == pytest.approx(saved["total_s"], abs=1e-5)
    assert (found["n"], found["pass_at_1"]["estimate"], found["by_tier"]) == (0, None, {})
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_two_models_are_compared_file_by_file(evaluated: Callable[..., str], oracle: Oracle, tmp_path: Path) -> None:
    worse, better = str(oracle(0.9)), str(oracle(0.0))
    picture = tmp_path / "compared.png"
    found: dict[str, Any] = json.loads(evaluated("--compare", worse, better, "--json", "--picture", str(picture)))
    saved = found["seconds_saved"]
    assert saved["n"] == 2
    assert saved["difference"]["estimate"] == pytest.approx(sum(part["b"] - part["a"] for part in saved["files"]) / 2)
    assert saved["difference"]["low"] > 0
    assert saved["cohens_d"] > 0
    assert (found["n"], found["a"]["name"], found["mcnemar_p"]) == (0, worse, None)
    assert picture.read_bytes().startswith(b"\x89PNG")
    table = evaluated("--compare", worse, better)
    assert "mean of the files" in table
    assert "B saves more time" in table
