"""`coderl tasks check`, as a user calls it, with the real judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coderl_generator.errors import JailUnavailable
from coderl_generator.jail import open_jail

CODERL = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def jail() -> None:
    try:
        open_jail("bwrap")
    except JailUnavailable as error:
        pytest.skip(str(error))


def task(name: str, reference: str, tests: list[str]) -> str:
    row = {"id": name, "kind": "infill", "prompt": "def double(x):\n", "suffix": "\n", "tests": tests, "entry_point": "double"}
    return json.dumps({**row, "reference": reference}) + "\n"


GOOD = task("good", "    return 2 * x", ["assert double(2) == 4", "assert double(-1) == -2"])
WRONG = task("wrong", "    return 3 * x", ["assert double(2) == 4", "assert double(-1) == -2"])
MUTE = task("mute", "    return 2 * x", ["assert True", "assert 1 == 1"])


def test_good_tasks_are_said_to_be_good(coderl: CODERL, tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text(GOOD, encoding="utf-8")
    code, out, _ = coderl("tasks", "check", str(tmp_path / "tasks.jsonl"), "--json")
    assert code == 0
    assert json.loads(out)["good"] is True


def test_bad_tasks_are_listed_with_their_reasons(coderl: CODERL, tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_text(GOOD + WRONG + MUTE, encoding="utf-8")
    (tmp_path / "known").write_text("wrong\n", encoding="utf-8")
    code, out, _ = coderl("tasks", "check", str(tmp_path / "tasks.jsonl"))
    assert code == 1
    assert "• wrong: its own reference fails" in out
    assert "• mute could not be graded: test 1 does not call double." in out
    assert "• good" not in out
    told = json.loads(
        coderl("tasks", "check", str(tmp_path / "tasks.jsonl"), "--leave-out", str(tmp_path / "known"), "--json")[1]
    )
    assert "wrong" not in str(told["files"][0].get("bad"))


@pytest.mark.parametrize("content", [None, "{", '{"id": "x"}'])
def test_a_file_that_is_none_is_told_in_a_sentence(coderl: CODERL, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tasks.jsonl"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    code, out, err = coderl("tasks", "check", str(file))
    assert (code, out) == (2, "")
    assert "tasks.jsonl" in err.splitlines()[-1]
