"""`RepairTraining` with a real proxy, real jails and a real agent over the toy model: what is learned from, and from whom."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from coderl_generator.vllm_client import VllmClient
from coderl_trainer.engine import LossSettings
from coderl_trainer.errors import RecipeError, TooManyUngraded
from coderl_trainer.judge import Judge
from coderl_trainer.progress import Progress
from coderl_trainer.recipe import GrpoRecipe, Recipe, RolloutsRecipe, recipe_of, with_changes
from coderl_trainer.repair.agent_jail import AgentJail
from coderl_trainer.repair.agents import Agent
from coderl_trainer.repair.episodes import Workshop
from coderl_trainer.repair.grading import RepairGrader
from coderl_trainer.repair.groups import grouped
from coderl_trainer.repair.proxy import Proxy
from coderl_trainer.repair.recipe import RepairRecipe
from coderl_trainer.repair.training import RepairParts, RepairTraining
from coderl_trainer.run_reading import changed_files, read_run
from coderl_trainer.runs import RunFolder
from coderl_trainer.served_engine import ServedEngine, ServedOptions
from coderl_trainer.types import Datum

from ..toy_engine import ToyEngine
from ..vllm_double import VllmDouble
from .broken_repositories import AGENT, REPAIRS, area_task, program
from .chat_toy import chat_server
from .conftest import LIMITS

COMMAND = f"{{python}} {AGENT} {{task}} {{base_url}} {{model}}"


class LearningToy(ToyEngine):
    """Says of a call what a loop asks for."""

    def forward_backward(self, data_D: Sequence[Datum], settings: LossSettings) -> Mapping[str, float]:
        return {**super().forward_backward(data_D, settings), "clip_share": 0.0, "entropy": 1.0, "tokens": 1.0}


@pytest.fixture
def server() -> Iterator[VllmDouble]:
    with chat_server() as double:
        yield double


def recipe_for(server: VllmDouble, **repair: object) -> Recipe:
    return Recipe(
        name="repairs",
        grpo=GrpoRecipe(steps=2, groups=2, samples=4, evaluate_every=1, learning_rate=1e-2, mask_truncated=False),
        rollouts=RolloutsRecipe(server=server.address),
        repair=RepairRecipe(**{"agent": COMMAND, "turn_tokens": 6, **repair}),  # type: ignore[arg-type]  # by name
        checkpoint_every=1,
    )


@contextlib.contextmanager
def training_of(
    recipe: Recipe, server: VllmDouble, judge: Judge, runs: Path, parts: RepairParts
) -> Iterator[tuple[RepairTraining, LearningToy]]:
    toy = LearningToy()
    repair = recipe.repair or RepairRecipe()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(contextlib.closing(VllmClient(server.address, tries=1)))
        proxy = stack.enter_context(Proxy(server.address))
        jail = AgentJail(LIMITS, reads=[AGENT.parent])
        workshop = stack.enter_context(Workshop(RepairGrader(judge), jail, proxy, repair.rewards))
        run = stack.enter_context(RunFolder.create(runs, recipe.name, recipe))
        options = ServedOptions(run.path.name, run.path / "adapters", truncate_at=0.0)
        engine = stack.enter_context(contextlib.closing(ServedEngine(toy, client, options)))
        yield RepairTraining(recipe, parts, engine, workshop, run), toy


@pytest.mark.slow
def test_a_run_learns_from_whole_trajectories(server: VllmDouble, judge: Judge, tmp_path: Path) -> None:
    recipe = recipe_for(server)
    parts = RepairParts((area_task("a"), area_task("b")), (area_task("c"),), (area_task("d"), area_task("e")))
    with training_of(recipe, server, judge, tmp_path, parts) as (training, toy), Progress(training.steps) as progress:
        results = training.train(progress)
        training.run.finish(results=results, best=results["best"])
    folder = training.run.path
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    learned = [row for row in rows if "rollouts/logprob_gap_mean" in row]
    assert learned, "no group had both repairs and failures: choose another seed"
    for row in learned:
        assert row["rollouts/logprob_gap_max"] < 1e-9  # the rows' log-probs are those that the server drew by
        assert row["agent/turns"] == 2.0
        assert row["agent/conversations"] == 1.0
        assert row["ungraded"] == 0.0
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 16
    for sample in samples:
        assert (sample["reward"] > 0) == ("+    return width * height" in sample["text"])
    for data in toy.learned:
        for datum in data:
            assert 0 < sum(datum.mask) < len(datum.mask)
            assert {advantage for advantage, counts in zip(datum.advantages, datum.mask, strict=True) if not counts} == {0.0}
            assert len({advantage for advantage, counts in zip(datum.advantages, datum.mask, strict=True) if counts}) == 1
    models = [body["model"] for body in server.asked("/v1/chat/completions")]
    assert models[0] == "served"
    assert models[-1].startswith(f"coderl-{folder.name}@v")  # the last held-out runs are by the trained weights
    assert results["heldout"]["n"] == 2
    assert results["best"]["step"] in (0, 1, 2)
    assert changed_files(read_run(folder)) == []
    assert not server.adapters


@pytest.mark.slow
def test_a_run_goes_on_after_its_checkpoint(server: VllmDouble, judge: Judge, tmp_path: Path) -> None:
    recipe = recipe_for(server)
    one = replace(recipe, grpo=replace(recipe.grpo, steps=1))
    parts = RepairParts((area_task("a"), area_task("b")))
    with training_of(one, server, judge, tmp_path / "one", parts) as (training, _), Progress(1) as progress:
        training.train(progress)
        checkpoint = training.run.path / "checkpoints" / "000001"
        with training_of(recipe, server, judge, tmp_path / "two", parts) as (again, toy), Progress(2) as more:
            again.go_on(checkpoint)
            again.train(more)
    steps = [json.loads(line)["step"] for line in (again.run.path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2]
    assert toy.version >= 1


def test_a_broken_harness_stops_the_run(server: VllmDouble, judge: Judge, tmp_path: Path) -> None:
    recipe = recipe_for(server)
    server.gives_ids = False
    parts = RepairParts((area_task("a"),))
    with (
        training_of(recipe, server, judge, tmp_path, parts) as (training, toy),
        Progress(training.steps) as progress,
        pytest.raises(TooManyUngraded, match=r"4 of 4 runs.*return_token_ids"),
    ):
        training.train(progress)
    assert toy.learned == []


def test_groups_that_only_the_tie_breaker_tells_apart_teach_nothing(judge: Judge) -> None:
    other = "pathlib.Path('area.py').write_text(RIGHT.replace('width * height', 'sum(width for _ in range(height))'))"
    with Proxy("http://127.0.0.1:9", exact=False) as proxy, Workshop(RepairGrader(judge), AgentJail(LIMITS), proxy) as workshop:
        episodes = [workshop.one(area_task(), agent, "") for agent in (REPAIRS, program(other), program("pass"))]
    rewards = [one.reward for one in episodes]
    assert rewards[0] == 1.05
    assert 1.0 < (rewards[1] or 0) < 1.05
    assert rewards[2] == 0.0
    grpo = GrpoRecipe()
    assert not grouped(area_task(), episodes[:2], grpo, workshop.rewards).taught
    assert grouped(area_task(), episodes, grpo, workshop.rewards).taught


def test_recipes_say_what_is_missing(server: VllmDouble, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"rollouts\.server"):
        Recipe(repair=RepairRecipe())
    with pytest.raises(RecipeError, match=r"repair: .*\{task\}"):
        RepairRecipe(agent="run")
    with pytest.raises(RecipeError, match=r"repair\.parallel"):
        RepairRecipe(parallel=0)
    recipe = with_changes(recipe_for(server), ["repair.max_steps=3", "repair.fractional=true", "repair.scaffold=full"])
    assert recipe.repair is not None
    assert (recipe.repair.max_steps, recipe.repair.fractional, recipe.repair.agent_of().scaffold) == (3, True, "full")
    with RunFolder.create(tmp_path, "x", recipe) as run:
        assert recipe_of(run.config) == recipe
    assert Agent(recipe.repair.agent).asks
