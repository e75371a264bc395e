"""Which engine a recipe gets, and how the command line names it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from coderl_server.engines import engine_of
from coderl_server.training import TrainOptions, resolved
from coderl_trainer.engine import EngineName
from coderl_trainer.errors import EngineRefused, RecipeError
from coderl_trainer.processes import Alone
from coderl_trainer.recipe import Recipe


def test_the_command_line_names_the_engine_over_the_recipe() -> None:
    assert resolved(TrainOptions()).engine is EngineName.LOCAL
    assert resolved(TrainOptions(engine="tinker")).engine is EngineName.TINKER
    assert resolved(TrainOptions(changes=("engine=tinker",))).engine is EngineName.TINKER


def test_an_engine_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(RecipeError, match="engine must be one of local, tinker, trl, not 'remote'"):
        resolved(TrainOptions(engine="remote"))


def test_a_hosted_engine_refuses_several_processes() -> None:
    several = Alone()
    several.count = 2
    with pytest.raises(EngineRefused, match="runs in one process"):
        engine_of(resolved(TrainOptions(engine="tinker")), several)


def test_the_hosted_engine_needs_a_model_that_the_service_has() -> None:
    with pytest.raises(EngineRefused, match="--model"):
        engine_of(Recipe(engine=EngineName.TINKER), Alone())


@pytest.mark.skipif(find_spec("tinker") is not None, reason="the extra `tinker` is installed")
def test_an_engine_without_its_library_says_what_to_install() -> None:
    with pytest.raises(EngineRefused, match=r"coderl\[tinker\]"):
        engine_of(Recipe(engine=EngineName.TINKER, model="some/model"), Alone())
