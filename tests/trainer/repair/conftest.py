"""What runs agents: skipped with a reason where there is no jail or no git."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from coderl_trainer.errors import JailMissing
from coderl_trainer.judge import Judge, open_judge
from coderl_trainer.repair.agent_jail import AgentJail, AgentLimits
from coderl_trainer.repair.episodes import Workshop
from coderl_trainer.repair.grading import RepairGrader
from coderl_trainer.repair.proxy import Proxy

LIMITS = AgentLimits(wall_s=60.0, folder_bytes=32 << 20)


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    try:
        judge = open_judge()
    except JailMissing as error:
        pytest.skip(str(error))
    with judge:
        yield judge


@pytest.fixture
def workshop(judge: Judge) -> Iterator[Workshop]:
    """For agents that ask no model."""
    with Proxy("http://127.0.0.1:9", exact=False) as proxy, Workshop(RepairGrader(judge), AgentJail(LIMITS), proxy) as workshop:
        yield workshop
