from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coderl_trainer.errors import RewardError
from coderl_trainer.reward_parts import SYNTAX
from coderl_trainer.rewards import Attempt, RewardConfig, Rewards
from coderl_trainer.ruff_linter import RuffLinter
from coderl_trainer.types import Task, TaskKind

GOOD = "def add(a, b):\n    return a + b\n"


@pytest.fixture(scope="module")
def linter() -> RuffLinter:
    try:
        return RuffLinter()
    except RewardError:
        pytest.skip("ruff is not installed")


def test_findings_are_counted_by_program(linter: RuffLinter) -> None:
    programs = [GOOD, "import os\nx = undefined + undefined\n", "def f(:\n", GOOD]
    found = linter.findings(programs)
    assert found[0] == found[3] == {}
    assert found[1] == {"F401": 1, "F821": 2}
    assert found[2][SYNTAX] >= 1
    assert linter.findings([]) == []


def test_a_program_cannot_silence_the_linter(linter: RuffLinter, tmp_path: Path) -> None:
    silenced = "# ruff: noqa\n# flake8: noqa\nimport os  # noqa: F401\n"
    assert linter.findings([silenced]) == [{"F401": 1}]


def test_odd_texts_are_no_trouble(linter: RuffLinter) -> None:
    odd = ["", "x = '\ud800'\n", "x = 1\r\ny = 2\r", "\0", "# -*- coding: latin-1 -*-\nx = 'é'\n", "(" * 3000]
    assert len(linter.findings(odd)) == len(odd)


def test_what_was_there_before_is_not_the_answer_s(linter: RuffLinter) -> None:
    task = Task("t", TaskKind.INFILL, "import os\n\ndef f(x):\n    ", suffix="\n", reference="return x")
    rewards = Rewards(RewardConfig({"quality": 1.0}), linter=linter)
    texts = ["return x + 1", "return x + undefined", "y = x", "return ("]
    assert [one.total for one in rewards.group(task, [Attempt(text) for text in texts])] == [1, 0.75, 0.75, 0]


def test_a_linter_that_is_missing_or_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="does not do its work"):
        RuffLinter(tmp_path / "ruff").findings([GOOD])
    with pytest.raises(RewardError, match="status 1"):
        RuffLinter(Path(shutil.which("false") or "false")).findings([GOOD])


def test_a_linter_that_hangs_is_ended(tmp_path: Path) -> None:
    slow = tmp_path / "ruff"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(RewardError, match=r"did not answer within 0\.2 s on 1 programs"):
        RuffLinter(slow, timeout_s=0.2).findings([GOOD])
