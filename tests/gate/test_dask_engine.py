"""The Dask engine on a local cluster of two processes, against one machine."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coderl_gate import dask_engine, metrics, partitions
from coderl_gate.artifact import GateArtifact, StageModel, load
from coderl_gate.calibrate import score
from coderl_gate.catalogue import CONTEXT_FEATURES, P1, SUGGESTION_FEATURES
from coderl_gate.cli import main
from coderl_gate.costs import CostParameters
from coderl_gate.dataset import Dataset, Selection, build, collect, columns_of
from coderl_gate.errors import DataError
from coderl_gate.fitting import MODELS
from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import World, knowing

pytest.importorskip("distributed")

SAME_P, SAME_AUC, SAME_LOSS = 0.03, 0.005, 0.003
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
    return build(World(users=40, requests_per_user=250, seed=99).requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW)))


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


def one_machine(dataset: Dataset, linear: bool = False) -> GateArtifact:
    """A gate of trees (or, at stage 1, a line), the second reading the first's estimate, fitted in this process."""
    features1, features2 = CONTEXT_FEATURES, (*CONTEXT_FEATURES, *SUGGESTION_FEATURES, P1)
    kind = "logistic" if linear else "trees"
    first = MODELS[kind](features1).fit(dataset.before, dataset.kept, dataset.weight)
    x = np.column_stack([dataset.before, dataset.after, first.predict_proba(dataset.before)[:, 1]])
    second = MODELS["blend" if linear else "trees"](features2).fit(x, dataset.kept, dataset.weight)
    stages = [
        StageModel(model.export([feature.name for feature in features]))
        for model, features in ((first, features1), (second, features2))
    ]
    return GateArtifact(*stages, 0.5, CostParameters(), dataset.data_hash, "2026-11-20T00:00:00+00:00")


@pytest.mark.slow
@pytest.mark.parametrize("linear", [False, True])
def test_two_processes_fit_the_gate_that_one_machine_fits(
    export: partitions.Export, client: Any, linear: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert client.scheduler.address.startswith("tcp://127.0.0.1:")
    everything = collect(partitions.read(export.paths))
    one = one_machine(everything, linear)
    many, agreements = dask_engine.refit(client, export, Selection(), one, everything)
    assert capfd.readouterr().out == ""
    assert set(agreements) == ({"stage2"} if linear else {"stage1", "stage2"})
    assert (many.provenance["engine"], many.provenance["rows_exported"]) == ("dask", USERS * PER_USER)
    assert many.id != one.id
    assert many.stage2.linear == one.stage2.linear
    assert one.stage2.trees is not None
    assert many.stage2.trees is not None
    assert one.stage2.trees.text != many.stage2.trees.text
    people = other_people()
    kept = people.kept.tolist()
    for alone, spread in zip(score(one, people), score(many, people), strict=True):
        assert np.abs(alone - spread).mean() < SAME_P
        areas = [metrics.auc(kept, p.tolist()) or math.nan for p in (alone, spread)]
        losses = [metrics.log_loss(kept, p.tolist()) for p in (alone, spread)]
        assert areas[1] > areas[0] - SAME_AUC
        assert losses[1] < losses[0] + SAME_LOSS
    assert all(agreement.mean_difference < SAME_P for agreement in agreements.values())


def test_the_command_fits_on_a_cluster_of_its_own(own_home: Path, tmp_path: Path, gate_calibrate: Run) -> None:
    requests = list(World(users=6, requests_per_user=30).requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW)))
    partitions.write([columns_of(requests[:90]), columns_of(requests[90:])], tmp_path / "log", {}, 90)
    arguments = ("--from-export", str(tmp_path / "log"), "--engine", "dask", "--workers", "2", "--json")
    code, out, err = gate_calibrate(*arguments, "--out", str(tmp_path / "out"))
    assert code == 0, err
    found = json.loads(out)
    assert found["decisions"] == 180
    about = found["provenance"]
    assert (about["engine"], about["partitions"], about["rows_exported"], about["source"]) == ("dask", 2, 180, "export")
    fitted = load(tmp_path / "out" / "artifact")
    assert (fitted.stage1.trees is not None) == ("stage1" in about["agreement"])
    assert (fitted.stage2.trees is not None) == ("stage2" in about["agreement"])
    assert any("no trees to fit" in warning for warning in found["warnings"]) == (not about["agreement"])


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
        (("--from-export", ".", "--since", "2026-01-01"), "--since and --until take a part of the database"),
        (("--from-cups", ".", "--engine", "dask"), "--from-cups goes without"),
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


def test_a_scheduler_that_runs_elsewhere_is_used_and_left_running() -> None:
    with dask_engine.cluster(None, 1) as owner:
        with dask_engine.cluster(owner.scheduler.address, 1) as guest:
            assert guest.submit(sum, (1, 2)).result(60) == 3
        assert owner.submit(sum, (3, 4)).result(60) == 7


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
