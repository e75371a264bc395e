"""Agents in their jail: what they leave is graded, what they may not is out of reach, and a broken harness is no zero."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coderl_trainer.errors import AgentUnusable
from coderl_trainer.judge import Judge
from coderl_trainer.repair.agent_jail import AgentJail, AgentLimits, AgentStatus
from coderl_trainer.repair.agents import Agent
from coderl_trainer.repair.chat_wire import Sampling
from coderl_trainer.repair.episodes import Episode, Workshop
from coderl_trainer.repair.git import start_history
from coderl_trainer.repair.grading import RepairGrader
from coderl_trainer.repair.proxy import Proxy
from coderl_trainer.repair.rewards import Finding
from coderl_trainer.repair.tasks import RepairTask
from coderl_trainer.repair.trajectories import merged
from coderl_trainer.verdicts import Ungraded

from ..vllm_double import VllmDouble
from .broken_repositories import AGENT, REPAIRS, WRONG, area_task, program
from .chat_toy import chat_server
from .conftest import LIMITS

TINY = Agent(f"{{python}} {AGENT} {{task}} {{base_url}} {{model}}", "mine")


@pytest.fixture
def server() -> Iterator[VllmDouble]:
    with chat_server() as double:
        yield double


def run(workshop: Workshop, agent: Agent, task: RepairTask | None = None) -> Episode:
    return workshop.one(task or area_task(), agent, "served")


def test_a_repair_is_rewarded(workshop: Workshop) -> None:
    episode = run(workshop, REPAIRS)
    assert (episode.solved, episode.partial, episode.reward) == (True, 1.0, 1.05)
    assert (episode.changed, episode.findings) == (("area.py",), ())
    assert "+    return width * height" in episode.diff


def test_a_repair_that_was_committed_counts(workshop: Workshop) -> None:
    code = "pathlib.Path('area.py').write_text(RIGHT); subprocess.run(['git', 'commit', '-qam', 'done'], check=True)"
    episode = run(workshop, program(code))
    assert (episode.solved, episode.findings) == (True, (Finding.COMMITTED,))


def test_a_repair_in_new_files_counts(workshop: Workshop) -> None:
    code = "pathlib.Path('area.py').write_text('from flat import area\\n'); pathlib.Path('flat.py').write_text(RIGHT)"
    episode = run(workshop, program(code))
    assert (episode.solved, episode.changed) == (True, ("area.py", "flat.py"))


def test_nothing_done_is_zero_and_known(workshop: Workshop) -> None:
    episode = run(workshop, program("pass"))
    assert (episode.solved, episode.reward, episode.diff) == (False, 0.0, "")


def test_a_repair_beside_edited_tests_is_forfeited(workshop: Workshop) -> None:
    code = "pathlib.Path('area.py').write_text(RIGHT); pathlib.Path('tests/test_area.py').write_text('')"
    episode = run(workshop, program(code))
    assert (episode.solved, episode.partial, episode.reward, episode.findings) == (False, 0.0, 0.0, (Finding.TESTS_CHANGED,))


def test_a_task_of_a_repository_by_path(workshop: Workshop, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "area.py").write_text(WRONG)
    start_history(clone, "broken")
    head = (clone / ".git" / "refs" / "heads" / "main").read_text().strip()
    task = area_task()
    values = {
        name: getattr(task, name) for name in ("id", "problem_statement", "patch", "module", "fail_to_pass", "pass_to_pass")
    }
    given = RepairTask(**values, repo=str(clone), base_commit=head)
    assert run(workshop, REPAIRS, given).solved is True
    missing = run(workshop, REPAIRS, RepairTask(**{**values, "id": "missing"}, repo=str(clone), base_commit="0" * 40))
    assert isinstance(missing.grade, Ungraded)
    assert (missing.solved, missing.reward) == (None, None)


def test_an_agent_sees_no_more_than_it_needs(workshop: Workshop, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    os.environ["CODERL_TEST_SECRET"] = "secret"
    try:
        code = (
            "import importlib.util, json, socket\n"
            f"places = ('/home', '/etc/passwd', '/srv', {str(Path.home())!r}, {str(secret)!r})\n"
            "found = importlib.util.find_spec('coderl_trainer')\n"
            "folders = list(found.submodule_search_locations) if found else []\n"
            "seen = dict(files=[p for p in places if os.path.exists(p)], environment=sorted(os.environ), user=os.getuid(),\n"
            "            network=socket.if_nameindex(), trainer=[p for p in folders if os.path.isdir(p) and os.listdir(p)])\n"
            "pathlib.Path('seen.json').write_text(json.dumps(seen))\n"
        )
        episode = run(workshop, program(code))
    finally:
        del os.environ["CODERL_TEST_SECRET"]
    (line,) = (line for line in episode.diff.splitlines() if line.startswith('+{"files"'))
    seen = json.loads(line[1:])
    assert str(secret) not in seen["files"]
    assert "CODERL_TEST_SECRET" not in seen["environment"]
    assert [name for _, name in seen["network"]] == ["lo"]
    assert seen["user"] == 65534
    assert not seen["trainer"]


def test_a_run_ends_at_its_limits(judge: Judge) -> None:
    with Proxy("http://127.0.0.1:9", exact=False) as proxy:
        jails = [AgentJail(limits) for limits in (AgentLimits(wall_s=2.0), AgentLimits(folder_bytes=4 << 20))]
        shops = [Workshop(RepairGrader(judge), jail, proxy) for jail in jails]
        with shops[0] as short, shops[1] as small:
            slow = run(short, program("import time; time.sleep(600)"))
            large = run(
                small, program("pathlib.Path('area.py').write_text(RIGHT); pathlib.Path('x').write_bytes(bytes(5 << 20))")
            )
    assert slow.ended is not None
    assert (slow.ended.status, slow.ended.returncode, slow.solved) == (AgentStatus.TIMED_OUT, None, False)
    assert (large.reward, Finding.TOO_LARGE in large.findings) == (0.0, True)


def test_an_agent_that_cannot_be_started_is_said(workshop: Workshop) -> None:
    with pytest.raises(AgentUnusable, match="'no-such-agent' is not to be found in its jail"):
        run(workshop, Agent("no-such-agent {task}"))


def test_an_agent_that_breaks_before_it_asks_is_ungraded(workshop: Workshop) -> None:
    episode = run(workshop, program("sys.exit('no such option: --colour')"))
    assert isinstance(episode.grade, Ungraded)
    assert "no such option: --colour" in episode.grade.reason
    assert (episode.solved, episode.reward) == (None, None)


def test_task_files_in_readable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentUnusable, match="can read"):
        AgentJail(reads=[tmp_path], hidden=[tmp_path / "repairs.jsonl"])


@pytest.mark.parametrize("stream", [False, True])
def test_the_turns_of_an_agent_are_one_conversation(judge: Judge, server: VllmDouble, stream: bool) -> None:
    agent = Agent(TINY.command + (" stream" if stream else ""), "mine")
    with Proxy(server.address) as proxy:
        jail = AgentJail(LIMITS, reads=[AGENT.parent])
        with Workshop(RepairGrader(judge), jail, proxy) as workshop:
            episodes = workshop.all([area_task()] * 6, agent, "served", lambda at: Sampling(max_tokens=6, seed=100 * at))
    for episode in episodes:
        assert len(episode.turns) == 2
        (sequence,) = merged(episode.turns)
        assert sequence.drawn == episode.activity.tokens == sum(len(turn.tokens) for turn in episode.turns)
        letter = server.decode(episode.turns[0].tokens)[:1]
        assert episode.solved is (letter < "l"), letter
        assert episode.activity.files_read >= 1
    assert len({episode.turns[0].tokens for episode in episodes}) > 1
    assert {body["model"] for body in server.asked("/v1/chat/completions")} == {"served"}


def test_a_server_that_fails_is_no_zero(judge: Judge, server: VllmDouble) -> None:
    server.gives_ids = False
    jail = AgentJail(LIMITS, reads=[AGENT.parent])
    with Proxy(server.address) as proxy, Workshop(RepairGrader(judge), jail, proxy) as workshop:
        episode = workshop.one(area_task(), TINY, "served", Sampling())
    assert isinstance(episode.grade, Ungraded)
    assert "return_token_ids" in episode.grade.reason
    assert episode.reward is None
