from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.generator.agent.conftest import Bench, call

from coderl_generator.agent.training_rows import training_rows
from coderl_generator.agent.trajectory import Trajectory


def reply(prompt: list[int], written: list[int], purpose: str = "act", **more: Any) -> dict[str, Any]:
    ids = {"prompt_ids": prompt, "token_ids": written, "logprobs": [-0.5] * len(written)}
    return {"kind": "reply", "purpose": purpose, **ids, **more}


def message(index: int, origin: str, text: str, replaces: list[int] | None = None) -> dict[str, Any]:
    role = "assistant" if origin == "model" else "user"
    extra = {"replaces": replaces} if replaces else {}
    return {"kind": "message", "index": index, "origin": origin, "message": {"role": role, "content": text}, **extra}


def rows(*lines: dict[str, Any]) -> list[dict[str, Any]]:
    start = {"kind": "start", "format": 1, "task": "t", "config": {"model": "m"}}
    return list(training_rows(Trajectory(Path("x"), (start, *lines))))


def test_turns_become_one_sequence_with_what_tools_said_masked_out() -> None:
    (row,) = rows(
        message(0, "user", "t"),
        reply([1, 2], [3, 4]),
        message(1, "model", "a"),
        message(2, "tool", "o"),
        reply([1, 2, 3, 4, 5, 6], [7]),
        message(3, "model", "b"),
    )
    assert row["kind"] == "sequence"
    assert row["token_ids"] == [1, 2, 3, 4, 5, 6, 7]
    assert row["mask"] == [0, 0, 1, 1, 0, 0, 1]
    assert row["logprobs"] == [0.0, 0.0, -0.5, -0.5, 0.0, 0.0, -0.5]
    assert row["turns"] == [0, 1]


def test_a_prompt_that_does_not_continue_begins_a_new_sequence() -> None:
    first, second = rows(reply([1, 2], [3]), reply([1, 9, 3], [4]))
    assert (first["token_ids"], second["token_ids"]) == ([1, 2, 3], [1, 9, 3, 4])


def test_without_ids_a_row_holds_the_messages_that_were_answered() -> None:
    lines = [
        message(0, "user", "t"),
        reply([], []),
        message(1, "model", "a"),
        message(2, "tool", "o"),
        reply([], [], "summary", request=[{"role": "user", "content": "sum up"}]),
        message(3, "summary", "s", [1, 2]),
        reply([], []),
        message(4, "model", "b"),
    ]
    act, summary, last = rows(*lines)
    assert [one["content"] for one in act["messages"]] == ["t"]
    assert act["reply"] == {"role": "assistant", "content": "a"}
    assert [one["content"] for one in summary["messages"]] == ["sum up"]
    assert summary["reply"] is None
    assert [one["content"] for one in last["messages"]] == ["t", "s"]
    assert last["reply"]["content"] == "b"


def test_rows_of_a_real_run(bench: Bench) -> None:
    ran = bench.run([call("list_files"), "done"])
    made = list(training_rows(ran.trajectory))
    assert [row["turn"] for row in made] == [0, 1]
    assert all(len(row["token_ids"]) == len(row["logprobs"]) > 0 for row in made)
    assert json.loads(json.dumps(made)) == made
