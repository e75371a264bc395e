"""The gate as the server runs it: two estimates, light imports, promotion and rollback."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

import coderl_gate
from coderl_gate import Gate, LogprobSummary, OnlineQuantiles, QuantileTable
from coderl_gate.artifact import GateArtifact, StageModel, default_artifact, save
from coderl_gate.catalogue import CONTEXT_NAMES, SUGGESTION_NAMES
from coderl_gate.costs import CostParameters
from coderl_gate.errors import ArtifactError, GateError
from coderl_gate.gate import active_artifact, promote, rollback
from coderl_gate.scorer import LinearScorer
from coderl_gate.tendency import NOBODY
from coderl_store.records import Context, Trigger

CONTEXT = Context(
    id="c",
    at=datetime(2026, 11, 20, tzinfo=UTC),
    session_id="s",
    language="python",
    document_key="d",
    line=1,
    character=11,
    trigger=Trigger.AUTOMATIC,
    prefix="def f(x):\n    return ",
    suffix="\n",
)
REFERENCE = QuantileTable.of("g", {"mean": [-place / 10 for place in range(100)]})
GOOD, BAD = LogprobSummary.of([-0.01, -0.02]), LogprobSummary.of([-8.0, -9.0])


def linear(**weights: float) -> StageModel:
    """A model of a few features, each weighing as told; a missing one is read as 0."""
    names = tuple(weights)
    return StageModel(
        LinearScorer(names, tuple(weights.values()), (0.0,) * len(names), (1.0,) * len(names), (0.0,) * len(names), -1.0)
    )


def artifact(h_bits: float = 0.5) -> GateArtifact:
    return GateArtifact(
        stage1=linear(word_is_value=2.0, line_blank=-1.0),
        stage2=linear(p1=1.0, logprob_mean=3.0, s_chars=-0.1),
        h_bits=h_bits,
        costs=CostParameters(),
        data_hash="x",
        created_at="2026-11-20T00:00:00Z",
    )


def gate(reference: QuantileTable | None = REFERENCE) -> Gate:
    return Gate(artifact(), "g", OnlineQuantiles("g", random.Random(0), reference))


def test_both_estimates_and_the_features_they_came_from() -> None:
    made = gate()
    p1, before = made.before(CONTEXT)
    assert before.keys() == set(CONTEXT_NAMES)
    assert before["word_is_value"] == 1.0
    assert p1 == pytest.approx(0.7310585786)  # σ(−1 + 2)
    p2, after = made.after(CONTEXT, before, "x", GOOD)
    assert after.keys() == set(SUGGESTION_NAMES)
    assert p2 == made.artifact.stage2.probability({**before, **after, "p1": p1})
    p2_bad, _ = made.after(CONTEXT, before, "x", BAD)
    assert p2_bad < p2


def test_costs_are_the_programmers_own_where_they_are_known() -> None:
    known = replace(artifact(), personal={"ada": {"typing_chars_per_s": 8.0}})
    made = Gate(known, "g", OnlineQuantiles("g", random.Random(0), REFERENCE))
    assert made.costs("ada") == CostParameters(typing_chars_per_s=8.0)
    assert made.costs("bob") == CostParameters()


def test_stage_2_sees_stage_1() -> None:
    made = gate()
    _, before = made.before(CONTEXT)
    unlikely = {**before, "word_is_value": 0.0}
    assert made.artifact.stage1.probability(unlikely) < made.artifact.stage1.probability(before)
    assert made.after(CONTEXT, unlikely, "x", GOOD)[0] < made.after(CONTEXT, before, "x", GOOD)[0]


def test_a_programmers_tendency_moves_both_estimates_and_is_learned() -> None:
    base = replace(artifact(), tendency_prior=8.0)
    made = Gate(base, "g", OnlineQuantiles("g", random.Random(0), REFERENCE))
    p1, before = made.before(CONTEXT)
    p2, _ = made.after(CONTEXT, before, "x", GOOD)
    for _ in range(5):
        made.judged(p2, kept=False)
    assert made.tendency.shift < 0
    assert made.before(CONTEXT)[0] == made.tendency.applied(p1) < p1
    assert made.after(CONTEXT, before, "x", GOOD)[0] == made.tendency.applied(p2) < p2


def test_where_programmers_do_not_differ_nothing_is_learned() -> None:
    made = gate()
    made.judged(0.9, kept=False)
    assert made.tendency == NOBODY


def test_a_suggestion_is_ranked_before_it_enters_the_distribution() -> None:
    made = gate(reference=None)
    _, before = made.before(CONTEXT)
    ranks = [made.after(CONTEXT, before, "x", GOOD)[1]["logprob_mean"] for _ in range(31)]
    assert ranks[:30] == [None] * 30
    assert ranks[30] is not None
    assert made.quantiles.seen == 31
    made.after(CONTEXT, before, "x", None)
    assert made.quantiles.seen == 31
    assert made.after(CONTEXT, before, "x", GOOD, anew=False)[1]["logprob_mean"] is not None
    assert made.quantiles.seen == 31  # served again, or still being written


def test_mistakes_are_gate_errors() -> None:
    with pytest.raises(ArtifactError, match="do not belong"):
        Gate(artifact(), "g", OnlineQuantiles("other", random.Random(0)))
    made = gate()
    other = replace(made.artifact, stage2=linear(line_blank=1.0))
    with pytest.raises(GateError, match="not computed"):
        Gate(other, "g", made.quantiles).after(CONTEXT, {}, "x", None)


def test_the_runtime_imports_nothing_heavy() -> None:
    heavy = ("numpy", "scipy", "sklearn", "lightgbm", "pandas", "matplotlib", "torch", "transformers", "sqlalchemy", "pydantic")
    code = (
        "import sys, coderl_gate, coderl_gate.gate, coderl_gate.metrics, coderl_gate.policy\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists_once() -> None:
    assert len(set(coderl_gate.__all__)) == len(coderl_gate.__all__)
    for name in coderl_gate.__all__:
        value = getattr(coderl_gate, name)
        assert isinstance(value, int) or value.__module__.startswith("coderl_gate.")


# -- which artifact is active -------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    save(artifact(0.1), tmp_path / "one")
    save(artifact(0.2), tmp_path / "two")
    return tmp_path / "one", tmp_path / "two"


def active_or_default(home: Path) -> str:
    """Id of the active artifact, or the reason why even the default is not there."""
    try:
        return active_artifact(home).id
    except ArtifactError as error:
        return str(error)


def default_id() -> str:
    try:
        return default_artifact().id
    except ArtifactError as error:
        return str(error)


def test_promote_and_roll_back(tmp_path: Path, two: tuple[Path, Path]) -> None:
    home = tmp_path / "home"
    assert active_or_default(home) == default_id()
    first, second = promote(home, two[0]), promote(home, two[1])
    assert active_artifact(home).id == second.id
    assert promote(home, two[1]).id == second.id  # twice is once
    shutil.rmtree(two[0])
    assert rollback(home).id == first.id  # the copy in the home is what counts
    assert active_artifact(home).h_bits == 0.1
    assert not [path for path in (home / "gate").iterdir() if path.name.startswith(".")]


def test_the_last_way_back_is_the_shipped_default(tmp_path: Path, two: tuple[Path, Path]) -> None:
    home = tmp_path / "home"
    first = promote(home, two[0])
    if default_id().startswith("gate-"):
        assert rollback(home).id == default_id()
        with pytest.raises(ArtifactError, match="nothing to go back to"):
            rollback(home)
    else:  # an installation without a default keeps what works
        with pytest.raises(ArtifactError, match="no default gate"):
            rollback(home)
        assert active_artifact(home).id == first.id


def test_a_damaged_artifact_is_never_promoted(tmp_path: Path, two: tuple[Path, Path]) -> None:
    home = tmp_path / "home"
    first = promote(home, two[0])
    (two[1] / "artifact.json").write_text("{}")
    with pytest.raises(ArtifactError):
        promote(home, two[1])
    assert active_artifact(home).id == first.id


def test_a_damaged_active_artifact_is_an_error_not_a_silent_default(tmp_path: Path, two: tuple[Path, Path]) -> None:
    home = tmp_path / "home"
    first, second = promote(home, two[0]), promote(home, two[1])
    (home / "gate" / "artifacts" / first.id / "artifact.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"delete \S+/gate/active to use the shipped gate\.$"):
        rollback(home)
    assert active_artifact(home).id == second.id  # a rollback that failed changed nothing
    with pytest.raises(ArtifactError):
        promote(home, two[0])  # the copy in the home is damaged
    shutil.rmtree(home / "gate" / "artifacts" / second.id)
    with pytest.raises(ArtifactError, match=r"no gate artifact.*; `gate-calibrate --rollback` goes back.*\.$"):
        active_artifact(home)


@pytest.mark.parametrize("text", ["../../etc", "a/b", ".hidden", "a\\b"])
def test_the_active_file_names_artifacts_only(tmp_path: Path, text: str) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "active").write_text(text)
    with pytest.raises(ArtifactError, match="does not hold names"):
        active_artifact(tmp_path)


def test_an_unreadable_active_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "gate" / "active").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="cannot be read"):
        active_artifact(tmp_path)


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path, two: tuple[Path, Path]) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(ArtifactError, match="cannot be"):
        promote(tmp_path / "home", two[0])
