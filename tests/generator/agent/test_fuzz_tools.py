"""Ten thousand calls with arguments that no well-meaning model writes: nothing is read or written outside the bounds."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from coderl_generator.agent.calls import RawCall, read_call
from coderl_generator.agent.permissions import Kind, Permissions, Rule
from coderl_generator.agent.scaffolds import Scaffold, tools_of
from coderl_generator.agent.search_tool import SearchCode, ShownHits
from coderl_generator.agent.shell_tools import Runner, Shell
from coderl_generator.agent.toolbox import MOST_OBSERVED_CHARS, Outcome, Toolbox
from coderl_generator.agent.workspace import Workspace
from coderl_generator.errors import MalformedCall
from coderl_generator.jail import Guarantee, Jail, Job, Limits, Ran, Status

CALLS = 10_000
CANARY = "canary-9f1c"
"""Stands in every file that must not be read."""


class NoJail(Jail):
    """Runs nothing; remembers what it was given."""

    name = "double"

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def guarantees(self, limits: Limits) -> frozenset[Guarantee]:
        return frozenset()

    def run(self, job: Job, limits: Limits) -> Ran:
        self.jobs.append(job)
        return Ran(Status.FINISHED, 0, b"", b"", 0.0, 0.0, frozenset())

    def converse(self, code: object, limits: Limits) -> None:  # type: ignore[override]
        raise NotImplementedError


def outside_of(tmp_path: Path) -> dict[str, bytes]:
    """Every file that the agent must neither read nor write."""
    root = tmp_path / "ws"
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    private = [path for path in files if not path.is_relative_to(root / "out")]
    return {str(path): path.read_bytes() for path in private}


def build(tmp_path: Path) -> Path:
    root = tmp_path / "ws"
    for folder in (
        root / "src",
        root / "out" / "deep",
        root / ".git",
        root / "ignored",
        tmp_path / "outside",
        tmp_path / "ws2",
    ):
        folder.mkdir(parents=True)
    (root / "src" / "a.py").write_text("x = 1\n")
    (root / "out" / "b.txt").write_text("one\ntwo\n")
    (root / ".gitignore").write_text("ignored/\n")
    for secret in (
        root / ".git" / "config",
        root / ".env",
        root / "ignored" / "c",
        tmp_path / "outside" / "d",
        tmp_path / "ws2" / "e",
    ):
        secret.write_text(CANARY)
    (root / "out" / "link").symlink_to(tmp_path / "outside")
    (root / "out" / "file").symlink_to("../../outside/d")
    (root / "out" / "git").symlink_to("../.git")
    (root / "loop").symlink_to("loop")
    os.link(tmp_path / "outside" / "d", root / "out" / "hard-to-write-through")
    (root / "out" / "hard-to-write-through").unlink()
    return root


def mangled(generator: random.Random, root: Path) -> str:
    """A path, most likely a bad one."""
    pieces = ["..", ".", "", "out", "src", "a.py", "b.txt", "link", "file", "git", ".git", "config", ".env", "ignored",
              "c", "d", "loop", "outside", "ws2", "e", "\0", "\n", "\x1b[2J", "\u202e", "%2e%2e", "..\\..",
              "~", "é" * 100, "x" * 300, "\ud800",
              "/", "//", "C:", "a:b#", ".GIT", "deep", " ", "new.txt", "/dev/zero", "/proc/self/environ", str(root),
              str(root.parent / "outside" / "d"), f"{root}2/e"]  # fmt: skip
    return generator.choice(["/", "", "./", ""]) + "/".join(generator.choices(pieces, k=generator.randint(1, 5)))


def text(generator: random.Random) -> str:
    kinds: list[Callable[[], str]] = [
        lambda: "",
        lambda: "one\n",
        lambda: generator.choice(["x", "\r\n", "\0", "\ud83d", "é", "\x1b]0;x\x07"]) * generator.choice([1, 7, 4000]),
        lambda: "".join(
            chr(generator.choice([0, 9, 10, 13, 27, 127, 133, 0x202E, 0xD800, 0xFFFF, 0x10FFFF, 97])) for _ in range(40)
        ),
        lambda: "z" * 5_000_000 if generator.random() < 0.01 else "z",
    ]
    return generator.choice(kinds)()


def arguments_of(generator: random.Random, name: str, root: Path) -> dict[str, object]:
    path = mangled(generator, root)
    if name == "apply_patch":
        head = generator.choice(
            [f"--- a/{path}\n+++ b/{path}\n", f"--- /dev/null\n+++ b/{path}\n", f"--- a/{path}\n+++ /dev/null\n"]
        )
        return {"patch": f"{head}@@ -1 +1 @@\n-{text(generator)[:50]}\n+{text(generator)[:50]}\n" * generator.randint(0, 2)}
    made: dict[str, dict[str, object]] = {
        "read_file": {"path": path, "start": generator.choice([1, 0, -5, 10**12]), "end": generator.choice([1, -1, 10**30])},
        "list_files": {"path": path},
        "search_in_files": {"text": generator.choice(["x", CANARY, text(generator)]), "path": path},
        "write_file": {"path": path, "content": text(generator)},
        "edit_file": {"path": path, "old": generator.choice(["one", "", text(generator)]), "new": text(generator)},
        "search_code": {"query": generator.choice([CANARY, "one", text(generator)])},
        "shell": {"command": f"cat {path}; {text(generator)[:200]}"},
    }
    arguments = made.get(name, {"path": path})
    if generator.random() < 0.1:
        arguments = {
            **arguments,
            generator.choice(["mode", "path", "sudo"]): generator.choice([None, 3, True, [], {"a": 1}, path]),
        }
    return arguments


def test_ten_thousand_calls_stay_inside(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    seed = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"FUZZ_SEED={seed}")  # shown where the test fails
    record_property("seed", seed)
    generator = random.Random(seed)
    root = build(tmp_path)
    before = outside_of(tmp_path)
    workspace = Workspace(root, root / "out")
    jail = NoJail()
    runner = Runner(jail, workspace)
    tools = {tool.spec.name: tool for scaffold in Scaffold for tool in tools_of(scaffold, workspace, runner, "true")}
    shown = ShownHits(root)
    search = SearchCode(workspace, shown, lambda: None)
    tools[search.spec.name] = search
    box = Toolbox(tuple(tools.values()), workspace, Permissions((Rule(Kind.WRITE), Rule(Kind.SHELL))), shown)
    names = [*tools, "no_such_tool"]
    outcomes: dict[str, int] = {}
    for number in range(CALLS):
        name = generator.choice(names)
        if name in ("shell", "run_tests") and generator.random() < 0.9:
            name = "write_file"  # each packs the workspace
        raw = RawCall(str(number), name, json.dumps(arguments_of(generator, name, root)))
        if generator.random() < 0.03:
            raw = RawCall(str(number), name, raw.arguments[: generator.randint(0, 30)])
        try:
            observation = box.run(read_call(raw, box.specs))
        except MalformedCall as error:
            leaked = CANARY in str(error) and CANARY not in raw.arguments
            outcomes["malformed"] = outcomes.get("malformed", 0) + 1
            if leaked:
                raise
            continue
        outcomes[observation.outcome] = outcomes.get(observation.outcome, 0) + 1
        assert CANARY not in observation.text or CANARY in raw.arguments, raw
        assert len(observation.text) <= MOST_OBSERVED_CHARS + 100, raw
        assert not any(ord(char) < 32 and char not in "\n\t" for char in observation.text), raw
        for change in observation.changes:
            assert change.path.parts[0] == "out", raw
        if number % 500 == 0:
            assert outside_of(tmp_path) == before, raw
    assert outside_of(tmp_path) == before
    assert not any(CANARY.encode() in job.stdin for job in jail.jobs)
    assert {"done", "failed", "refused", "malformed"} <= set(outcomes), outcomes
    assert Outcome.DENIED not in outcomes
    assert isinstance(tools["shell"], Shell)


@pytest.mark.parametrize("link", ["src", "out"])
def test_the_walls_of_the_fuzz_would_be_seen_to_fall(tmp_path: Path, link: str) -> None:
    """The check above can fail: a change outside is seen."""
    root = build(tmp_path)
    before = outside_of(tmp_path)
    target = root / "src" / "a.py" if link == "src" else root / "out" / "b.txt"
    target.write_text("changed\n")
    assert (outside_of(tmp_path) != before) is (link == "src")
