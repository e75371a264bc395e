"""Recipes: what a file may say, and what is said of what it may not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.engine import Loss
from coderl_trainer.errors import RecipeError
from coderl_trainer.recipe import GrpoRecipe, LogSource, Recipe, read_recipe, recipe_of, shipped_recipes, with_changes
from coderl_trainer.run_files import canonical


def test_a_file_fills_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(
        'name = "mine"\ntasks = ["a.jsonl", "shipped"]\n[grpo]\nsteps = 5\nloss = "gspo"\n[rewards.weights]\nfractional = 1\n',
        encoding="utf-8",
    )
    recipe = read_recipe(tmp_path / "r.toml")
    assert recipe.tasks == (str(tmp_path / "a.jsonl"), "shipped")
    assert (recipe.grpo.steps, recipe.grpo.loss, recipe.grpo.samples) == (5, Loss.GSPO, GrpoRecipe().samples)
    assert dict(recipe.rewards.weights) == {"fractional": 1.0}
    assert recipe.seed == 0


def test_what_a_run_keeps_is_the_recipe_again() -> None:
    recipe = with_changes(Recipe(), ["grpo.steps=7", "device=cuda", "threads=2", "rewards.weights.format=0.1"])
    assert recipe_of(json.loads(canonical(recipe))) == recipe


def test_a_run_from_the_log_keeps_which_log_it_was() -> None:
    recipe = replace(Recipe(), log=LogSource("sqlite:////data/coderl.db", ("editor", "simulated"), "gate"))
    assert recipe_of(json.loads(canonical(recipe))) == recipe
    assert recipe_of(json.loads(canonical(Recipe()))).log is None
    assert recipe_of({"log": {}}).log == LogSource()


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"nane": "x"}, "nane is not known; known are name"),
        ({"grpo": {"step": 1}}, "grpo.step is not known"),
        ({"grpo": {"loss": "ppq"}}, "grpo.loss must be one of"),
        ({"grpo": {"steps": "5"}}, "grpo.steps must be a whole number"),
        ({"grpo": {"steps": 1.5}}, "whole number"),
        ({"grpo": {"samples": 1}}, "2 or more"),
        ({"engine": "remote"}, "engine must be one of local, tinker"),
        ({"grpo": 3}, "grpo cannot be 3"),
        ({"tasks": []}, "at least one"),
        ({"rollouts": {"server": "http://h:8000"}, "lora_rank": 0}, "needs the engine `local` and an adapter"),
        ({"rollouts": {"server": "http://h:8000"}, "engine": "tinker"}, "needs the engine `local` and an adapter"),
        ({"rollouts": {"server": "http://h:8000"}, "grpo": {"temperature": 0.8}}, "to be 1"),
        ({"rollouts": {"server": "http://h:8000"}, "grpo": {"top_p": 0.9}}, "to be 1"),
        ({"rollouts": {"server": "http://h:8000", "timeout_s": 0}}, "too small"),
        ({"rollouts": {"server": "http://h:8000", "truncate_at": 0.5}}, "1 or more, or 0"),
        ({"tasks": "file"}, "list of texts"),
        ({"rewards": {"weights": {"binary": True}}}, "rewards.weights.binary must be a number"),
        ({"sft": {"epochs": -1}}, "sft.epochs: too small"),
        ({"logged": {"most_rows": 0}}, "logged.most_rows: too small"),
        ({"log": {"origins": ["editor", "other"]}}, "log.origins must name some of editor, .*, not other"),
        ({"log": {"origins": []}}, "not nothing"),
        ({"template_before": "plain", "log": {}}, "template_before goes with"),
        ({"sft": {"gaps": -1}}, "sft.gaps: too small"),
    ],
)
def test_what_cannot_be_is_named(told: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe_of(told)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("steps", "write key=value"),
        ("=3", "write key=value"),
        ("grpo.stepz=3", "grpo.stepz is not known; known are steps"),
        ("name.x=3", "name.x is not known"),
        ("log.gate=x", "log.gate is not known"),
        ("absent.x=3", "absent.x is not known"),
        ("grpo.steps=many", "grpo.steps must be a whole number"),
    ],
)
def test_a_change_that_cannot_be_is_named(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        with_changes(Recipe(), [change])


@given(st.permutations(["rollouts.server=http://h:8000", "lora_rank=8", "grpo.temperature=1", "grpo.top_p=1", "engine=local"]))
def test_the_order_of_changes_says_nothing(changes: list[str]) -> None:
    before = with_changes(Recipe(), ["lora_rank=0", "engine=tinker", "grpo.temperature=0.8", "grpo.top_p=0.9"])
    after = with_changes(before, changes)
    assert (after.rollouts.server, after.lora_rank, after.grpo.temperature) == ("http://h:8000", 8, 1.0)
    for one in changes:
        if one.startswith("rollouts"):
            with pytest.raises(RecipeError, match="needs the engine"):
                with_changes(before, [one])


def test_of_two_changes_of_one_key_the_last_stays() -> None:
    assert with_changes(Recipe(), ["grpo.steps=3", "grpo.steps=4"]).grpo.steps == 4


def test_shipped_recipes_go_by_name() -> None:
    for name, path in shipped_recipes().items():
        assert read_recipe(Path(name)) == read_recipe(path)
    assert "small" in shipped_recipes()
    with pytest.raises(RecipeError, match="one of demo, small"):
        read_recipe(Path("smalll"))


def test_a_file_that_is_none_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("steps = = 3", encoding="utf-8")
    for name in ("bad.toml", "absent.toml"):
        with pytest.raises(RecipeError, match=name):
            read_recipe(tmp_path / name)
