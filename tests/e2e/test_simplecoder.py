"""`simplecoder` as a process of its own, with the scripted model: real tasks from beginning to end."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.generator.agent.chat_server import Answer, chunks, serving

from coderl_generator.agent.edits import diff_of
from coderl_generator.agent.trajectory import Trajectory, read_trajectory
from coderl_generator.errors import JailUnavailable
from coderl_generator.jail import open_jail

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from coderl_server.simplecoder import main; main()")
UNITTEST = "python3 -m unittest -q"
PATIENCE_S = 120.0
PROGRAMS = ("bitcount", "bucketsort", "find_first_in_sorted", "gcd", "get_factors")


@dataclass
class Desk:
    """A workspace and a script for the model."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "workspace"

    @property
    def record(self) -> Path:
        return self.folder / "record.jsonl"

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text, encoding="utf-8")

    def text(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def command(self, script: list[Any] | None, *arguments: str) -> list[str]:
        if script is not None:
            (self.folder / "script.json").write_text(json.dumps(script))
            arguments = ("--model", f"scripted:{self.folder / 'script.json'}", *arguments)
        return [*COMMAND, *arguments]

    def run(
        self, script: list[Any] | None, *arguments: str, status: int = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            self.command(script, *arguments),
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ran.returncode == status, f"{ran.returncode}\n{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr
        return ran

    def task(self, script: list[Any], *arguments: str, allow: str = "write,shell", status: int = 0) -> Trajectory:
        granted = ("--allow", allow) if allow else ()
        self.run(script, "do it", "--non-interactive", *granted, "--trajectory", str(self.record), *arguments, status=status)
        return read_trajectory(self.record)


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"calls": [{"name": tool, "arguments": arguments}]}


def outcomes(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(line["tool"], line["outcome"]) for line in trajectory.of("call")]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.root.mkdir()
    return made


@pytest.fixture(scope="session")
def jail() -> None:
    try:
        open_jail()
    except JailUnavailable as error:
        pytest.skip(str(error))


def test_a_file_is_made_and_run(desk: Desk, jail: None) -> None:
    script = [
        call("write_file", path="hello.py", content="print('hello')\n"),
        call("shell", command="python3 hello.py"),
        "Made hello.py:1.",
    ]
    ran = desk.run(script, "make hello", "--non-interactive", "--allow", "write,shell", "--trajectory", str(desk.record))
    assert ran.stdout == "Made hello.py:1.\n"
    assert desk.text("hello.py") == "print('hello')\n"
    shell = list(read_trajectory(desk.record).of("call"))[1]
    assert shell["observation"] == "exit status 0\nhello"


def test_a_question_about_this_repository_with_citations(desk: Desk) -> None:
    path = "generator/coderl_generator/agent/loop.py"
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    number = next(at for at, line in enumerate(lines, 1) if line.startswith("MALFORMED_IN_A_ROW"))
    script = [
        call("search_in_files", text="MALFORMED_IN_A_ROW", path="generator"),
        call("read_file", path=path, start=number, end=number),
        f"Three ({path}:{number}).",
    ]
    arguments = ("--read-only", "--workspace", str(ROOT), "--trajectory", str(desk.record), "--json")
    ran = desk.run(script, "After how many malformed replies does a run end?", *arguments)
    report = json.loads(ran.stdout)
    assert report["status"] == "answered"
    assert report["bad_citations"] == []
    search, read = read_trajectory(desk.record).of("call")
    assert f"{path}:{number}: MALFORMED_IN_A_ROW" in search["observation"]
    assert lines[number - 1] in read["observation"]


def test_a_question_answered_by_search(desk: Desk) -> None:
    script = [call("search_code", query="how often may a reply be malformed before the run ends"), "See the hits."]
    folder = str(ROOT / "generator" / "coderl_generator" / "agent")
    arguments = ("--read-only", "--use-rag", "--workspace", folder, "--trajectory", str(desk.record))
    desk.run(script, "After how many malformed replies does a run end?", *arguments)
    (line,) = read_trajectory(desk.record).of("call")
    assert "loop.py:" in line["observation"]


def quixbugs(shared_data: Path, name: str) -> dict[str, Any]:
    path = shared_data / "tasks" / "quixbugs" / "quixbugs.jsonl"
    if not path.is_file():
        pytest.skip("the shared data hold no QuixBugs")
    tasks = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    found: dict[str, Any] = next(task for task in tasks if task["entry_point"] == name)
    return found


def lay_out(desk: Desk, task: dict[str, Any]) -> str:
    """The broken program and its tests in the workspace; the program's name."""
    name = task["entry_point"]
    cases = "".join(
        f"        self.assertEqual({name}(*{case['args']!r}), {case['expected']!r})\n" for case in task["cases"][:6]
    )
    test = (
        f"import unittest\nfrom {name} import {name}\n\n\nclass Tests(unittest.TestCase):\n    def test_cases(self):\n{cases}"
    )
    desk.write({f"{name}.py": task["buggy"], f"test_{name}.py": test})
    return str(name)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_broken_program_is_mended_with_all_tools(desk: Desk, jail: None, shared_data: Path, name: str) -> None:
    task = quixbugs(shared_data, name)
    lay_out(desk, task)
    script = [
        call("run_tests"),
        call("read_file", path=f"{name}.py"),
        call("write_file", path=f"{name}.py", content=task["correct"]),
        call("run_tests"),
        f"Mended {name}.py:1.",
    ]
    trajectory = desk.task(script, "--test-command", f"timeout 5 {UNITTEST}")
    first, *_, last = trajectory.of("call")
    assert not first["observation"].startswith("exit status 0"), first["observation"]
    assert last["observation"].startswith("exit status 0"), last["observation"]
    assert desk.text(f"{name}.py") == task["correct"]


@pytest.mark.parametrize("name", PROGRAMS[:2])
def test_a_broken_program_is_mended_with_a_shell_and_a_patch(desk: Desk, jail: None, shared_data: Path, name: str) -> None:
    task = quixbugs(shared_data, name)
    lay_out(desk, task)
    script = [
        call("shell", command=f"timeout 5 {UNITTEST}; cat {name}.py"),
        call("apply_patch", patch=diff_of(task["buggy"], task["correct"], f"{name}.py")),
        call("shell", command=UNITTEST),
        "Mended.",
    ]
    trajectory = desk.task(script, "--scaffold", "nano")
    assert [tool for tool, _ in outcomes(trajectory)] == ["shell", "apply_patch", "shell"]
    assert list(trajectory.of("call"))[-1]["observation"].startswith("exit status 0")
    assert desk.text(f"{name}.py") == task["correct"]


def test_a_change_of_two_files_at_once(desk: Desk) -> None:
    desk.write({"prices.py": "def price(n):\n    return n\n", "shop.py": "from prices import price\n\nprint(price(3))\n"})
    patch = (
        "--- a/prices.py\n+++ b/prices.py\n@@ -1,2 +1,2 @@\n-def price(n):\n+def total(n):\n     return n\n"
        "--- a/shop.py\n+++ b/shop.py\n@@ -1,3 +1,3 @@\n-from prices import price\n+from prices import total\n \n"
        "-print(price(3))\n+print(total(3))\n"
    )
    broken = patch.replace("-print(price(3))", "-print(price(4))")
    script = [call("apply_patch", patch=broken), call("apply_patch", patch=patch), "Renamed."]
    trajectory = desk.task(script, "--scaffold", "nano", allow="write")
    assert outcomes(trajectory) == [("apply_patch", "failed"), ("apply_patch", "done")]
    assert desk.text("prices.py").startswith("def total")
    assert "print(total(3))" in desk.text("shop.py")
    assert trajectory.end is not None
    assert "+def total(n):" in trajectory.end["diff"]


def test_a_write_that_nobody_granted_is_refused(desk: Desk) -> None:
    desk.write({"a.py": "x = 1\n"})
    script = [
        call("edit_file", path="a.py", old="1", new="2"),
        call("write_file", path="../a.py", content="x"),
        call("write_file", path=".git/hooks/pre-commit", content="x"),
        call("write_file", path=".env", content="x"),
        "I could not.",
    ]
    trajectory = desk.task(script, allow="")
    assert [outcome for _, outcome in outcomes(trajectory)] == ["denied", "refused", "refused", "refused"]
    assert sorted(path.name for path in desk.root.iterdir()) == ["a.py"]
    assert desk.text("a.py") == "x = 1\n"
    assert not (desk.folder / "a.py").exists()


def test_the_output_root_and_the_denials_hold(desk: Desk) -> None:
    desk.write({"a.py": "x = 1\n", "private/b.txt": "hidden words\n"})
    script = [
        call("write_file", path="out/new.py", content="y = 1\n"),
        call("write_file", path="a.py", content="y = 1\n"),
        call("read_file", path="private/b.txt"),
        call("search_in_files", text="hidden"),
        call("write_file", path="out/locked/x", content="z"),
        "done",
    ]
    more = ("--output-root", str(desk.root / "out"), "--deny", "read:private/**", "--deny", "write:out/locked/**")
    trajectory = desk.task(script, *more, allow="write")
    assert [outcome for _, outcome in outcomes(trajectory)] == ["done", "refused", "refused", "done", "denied"]
    assert "hidden words" not in desk.record.read_text()
    assert desk.run(None, "--replay", str(desk.record)).stdout == "No divergence in 4 calls, 1 passed over.\n"
    assert desk.text("a.py") == "x = 1\n"


def test_compaction_and_what_it_dropped_can_be_shown(desk: Desk) -> None:
    desk.write({"long.txt": "".join(f"line {number} of a long file\n" for number in range(1, 1001))})
    reads = [call("read_file", path="long.txt", start=1 + 100 * n, end=100 + 100 * n) for n in range(6)]
    trajectory = desk.task([*reads, "Summary: nothing found.", "done"], "--context-tokens", "7000")
    assert [line["purpose"] for line in trajectory.of("reply")].count("summary") == 1
    assert trajectory.dropped()
    printed = desk.run(None, "--show", str(desk.record)).stdout
    assert "~    1\tline 1 of a long file" in printed
    assert "Summary: nothing found." in printed


def test_a_run_that_is_killed_is_taken_up(desk: Desk) -> None:
    script = [
        call("write_file", path="first.txt", content="1\n"),
        {"wait_s": 60, **call("write_file", path="second.txt", content="2\n")},
        "done",
    ]
    arguments = ("do it", "--non-interactive", "--allow", "write", "--trajectory", str(desk.record))
    with subprocess.Popen(
        desk.command(script, *arguments), cwd=desk.root, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_for(lambda: (desk.root / "first.txt").exists() and desk.record.read_text().count('"kind": "message"') == 4)
        process.kill()
    assert read_trajectory(desk.record).end is None
    script[1].pop("wait_s")
    desk.command(script)
    ran = desk.run(None, "--resume", str(desk.record), "--non-interactive", "--allow", "write")
    assert ran.stdout == "done\n"
    assert (desk.text("first.txt"), desk.text("second.txt")) == ("1\n", "2\n")
    trajectory = read_trajectory(desk.record)
    assert outcomes(trajectory) == [("write_file", "done"), ("write_file", "done")]
    assert [line["resumed"] for line in trajectory.of("start")] == [False, True]


def test_ctrl_c_keeps_the_record(desk: Desk) -> None:
    script = [call("write_file", path="first.txt", content="1\n"), {"text": "done", "wait_s": 60}]
    arguments = ("do it", "--non-interactive", "--allow", "write", "--trajectory", str(desk.record))
    with subprocess.Popen(
        desk.command(script, *arguments),
        cwd=desk.root,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    ) as process:
        wait_for(lambda: desk.record.exists() and desk.record.read_text().count('"kind": "message"') == 4)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    end = read_trajectory(desk.record).end
    assert end is not None
    assert end["status"] == "interrupted"
    assert "first.txt" in end["diff"]


def wait_for(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, "it did not come to that"
        time.sleep(0.05)


def test_a_record_is_replayed_without_a_model_and_the_first_divergence_named(desk: Desk, jail: None) -> None:
    desk.write({"a.py": "x = 1\n", "b.py": "y = 1\n"})
    script = [
        call("read_file", path="a.py"),
        call("edit_file", path="a.py", old="1", new="2"),
        call("edit_file", path="a.py", old="nowhere", new="2"),
        call("shell", command="cat a.py; ls -la; date > made-by-shell"),
        call("search_in_files", text="= "),
        call("write_file", path="/etc/x", content=""),
        "done",
    ]
    desk.task(script)
    before = {path.name: path.read_bytes() for path in desk.root.iterdir()}
    ran = desk.run(None, "--replay", str(desk.record))
    assert ran.stdout == "No divergence in 6 calls.\n"
    assert {path.name: path.read_bytes() for path in desk.root.iterdir()} == before
    (desk.root / "b.py").write_text("y = 3\n")
    ran = desk.run(None, "--replay", str(desk.record), status=1)
    assert ran.stdout.startswith('Call 5, search_in_files {"text": "= "}, came out otherwise.')
    assert "b.py:1: y = 3" in ran.stdout


def test_the_shell_sees_a_copy_and_what_it_does_is_gone(desk: Desk, jail: None) -> None:
    desk.write({"a.py": "x = 1\n", ".gitignore": "ignored\n", "ignored": "secret words\n", ".git/config": "secret words\n"})
    command = "rm -rf a.py; echo made > made; cat ignored .git/config .env; ls -A; cat /etc/passwd; python3 -c 'import socket; \
socket.create_connection((\"127.0.0.1\", 80))'"
    trajectory = desk.task([call("shell", command=command), "done"])
    (line,) = trajectory.of("call")
    assert "secret words" not in line["observation"]
    assert "root:" not in line["observation"]
    assert "OSError" in line["observation"] or "Error" in line["observation"]
    assert desk.text("a.py") == "x = 1\n"
    assert not (desk.root / "made").exists()


def test_without_a_jail_programs_run_on_a_copy_too(desk: Desk) -> None:
    desk.write({"a.py": "x = 1\n", ".env": "secret words\n"})
    script = [call("shell", command="cat a.py; cat .env; rm a.py; echo made > made"), "done"]
    trajectory = desk.task(script, "--unjailed-because", "a test")
    (line,) = trajectory.of("call")
    assert "x = 1" in line["observation"]
    assert "secret words" not in line["observation"]
    assert sorted(path.name for path in desk.root.iterdir()) == [".env", "a.py"]


@pytest.mark.parametrize(
    ("script", "arguments", "status", "said"),
    [
        (["x"], ("--resume", "nowhere.jsonl"), 2, "cannot be read"),
        (["x"], (), 2, "say what to do"),
        (["x"], ("do", "--output-root", "/"), 2, "outside the workspace"),
        (["x"], ("do", "--allow", "everything"), 1, "no permission"),
        (["x"], ("do", "--max-cost", "1"), 2, "--prices"),
        (["x"], ("do", "--compaction", "maybe"), 2, "--compaction"),
        (["x"], ("do", "--protocol", "telepathy"), 2, "--protocol"),
        (["x"], ("do", "--workspace", "nowhere"), 2, "no folder"),
        ([{"fails": True}], ("do",), 1, "endpoint is gone"),
        ([call("list_files")] * 5, ("do", "--max-steps", "2"), 3, "2 steps"),
        ([call("nothing")] * 5, ("do",), 4, "could not be read"),
    ],
)
def test_exit_statuses(desk: Desk, script: list[Any], arguments: tuple[str, ...], status: int, said: str) -> None:
    ran = desk.run(script, "--non-interactive", *arguments, status=status)
    assert said in ran.stderr


def test_the_embedded_model_has_to_be_installed(desk: Desk) -> None:
    assert "coderl models install" in desk.run(None, "do it", "--non-interactive", status=2).stderr


def test_a_conversation_goes_on_after_an_answer(desk: Desk) -> None:
    script = ["What shall I do?", call("write_file", path="a.txt", content="a\n"), "Made a.txt:1."]
    command = desk.command(script, "--interactive", "--non-interactive", "--allow", "write", "--trajectory", str(desk.record))
    ran = subprocess.run(
        command, cwd=desk.root, input="hello\nmake a.txt\n", capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["What shall I do?", "Made a.txt:1."]
    assert desk.text("a.txt") == "a\n"
    assert [line["status"] for line in read_trajectory(desk.record).of("end")] == ["answered", "answered"]


def test_rows_to_train_on(desk: Desk) -> None:
    desk.task([call("list_files"), "done"])
    rows = [json.loads(line) for line in desk.run(None, "--export-training", str(desk.record)).stdout.splitlines()]
    assert [row["purpose"] for row in rows] == ["act", "act"]


def test_an_endpoint_as_the_trainer_runs_it(desk: Desk) -> None:
    """The command line that the repair environment uses, against a server that takes no tools."""

    def answer(body: dict[str, Any], number: int) -> Answer:
        if "tools" in body:
            return 400, {"error": {"message": "this model does not support tools"}}
        said = '<tool_call>{"name": "apply_patch", "arguments": ' + json.dumps({"patch": patch}) + "}</tool_call>"
        return 200, chunks(said if len(body["messages"]) == 2 else "<answer>Mended.</answer>")

    desk.write({"a.py": "x = 1\n"})
    patch = diff_of("x = 1\n", "x = 2\n", "a.py")
    with serving(answer) as server:
        arguments = ("--output-root", str(desk.root), "--base-url", server.base_url, "--model", "m", "--scaffold", "nano")
        more = ("--non-interactive", "--allow", "write,shell", "--max-steps", "5", "--trajectory", str(desk.record))
        ran = desk.run(None, "mend a.py", *arguments, *more)
    assert ran.stdout == "Mended.\n"
    assert desk.text("a.py") == "x = 2\n"
    assert [len(body.get("tools", ())) for body in server.asked] == [2, 0, 0]
    assert "<tool_call>" in server.asked[1]["messages"][0]["content"]
    assert any("takes no tools" in line["text"] for line in read_trajectory(desk.record).of("notice"))


def test_a_person_at_a_terminal_is_asked_and_always_lasts(desk: Desk) -> None:
    script = [
        call("write_file", path="a.txt", content="a\x1b[2J\n"),
        call("write_file", path="b.txt", content="b\n"),
        call("write_file", path="c.txt", content="c\n"),
        "done",
    ]
    first = at_terminal(desk.command(script, "do it"), desk.root, ["n", "maybe", "always"])
    assert "+a�[2J" in first  # what would have cleared the screen
    assert sorted(path.name for path in desk.root.iterdir()) == ["b.txt", "c.txt"]
    second = at_terminal(desk.command([call("write_file", path="d.txt", content="d\n"), "done"], "do it"), desk.root, [])
    assert "[o]nce" not in second
    assert (desk.root / "d.txt").exists()
    desk.run(None, "--forget-permissions")
    third = at_terminal(desk.command([call("write_file", path="e.txt", content="e\n"), "done"], "do it"), desk.root, ["no"])
    assert "[o]nce" in third
    assert not (desk.root / "e.txt").exists()


def at_terminal(command: list[str], cwd: Path, answers: list[str]) -> str:
    """Run a command on a terminal of its own and answer its questions; what stood on the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execv(command[0], command)
    seen, waiting, until_s = b"", list(answers), time.monotonic() + PATIENCE_S
    try:
        while time.monotonic() < until_s:
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            try:
                part = os.read(terminal, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
            if seen.endswith(b"[n]o: ") and waiting:
                os.write(terminal, f"{waiting.pop(0)}\n".encode())
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, seen.decode()
    assert not waiting, seen.decode()
    return seen.decode()


@pytest.mark.model
@pytest.mark.slow
def test_the_embedded_model_ends_cleanly_whatever_it_says(desk: Desk, embedded_model: Path) -> None:
    desk.write({"a.py": "def add(a, b):\n    return a - b\n"})
    arguments = ("--model", str(embedded_model), "--scaffold", "nano", "--allow", "write", "--max-steps", "4")
    more = ("--max-seconds", "30", "--max-reply-tokens", "32", "--context-tokens", "2048", "--trajectory", str(desk.record))
    command = desk.command(None, "Mend a.py: add has to add.", "--non-interactive", *arguments, *more)
    ran = subprocess.run(
        command, cwd=desk.root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ran.returncode in (0, 3, 4), ran.stderr
    assert "Traceback" not in ran.stderr
    trajectory = read_trajectory(desk.record)
    assert trajectory.end is not None
    assert trajectory.end["spent"]["steps"] <= 4
    replies = list(trajectory.of("reply"))
    assert all(len(reply["token_ids"]) == len(reply["logprobs"]) <= 32 for reply in replies)
