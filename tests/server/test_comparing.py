"""`coderl eval --compare`: two models or two files of rows, what is left out, and what is said of bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CODERL = Callable[..., tuple[int, str, str]]
NAMES = ("plus", "minus", "times", "over")
SIGNS = ("+", "-", "*", "//")


def task(name: str, sign: str, **changes: str) -> dict[str, str]:
    return {
        "id": name,
        "prefix": f"def {name}(a, b):\n    return ",
        "suffix": "\n",
        "answer": f"a {sign} b",
        "test": f"assert {name}(7, 2) == 7 {sign} 2",
        "group": name,
        **changes,
    }


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [task(name, sign, tier="easy" if name == "plus" else "hard") for name, sign in zip(NAMES, SIGNS, strict=True)]
    rows.append(task("empty", "+", prefix="def empty(a, b):\n    return a + b\n"))
    rows.append(task("untested", "+", test=""))
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def script(path: Path, *known: str) -> Path:
    """A model that knows these tasks and is wrong about the others."""
    rules = [
        {"pattern": rf"def {name}.*\n.*\Z", "text": f" a {sign} b\n"}
        for name, sign in zip(NAMES, SIGNS, strict=True)
        if name in known
    ]
    path.write_text(json.dumps({"rules": rules, "default": {"text": " 0\n"}}))
    return path


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return script(tmp_path / "a.json", "plus")


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return script(tmp_path / "b.json", "minus", "times", "over")


def row(name: str, outcome: str, **more: Any) -> str:
    return json.dumps({"task_id": name, "run": "0123", "outcome": outcome, **more}) + "\n"


def rows(path: Path, outcomes: dict[str, str], **more: Any) -> Path:
    path.write_text("".join(row(name, outcome, **more) for name, outcome in outcomes.items()))
    return path


def test_two_models(coderl: CODERL, tasks: Path, a: Path, b: Path, tmp_path: Path) -> None:
    picture = tmp_path / "compared.png"
    code, out, _ = coderl(
        "eval", "--compare", str(a), str(b), "--tasks", str(tasks), "--backend", "scripted", "--json", "--picture", str(picture)
    )
    assert code == 0
    found = json.loads(out)
    assert (found["a"]["name"], found["a"]["estimate"], found["b"]["estimate"]) == (str(a), 0.25, 0.75)
    assert (found["n"], found["problems"], found["only_a"], found["only_b"]) == (4, 4, 1, 3)
    assert found["difference"]["estimate"] == 0.5
    assert found["difference"]["low"] <= 0.5 <= found["difference"]["high"]
    assert found["mcnemar_p"] == 0.625  # 2 · P(X ≤ 1), X ~ Binomial(4, ½)
    assert found["cohens_h"] == pytest.approx(1.0471975512)  # π/3
    assert {name: part["difference"]["estimate"] for name, part in found["by_tier"].items()} == {"easy": -1.0, "hard": 1.0}
    assert {name: part["n"] for name, part in found["by_length"].items()} == {"0–20 chars": 4}
    assert found["left_out"] == {"trivial": 1, "untested": 1, "not_judged": 0, "only_one": 0, "not_asked_for": 0}
    assert found["a"]["exact_match"] == 0.25
    assert found["warnings"] == []
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_several_samples_are_compared_by_pass_at_k(coderl: CODERL, tasks: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    signs = [f" a {sign} b\n" for sign in SIGNS]
    good.write_text(json.dumps({"default": {"text": signs[0], "others": signs[1:]}}))
    bad.write_text(json.dumps({"default": {"text": " 0\n"}}))
    options = ("--tasks", str(tasks), "--backend", "scripted", "--json", "--samples", "6", "--k", "1,6")
    code, out, _ = coderl("eval", "--compare", str(bad), str(good), *options, "--out", str(tmp_path / "rows.jsonl"))
    assert code == 0
    found = json.loads(out)
    made = [json.loads(line) for line in (tmp_path / "rows.b.jsonl").read_text().splitlines()]
    counts = [row["outcomes"].count("passed") for row in made if row["outcome"] in ("passed", "failed")]
    assert len(counts) == found["n"] == 4
    for k, wanted in (("1", sum(counts) / 24), ("6", sum(count > 0 for count in counts) / 4)):
        part = found["pass_at_k"][k]
        assert (part["n"], part["a"], part["b"]) == (4, 0.0, pytest.approx(wanted))
        assert part["difference"]["estimate"] == pytest.approx(wanted)
    assert found["b"]["estimate"] == sum(row["outcome"] == "passed" for row in made) / 4  # of the first sample
    assert set(found["by_tier"]["hard"]["pass_at_k"]) == {"1", "6"}
    files = [str(tmp_path / f"rows.{letter}.jsonl") for letter in "ab"]
    read = json.loads(coderl("eval", "--compare", *files, "--json")[1])
    assert list(read["pass_at_k"]) == ["1", "5"]  # the usual ones, as far as there are samples
    code, _, err = coderl("eval", "--compare", *files, "--samples", "10", "--k", "10")
    assert (code, "--k 10 needs that many samples of a task on both sides" in err) == (2, True)
    code, table, _ = coderl("eval", "--compare", *files)
    assert (code, "pass@5" in table, "of the first sample" in table) == (0, True, True)


def test_what_two_evaluations_wrote_says_the_same_without_the_tasks(
    coderl: CODERL, tasks: Path, a: Path, b: Path, tmp_path: Path
) -> None:
    options = ("--tasks", str(tasks), "--backend", "scripted", "--json")
    code, models, _ = coderl("eval", "--compare", str(a), str(b), *options, "--out", str(tmp_path / "rows.jsonl"))
    assert code == 0
    files = [str(tmp_path / f"rows.{letter}.jsonl") for letter in "ab"]
    code, read, _ = coderl("eval", "--compare", *files, "--json", "--seed", "20221")
    assert code == 0
    mixed = json.loads(coderl("eval", "--compare", files[0], str(b), *options)[1])
    for found in (json.loads(read), mixed):
        for name in ("difference", "mcnemar_p", "cohens_h", "n", "problems", "by_tier", "by_length", "left_out"):
            assert found[name] == json.loads(models)[name], name


def test_a_table_for_people(coderl: CODERL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcomes = {f"t{index}": "passed" if index < 10 else "failed" for index in range(40)}
    left = rows(tmp_path / "[a].jsonl", outcomes | {"t40": "trivial"}, group="")
    right = rows(tmp_path / "b.jsonl", dict.fromkeys(outcomes, "passed") | {"t40": "trivial"}, group="")
    code, out, _ = coderl("eval", "--compare", str(left), str(right))
    assert code == 0
    line = next(line for line in out.splitlines() if line.strip().startswith("all "))
    assert re.fullmatch(
        r"all +40 +25\.0% +100\.0% +\+75\.0 \[\+[6-7]\d\.\d, \+8\d\.\d\] +0 : 30 +1\.9e-09 +\+2\.09", line.strip()
    )
    assert max(map(len, out.splitlines()[2:6])) <= 80
    assert f"A: {left}" in out
    assert "B solves more, and the interval leaves out 0." in out
    assert "1 tasks left out: an empty line solves them." in out
    assert "base problems are not known" not in out


def test_tasks_that_are_no_pair_are_counted_by_reason(coderl: CODERL, tmp_path: Path) -> None:
    left = rows(tmp_path / "a.jsonl", {"x": "passed", "y": "timed_out", "z": "judge_failed", "u": "untested", "only": "failed"})
    right = rows(tmp_path / "b.jsonl", {"x": "passed", "y": "passed", "z": "passed", "u": "untested", "other": "passed"})
    code, out, _ = coderl("eval", "--compare", str(left), str(right), "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["n"], found["only_b"]) == (2, 1)
    assert found["left_out"] == {"trivial": 0, "untested": 1, "not_judged": 1, "only_one": 2, "not_asked_for": 0}
    assert "base problems are not known" in found["warnings"][0]  # rows of before they were kept


def test_given_tasks_say_which_count_and_what_is_known_of_them(coderl: CODERL, tasks: Path, tmp_path: Path) -> None:
    left = rows(tmp_path / "a.jsonl", {"plus": "passed", "minus": "failed", "elsewhere": "failed"})
    right = rows(tmp_path / "b.jsonl", {"plus": "passed", "minus": "passed", "elsewhere": "passed"})
    code, out, _ = coderl("eval", "--compare", str(left), str(right), "--tasks", str(tasks), "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["n"], list(found["by_tier"]), found["left_out"]["not_asked_for"]) == (2, ["easy", "hard"], 1)
    assert found["warnings"] == []


def test_the_half_line_of_a_run_that_was_cut_is_left_out(coderl: CODERL, tmp_path: Path) -> None:
    left = rows(tmp_path / "a.jsonl", {"x": "passed", "y": "failed"})
    right = rows(tmp_path / "b.jsonl", {"x": "passed"})
    with right.open("a") as file:
        file.write('{"task_id": "y", "run": "01')
    found = json.loads(coderl("eval", "--compare", str(left), str(right), "--json")[1])
    assert (found["n"], found["left_out"]["only_one"]) == (1, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"task_id": "x", "run": "0", "outcome": "passed"}\n{broken\n', "a.jsonl line 2 is no row of an evaluation"),
        ('{"task_id": "x", "run": "0", "outcome": "passed"}\n{"task_id": "y"}\n', "a.jsonl line 2 is no row of an evaluation"),
        ('{"id": "a task"}\n', "a.jsonl is no file of rows"),
        ('{"task_id": "z", "run": "0", "outcome": "passed"}\n', "No task was judged for both models"),
    ],
)
def test_files_that_cannot_be_compared(coderl: CODERL, tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    right = rows(tmp_path / "b.jsonl", {"x": "passed"})
    code, out, err = coderl("eval", "--compare", str(tmp_path / "a.jsonl"), str(right))
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_options_that_do_not_go_together(coderl: CODERL, tasks: Path, tmp_path: Path) -> None:
    code, _, err = coderl("eval")
    assert (code, err) == (2, "coderl: --tasks is missing: name a file of tasks, or --files to type.\n")
    left = rows(tmp_path / "a.jsonl", {"x": "passed"})
    code, _, err = coderl("eval", "--compare", str(left), str(tmp_path / "b.jsonl"))
    assert (code, "b.jsonl is not there" in err) == (2, True)
    code, _, err = coderl("eval", "--compare", str(left), "embedded", "--files", __file__)
    assert (code, "a file of rows cannot be asked" in err) == (2, True)
    code, _, err = coderl("eval", "--compare", str(left), "embedded")
    assert (code, "needs --tasks to ask the model embedded" in err) == (2, True)
    code, _, err = coderl("eval", "--compare", str(left), str(left), "--picture", str(tmp_path / "nowhere" / "x.png"))
    assert (code, "x.png cannot be written: No such file or directory" in err) == (2, True)
