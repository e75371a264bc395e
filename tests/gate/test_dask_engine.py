"""The Dask engine on a local cluster of two processes, against one machine."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coderl_gate import dask_engine, metrics, partitions
from coderl_gate.artifact import load
from coderl_gate.calibrate import score
from coderl_gate.cli import main
from coderl_gate.dataset import Dataset, Selection, build, columns_of
from coderl_gate.errors import DataError
from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import World, knowing

pytest.importorskip("distributed")

SAME_P, SAME_AUC, SAME_LOSS = 0.02, 0.005, 0.002
"""What "the same result as one machine" means: mean |Δp|, ΔAUC, Δ log loss in nats. Bins are found by sampling each worker's
rows, so the trees are not the very same."""
USERS, PER_USER = 24, 250


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> partitions.Export:
    requests = list(World(users=USERS, requests_per_user=PER_USER).requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW)))
    batches = [columns_of(requests[first : first + 500]) for first in range(0, len(requests), 500)]
    return partitions.write(batches, tmp_path_factory.mktemp("export") / "log", {"origins": ["editor"]}, 1_500)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with dask_engine.cluster(None, 2) as opened:
        yield opened


def other_people() -> Dataset:
    """Programmers nobody was fitted on."""
    return build(World(users=8, requests_per_user=200, seed=99).requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW)))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gate_calibrate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gate-calibrate", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


@pytest.mark.slow
def test_two_processes_fit_the_gate_that_one_machine_fits(
    export: partitions.Export, client: Any, own_home: Path, tmp_path: Path, gate_calibrate: Run
) -> None:
    folder, address = str(export.folder), client.scheduler.address
    assert address.startswith("tcp://127.0.0.1:")
    found = {}
    for engine, more in (("local", ()), ("dask", ("--engine", "dask", "--scheduler", address))):
        code, out, err = gate_calibrate("--from-export", folder, "--json", "--out", str(tmp_path / engine), *more)
        assert code == 0, err
        found[engine] = json.loads(out)
    assert found["local"]["decisions"] == found["dask"]["decisions"] == USERS * PER_USER
    about = found["dask"]["provenance"]
    assert (about["engine"], about["partitions"], about["rows_exported"]) == ("dask", 4, USERS * PER_USER)
    people = other_people()
    one, many = (load(tmp_path / engine / "artifact") for engine in ("local", "dask"))
    assert one.stage2.trees is not None
    assert many.stage2.trees is not None
    assert one.stage2.trees.text != many.stage2.trees.text
    for alone, spread in zip(score(one, people), score(many, people), strict=True):
        assert np.abs(alone - spread).mean() < SAME_P
        kept = people.kept.tolist()
        areas = [metrics.auc(kept, p.tolist()) or math.nan for p in (alone, spread)]
        losses = [metrics.log_loss(kept, p.tolist()) for p in (alone, spread)]
        assert areas[1] > areas[0] - SAME_AUC
        assert losses[1] < losses[0] + SAME_LOSS
    assert all(agreement["mean_difference"] < SAME_P for agreement in about["agreement"].values())


def test_drawn_programmers_come_whole_and_everything_is_counted(export: partitions.Export, client: Any) -> None:
    part = dask_engine.draw(client, export, Selection(), rows=600)
    users, counts = np.unique(part.users, return_counts=True)
    assert len(users) == 3
    assert set(counts.tolist()) == {PER_USER}
    again = dask_engine.draw(client, export, Selection(), rows=600)
    assert again.data_hash == part.data_hash
    whole = dask_engine.draw(client, export, Selection())
    assert len(whole) == USERS * PER_USER
    assert whole.skipped == {}


def test_nothing_to_draw_from_is_one_sentence(client: Any, tmp_path: Path) -> None:
    empty = partitions.write([columns_of([])], tmp_path / "out", {})
    with pytest.raises(DataError, match="The log is empty"):
        dask_engine.draw(client, empty, Selection())


def test_columns_are_put_together_by_name() -> None:
    people, artifact = other_people(), knowing()
    names = ("p1", "logprob_mean", "line_trimmed_chars")
    made = dask_engine.columns_for(names, people.before, people.after, artifact.stage1)
    p1, _ = score(artifact, people)
    np.testing.assert_array_equal(made[:, 0], p1)
    assert made.shape == (len(people), 3)
    assert np.corrcoef(made[:, 1], people.kept)[0, 1] > 0.2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--engine", "dask"), "--engine dask needs --from-export DIR"),
        (("--engine", "spark"), "--engine must be local or dask, not spark"),
        (("--from-export", "."), "holds no export"),
    ],
)
def test_wrong_input_is_one_sentence(
    arguments: tuple[str, ...],
    sentence: str,
    own_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gate_calibrate: Run,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = gate_calibrate(*arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:port"])
def test_a_scheduler_that_is_not_there_is_one_sentence(
    address: str, export: partitions.Export, own_home: Path, monkeypatch: pytest.MonkeyPatch, gate_calibrate: Run
) -> None:
    monkeypatch.setattr(dask_engine, "CONNECT_S", 0.5)
    code, _, err = gate_calibrate("--from-export", str(export.folder), "--engine", "dask", "--scheduler", address)
    assert code == 2
    assert f"The Dask scheduler {address} cannot be reached" in err
    assert "Traceback" not in err


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DataError, match=r"pip install 'coderl\[scale\]'"), dask_engine.cluster(None, 1):
        pass


def test_agreement_is_plain_data() -> None:
    assert json.dumps(asdict(dask_engine.Agreement(0.1, 0.5, 0.5)))
