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
        task("broken", test="x = object()\nassert broken(x, 1) == 5"),
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
    path.write_text(json.dumps(task("broken", test="x = object()\nassert broken(x, 1) == 5")) + "\n")
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
        (("--samples", "3", "--k", "1,5"), "--k 5 needs --samples 5 or more"),
        (("--k", "one"), "--k must be whole numbers of 1 or more"),
        (("--samples", "2", "--temperature", "0"), "all alike"),
        (("--samples", "2", "--candidates", "2"), "give one of them"),
        (("--files", "/nonexistent.py"), "--files /nonexistent.py is not there"),
        (("--files", __file__, "--files", __file__), "twice"),
        (("--part", "some"), "--part must be one of"),
        (("--run", "/nonexistent"), "is no run of `coderl train`"),
        (("--picture", "/nonexistent/x.png"), "--picture /nonexistent/x.png cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(evaluated: CODERL, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = evaluated("--json", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Three tellings, drawn by the seed of a sample: one is right."""
    path = tmp_path / "several.json"
    path.write_text(json.dumps({"default": {"text": " a - b\n", "others": [" a + b\n", " 0\n"]}}))
    return path


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    """Six tasks in two tiers, of two lengths."""
    path = tmp_path / "graded.jsonl"
    rows = [task(f"f{number}", tier=["easy", "odd"][number % 2], answer="a + b" if number < 3 else "a +" + " " * 20 + "b")
            for number in range(6)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_several_samples_give_pass_at_k_by_tier_and_length(coderl: CODERL, several: Path, graded: Path, tmp_path: Path) -> None:
    rows, picture = tmp_path / "rows.jsonl", tmp_path / "solved.png"
    asked = ("eval", "--tasks", str(graded), "--backend", "scripted", "--script", str(several), "--samples", "5", *WITHOUT)
    code, out, _ = coderl(*asked, "--json", "--out", str(rows), "--picture", str(picture))
    assert code == 0
    figures = json.loads(out)
    made = [json.loads(line) for line in rows.read_text().splitlines()]
    correct = [sum(text.startswith("a + b") for text in row["completions"]) for row in made]
    assert [row["outcomes"].count("passed") for row in made] == correct
    assert len({tuple(row["completions"]) for row in made}) > 1  # each task has seeds of its own
    assert figures["n"] == 6
    assert (figures["samples"], figures["temperature"], figures["top_p"]) == (5, 0.8, 0.95)
    assert list(figures["pass_at_k"]) == ["1", "5"]
    assert figures["pass_at_1"]["estimate"] == pytest.approx(sum(correct) / 30)
    assert figures["pass_at_k"]["5"]["estimate"] == pytest.approx(sum(count > 0 for count in correct) / 6)
    assert figures["exact_match"] == pytest.approx(sum(correct[:3]) / 30)
    assert {name: part["n"] for name, part in figures["by_tier"].items()} == {"easy": 3, "odd": 3}
    assert {name: part["n"] for name, part in figures["by_length"].items()} == {"0–20 chars": 3, "21–40 chars": 3}
    assert list(figures["by_kind"]) == ["infill"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, again, _ = coderl(*asked, "--json")
    assert {**json.loads(again), "latency_ms": 0, "picture": 0} == {**figures, "latency_ms": 0, "picture": 0}
    code, table, _ = coderl(*asked, "--k", "1,3")
    assert (code, "pass@3" in table, "temperature 0.8" in table) == (0, True, True)


def test_whole_functions_are_asked_for_whole_bodies(coderl: CODERL, tmp_path: Path) -> None:
    path, script = tmp_path / "functions.jsonl", tmp_path / "body.json"
    tests = [f"assert total([{n}, 1]) == {n + 1}" for n in range(4)]
    path.write_text(
        json.dumps({"task_id": 11, "text": "Add up.", "test_list": tests,
                    "code": "def total(values):\n    return sum(values)"}) + "\n"
    )  # fmt: skip
    body = "\n    found = 0\n    for value in values:\n        found += value\n\n    return found\n\n\ndef more():\n    pass\n"
    script.write_text(json.dumps({"default": {"text": body}}))
    rows = tmp_path / "rows.jsonl"
    asked = ("eval", "--tasks", str(path), "--part", "kept-apart", "--backend", "scripted", "--script", str(script), *WITHOUT)
    code, out, _ = coderl(*asked, "--json", "--out", str(rows))
    assert code == 0
    figures = json.loads(out)
    assert (figures["part"], figures["by_kind"]["function"]["n"], figures["pass_at_1"]["estimate"]) == ("kept-apart", 1, 1.0)
    assert json.loads(rows.read_text())["completion"].endswith("return found")
    assert json.loads(coderl(*asked, "--json", "--mode", "block")[1])["pass_at_1"]["estimate"] == 0.0


def test_what_passes_the_visible_tests_and_fails_the_hidden_ones_is_not_solved(coderl: CODERL, tmp_path: Path) -> None:
    path, script = tmp_path / "hidden.jsonl", tmp_path / "hack.json"
    row = {"id": "twice", "kind": "infill", "prompt": "def twice(x):\n    return ", "suffix": "\n", "reference": "2 * x",
           "visible_tests": ["assert twice(2) == 4"], "hidden_tests": ["assert twice(3) == 6"],
           "entry_point": "twice"}  # fmt: skip
    path.write_text(json.dumps(row) + "\n")
    script.write_text(json.dumps({"default": {"text": " x * x\n"}}))
    code, out, _ = coderl("eval", "--tasks", str(path), "--backend", "scripted", "--script", str(script), "--json", *WITHOUT)
    assert code == 0
    assert (json.loads(out)["passed_visible"], json.loads(out)["pass_at_1"]["estimate"]) == (1.0, 0.0)


def test_the_embedded_model_on_shipped_tasks(coderl: CODERL, embedded_model: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    code, out, err = coderl(
        "eval", "--tasks", "shipped", "--limit", "3", "--samples", "2", "--model", str(embedded_model), "--max-tokens", "12",
        "--threads", "1", "--json", "--out", str(rows), *WITHOUT,
    )  # fmt: skip
    assert (code, err.strip()) == (0, "")
    figures = json.loads(out)
    made = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(made) == 3
    assert figures["generator"].startswith("smollm2")
    assert figures["n"] + figures["left_out_as_trivial"] == 3
    judged = [row for row in made if row["outcome"] != "trivial"]
    assert all(len(row["outcomes"]) == 2 and row["tier"] for row in judged)
    correct = sum(row["outcomes"].count("passed") for row in judged)
    assert figures["pass_at_1"]["estimate"] == pytest.approx(correct / (2 * len(judged)))


@pytest.mark.parametrize("free", [False, True])
def test_needed_names_are_forced_unless_told_otherwise(
    coderl: CODERL, embedded_model: Path, tmp_path: Path, free: bool
) -> None:
    path, rows = tmp_path / "tasks.jsonl", tmp_path / "rows.jsonl"
    prefix, suffix = "def area(a, b):\n    ", "\n    return zebra_rectangle\n"
    path.write_text(json.dumps(task("area", prefix=prefix, suffix=suffix, answer="zebra_rectangle = a * b")) + "\n")
    asked = ("eval", "--tasks", str(path), "--model", str(embedded_model), "--out", str(rows), "--json", *WITHOUT)
    code, out, _ = coderl(*asked, *(["--nothing-forced"] if free else []))
    assert code == 0
    assert json.loads(out)["forced"] is not free
    assert json.loads(rows.read_text())["completion"].startswith("zebra_rectangle") is not free


def test_a_template_whose_tokens_the_model_lacks_is_told(coderl: CODERL, embedded_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(task("area")) + "\n")
    asked = ("eval", "--tasks", str(path), "--model", str(embedded_model), "--max-tokens", "2", "--json", *WITHOUT)
    code, out, _ = coderl(*asked, "--template", "codestral")
    assert code == 0
    assert ["control tokens of the template `codestral`" in warning for warning in json.loads(out)["warnings"]] == [True]
    assert json.loads(coderl(*asked)[1])["warnings"] == []


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
