"""`coderl eval --env repair`, `coderl tasks repairs`, `coderl train --env repair` as a user calls them. SimpleCoder is the real
one, in the harness's jail; the server says what the test wants."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.generator.agent.chat_server import Answer, chunks, serving
from tests.trainer.repair.broken_repositories import area_task

from coderl_generator.errors import JailUnavailable
from coderl_generator.jail import open_jail
from coderl_trainer.repair.tasks import load_repairs, write_repairs

CODERL = Callable[..., tuple[int, str, str]]
SIMPLECODER = (
    "{python} -c 'from coderl_server.simplecoder import main; main()' {task} --output-root {repository} --base-url {base_url} "
    "--model {model} --scaffold {scaffold} --non-interactive --allow write,shell --max-steps {max_steps} "
    "--trajectory {trajectory}"
)


@pytest.fixture(autouse=True)
def jail() -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    try:
        open_jail("bwrap")
    except JailUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def repairs(tmp_path: Path) -> Path:
    path = tmp_path / "repairs.jsonl"
    write_repairs([area_task("one"), area_task("two")], path)
    return path


def coder(body: dict[str, Any], _number: int) -> Answer:
    """Looks, repairs, answers; with the small scaffold it looks only."""
    tools = {tool["function"]["name"] for tool in body["tools"]}
    step = sum(message["role"] == "assistant" for message in body["messages"])
    if step == 0:
        look = ("read_file", {"path": "area.py"}) if "read_file" in tools else ("shell", {"command": "cat area.py"})
        return 200, chunks(calls=[look])
    if step == 1 and "edit_file" in tools:
        return 200, chunks(calls=[("edit_file", {"path": "area.py", "old": "width + height", "new": "width * height"})])
    return 200, chunks("Done.")


def test_two_scaffolds_are_compared(coderl: CODERL, repairs: Path, tmp_path: Path) -> None:
    with serving(coder) as server:
        arguments = ("--env", "repair", "--tasks", str(repairs), "--endpoint", server.base_url, "--model", "m")
        out = tmp_path / "rows.jsonl"
        code, told, said = coderl(
            "eval", *arguments, "--agent", SIMPLECODER, "--compare", "nano", "full", "--out", str(out), "--json"
        )
    assert code == 0, said
    found = json.loads(told)
    assert (found["n"], found["only_a"], found["only_b"]) == (2, 0, 2)
    assert (found["a"]["success"]["estimate"], found["b"]["success"]["estimate"]) == (0.0, 1.0)
    assert found["b"]["ungraded"] == found["a"]["ungraded"] == 0, found
    assert (found["b"]["files_read"]["estimate"], found["a"]["commands_run"]["estimate"]) == (1.0, 1.0)
    seen = [message["content"] for body in server.asked for message in body["messages"] if message["role"] == "tool"]
    assert sum("exit status 0" in text and "width + height" in text for text in seen) == 2  # jails inside the jail
    assert found["cohens_h"] == pytest.approx(3.14159, abs=1e-4)
    assert found["b"]["time_to_solution_s"]["estimate"] > 0
    a, b = (str(tmp_path / f"rows.{letter}.jsonl") for letter in "ab")
    code, again, _ = coderl("eval", "--env", "repair", "--compare", a, b, "--json")
    assert code == 0
    assert json.loads(again)["difference"] == found["difference"]
    code, table, _ = coderl("eval", "--env", "repair", "--compare", a, b)
    assert code == 0
    for words in ("success", "time to solution", "McNemar's p 0.500", "Cohen's h +3.14"):
        assert words in table


def test_one_agent_in_sentences(coderl: CODERL, repairs: Path) -> None:
    with serving(coder) as server:
        code, told, said = coderl(
            "eval", "--env", "repair", "--tasks", str(repairs), "--endpoint", server.base_url, "--model", "m",
            "--agent", SIMPLECODER, "--scaffold", "full", "--limit", "1",
        )  # fmt: skip
    assert code == 0, said
    assert "100.0%" in told
    assert "episodes (tasks)" in told


def test_a_server_that_is_not_there_says_nothing_about_the_agent(coderl: CODERL, repairs: Path) -> None:
    code, told, _ = coderl(
        "eval", "--env", "repair", "--tasks", str(repairs), "--endpoint", "http://127.0.0.1:9", "--model", "m",
        "--agent", SIMPLECODER, "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(told)
    assert (found["n"], found["ungraded"]) == (0, 2)
    assert any("cannot be reached" in reason for reason in found["reasons"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--env", "chess"), "--env must be repair"),
        (("--attacks",), "--attacks needs --env repair"),
        (("--env", "repair"), "--tasks is missing"),
        (("--env", "repair", "--tasks", "TASKS"), "--endpoint is missing"),
        (("--env", "repair", "--tasks", "TASKS", "--endpoint", "localhost", "--model", "m"), "must begin with http"),
        (("--env", "repair", "--tasks", "TASKS", "--scaffold", "huge"), "--scaffold must be one of nano, full"),
        (("--env", "repair", "--tasks", "TASKS", "--agent", "run"), "has no {task}"),
        (("--env", "repair", "--tasks", "nowhere.jsonl", "--agent", "run {task}"), "nowhere.jsonl cannot be read"),
        (("--env", "repair", "--tasks", "TASKS", "--agent", "no-such-agent {task}"), "not to be found in its jail"),
        (("--env", "repair", "--compare", "nowhere.jsonl", "nano"), "nowhere.jsonl cannot be read"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(arguments: tuple[str, ...], said: str, coderl: CODERL, repairs: Path) -> None:
    code, _, error = coderl("eval", *(str(repairs) if one == "TASKS" else one for one in arguments))
    assert (code, said in error, "Traceback" in error) == (2, True, False), error


def test_repairs_are_made_of_other_tasks(coderl: CODERL, tmp_path: Path) -> None:
    row = {
        "id": "double", "kind": "infill", "prompt": "def double(x):\n", "suffix": "\n", "entry_point": "double",
        "reference": "    return x + x", "visible_tests": ["assert double(2) == 4"], "hidden_tests": ["assert double(5) == 10"],
    }  # fmt: skip
    (tmp_path / "tasks.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    out = tmp_path / "repairs.jsonl"
    code, told, said = coderl("tasks", "repairs", str(tmp_path / "tasks.jsonl"), "--out", str(out), "--json")
    assert code == 0, said
    assert json.loads(told) == {"repairs": 1, "left_out": {}, "out": str(out)}
    (task,) = load_repairs(out)
    assert "return x - x" in task.files["double.py"]
    assert task.fail_to_pass == ("assert double(5) == 10",)
    (tmp_path / "tasks.jsonl").write_text(json.dumps({**row, "hidden_tests": []}) + "\n", encoding="utf-8")
    code, _, said = coderl("tasks", "repairs", str(tmp_path / "tasks.jsonl"), "--out", str(out))
    assert (code, "No repair can be made" in said) == (2, True)


def test_training_needs_a_server(coderl: CODERL, repairs: Path, tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    for more, words in (
        ((), "needs rollouts.server"),
        (("--scaffold", "huge", "--set", "rollouts.server=http://127.0.0.1:9"), "repair.scaffold must be one of nano, full"),
        (("--agent", "run", "--set", "rollouts.server=http://127.0.0.1:9"), "has no {task}"),
    ):
        code, _, said = coderl("train", "--env", "repair", "--tasks", str(repairs), "--runs", runs, *more)
        assert (code, words in said, "Traceback" in said) == (2, True, False), said
    code, _, said = coderl("train", "--env", "chess", "--runs", runs)
    assert (code, "--env must be repair" in said) == (2, True)
