"""The agent's command: split first, filled in afterwards, and refused where it makes no sense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.errors import AgentUnusable
from coderl_trainer.repair.activity import activity_of
from coderl_trainer.repair.agents import SIMPLECODER, WORDS, Agent, Scaffold
from coderl_trainer.repair.chat_wire import Call, Turn

PLACES = {name: name.upper() for name in WORDS if name not in ("model", "scaffold", "max_steps")}


@given(st.text())
def test_a_task_adds_no_argument(task: str) -> None:
    argv = Agent().argv({**PLACES, "task": task})
    assert argv[:2] == ("simplecoder", task)
    assert len(argv) == len(SIMPLECODER.split())


def test_the_words_are_filled_in() -> None:
    agent = Agent("run --at={base_url} '{model} {scaffold}' {task} {max_steps}", "m", Scaffold.FULL, 7)
    assert agent.argv(PLACES) == ("run", "--at=BASE_URL", "m full", "TASK", "7")
    assert (agent.asks, Agent("run {task}").asks) == (True, False)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("", "is empty"),
        ("run", "has no {task}"),
        ("run {task} {where}", r"has \{where\}; known are \{task\}"),
        ("run '{task}", "cannot be split"),
        ("run {task} {", "has a part"),
        ("run {task} {}", r"has \{\}"),
    ],
)
def test_a_command_that_makes_no_sense(command: str, said: str) -> None:
    with pytest.raises(AgentUnusable, match=said):
        Agent(command)


def test_an_agent_needs_a_step() -> None:
    with pytest.raises(AgentUnusable, match="at least one step"):
        Agent(max_steps=0)


def test_what_an_agent_did() -> None:
    calls = (
        Call("read_file", '{"path": "a.py"}'),
        Call("read_file", '{"path": "a.py", "first": 3}'),
        Call("read_file", '{"path": "b.py"}'),
        Call("read_file", "no json"),
        Call("shell", '{"command": "ls"}'),
        Call("run_tests", "{}"),
        Call("edit_file", '{"path": "a.py"}'),
    )
    found = activity_of([Turn((1,), (2, 3), (-1, -1), calls=calls), Turn((), (), ())])
    assert (found.turns, found.calls, found.files_read, found.commands_run, found.tokens) == (2, 7, 3, 2, 2)
