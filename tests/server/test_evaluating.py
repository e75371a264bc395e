"""`coderl eval`: figures, the file of rows, going on where a run stopped, and what is said of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coderl_generator.errors import JailUnavailable
from coderl_generator.jail import open_jail

CODERL = Callable[..., tuple[int, str, str]]
WITHOUT = ("--unjailed-because", "the programs are in this file; where there is a jail it is used all the same")


def task(name: str, **changes: str) -> dict[str, str]:
    return {
        "id": name,
        "prefix": f"def {name}(a, b):\n    return ",
        "suffix": "\n",
        "answer": "a + b",
        "test": f"assert {name}(2, 3) == 5",
        **changes,
    }


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Knows `plus`, is wrong about `minus`, says nothing else."""
    path = tmp_path / "script.json"
    rules = [{"pattern": r"def plus.*\n.*\Z", "text": " a + b\n"}, {"pattern": r"def minus.*\n.*\Z", "text": " a - b\n"}]
    path.write_text(json.dumps({"rules": rules, "default": {"text": " 0\n"}}))
    return path


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    rows = [
        task("plus"),
        task("minus"),
        task("empty", prefix="def empty(a, b):\n    return a + b\n"),
        task("broken", test="assert ("),
        task("untested", test=""),
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def evaluated(coderl: CODERL, script: Path, tasks: Path) -> CODERL:
    return lambda *more: coderl(
        "eval", "--tasks", str(tasks), "--backend", "scripted", "--script", str(script), *WITHOUT, *more
    )


def test_the_figures(evaluated: CODERL) -> None:
    code, out, _ = evaluated("--json")
    assert code == 0
    figures = json.loads(out)
    assert figures["n"] == 2
    assert figures["pass_at_1"]["estimate"] == 0.5
    assert figures["pass_at_1"]["low"] == pytest.approx(0.0945, abs=1e-3)  # Wilson (1927) for 1 of 2
    assert figures["pass_at_1"]["high"] == pytest.approx(0.9055, abs=1e-3)
    assert figures["exact_match"] == 0.25
    assert figures["latency_ms"]["p50"] <= figures["latency_ms"]["p95"]
    assert (figures["judge_failed"], figures["left_out_as_trivial"], figures["untested"]) == (1, 1, 1)
    assert figures["seed"] == 20221


def test_a_table_for_people(evaluated: CODERL) -> None:
    code, out, _ = evaluated()
    assert code == 0
    assert "50.0%" in out
    assert "1 tasks left out: an empty line solves them" in out
    assert "the judge failed" in out


def test_a_second_run_goes_on_where_the_first_stopped(evaluated: CODERL, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    code, whole, _ = evaluated("--json", "--out", str(rows))
    assert code == 0
    lines = rows.read_text().splitlines(keepends=True)
    assert [json.loads(line)["outcome"] for line in lines] == ["passed", "failed", "trivial", "judge_failed", "untested"]
    changed = json.loads(lines[1]) | {"outcome": "passed"}  # only a row that is not made again can say so
    rows.write_text(lines[0] + json.dumps(changed) + "\n" + lines[2][:20])
    code, again, _ = evaluated("--json", "--out", str(rows))
    assert code == 0
    assert json.loads(whole)["pass_at_1"]["estimate"] == 0.5
    assert json.loads(again)["pass_at_1"]["estimate"] == 1.0
    assert [json.loads(line)["task_id"] for line in rows.read_text().splitlines()] == [
        "plus",
        "minus",
        "empty",
        "broken",
        "untested",
    ]


def test_rows_of_another_run_are_not_mixed_in(evaluated: CODERL, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    assert evaluated("--json", "--out", str(rows))[0] == 0
    code, out, err = evaluated("--json", "--out", str(rows), "--mode", "block")
    assert (code, out) == (2, "")
    assert "rows of another model or other options" in err


def test_a_limit_draws_by_the_seed(coderl: CODERL, script: Path, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(task(f"f{number}", test="")) + "\n" for number in range(20)))

    def drawn(seed: int, rows: Path) -> list[str]:
        options = ("--backend", "scripted", "--script", str(script), "--limit", "5", "--seed", str(seed), "--out", str(rows))
        code, out, _ = coderl("eval", "--tasks", str(path), "--json", *WITHOUT, *options)
        assert code == 0
        assert (json.loads(out)["limit"], json.loads(out)["seed"]) == (5, seed)
        return [json.loads(line)["task_id"] for line in rows.read_text().splitlines()]

    first = drawn(3, tmp_path / "a.jsonl")
    assert len(set(first)) == 5
    assert first == drawn(3, tmp_path / "b.jsonl")
    assert first != drawn(4, tmp_path / "c.jsonl")


def test_the_best_of_several_candidates_is_judged(coderl: CODERL, tasks: Path, tmp_path: Path) -> None:
    script = tmp_path / "several.json"
    default = {"text": "not so at all, it seems\n", "logprob": -2.0, "others": [" a + b\n"]}
    script.write_text(json.dumps({"default": default}))
    for count, solved in ((1, 0.0), (2, 1.0)):
        options = ("--backend", "scripted", "--script", str(script), "--candidates", str(count))
        code, out, _ = coderl("eval", "--tasks", str(tasks), "--json", *WITHOUT, *options)
        assert code == 0
        assert json.loads(out)["candidates"] == count
        assert json.loads(out)["pass_at_1"]["estimate"] == solved


def test_where_the_judge_never_works_the_command_fails(coderl: CODERL, script: Path, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(task("broken", test="assert (")) + "\n")
    code, out, err = coderl("eval", "--tasks", str(path), "--backend", "scripted", "--script", str(script), "--json", *WITHOUT)
    assert (code, out) == (1, "")
    assert "The judge failed on every task" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mode", "essay"), "--mode must be one of single_line, block"),
        (("--template", "no-such-family"), "no-such-family"),
        (("--backend", "no-such"), "no backend `no-such`"),
        (("--backend", "openai"), "needs --endpoint"),
        (("--backend", "llamacpp", "--model", "/nonexistent.gguf"), "--model cannot be used"),
        (("--tasks", "/nonexistent.jsonl"), "--tasks cannot be used"),
        (("--out", "/nonexistent/rows.jsonl"), "--out /nonexistent/rows.jsonl cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(evaluated: CODERL, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = evaluated("--json", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_a_file_of_something_else_is_not_written_over(evaluated: CODERL, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("my notes\n")
    code, _, err = evaluated("--json", "--out", str(other))
    assert code == 2
    assert "something else than rows" in err
    assert other.read_text() == "my notes\n"


def test_without_a_jail_and_without_words_nothing_runs(coderl: CODERL, script: Path, tasks: Path) -> None:
    code, out, err = coderl("eval", "--tasks", str(tasks), "--backend", "scripted", "--script", str(script), "--json")
    try:
        open_jail()
    except JailUnavailable:
        assert (code, out) == (1, "")
        assert "install bubblewrap" in err or "cannot make a jail" in err
    else:
        assert code == 0
        assert "no_network" in json.loads(out)["guarantees"]
