"""A workspace, and a run of the agent in it with a scripted model, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coderl_generator.agent.app import Place, RunConfig, Session
from coderl_generator.agent.calls import RawCall
from coderl_generator.agent.chat_scripted import Line, ScriptedChat
from coderl_generator.agent.loop import Ended
from coderl_generator.agent.permissions import Kind, Permissions, Rule
from coderl_generator.agent.toolbox import Observation
from coderl_generator.agent.trajectory import Recorder, Trajectory, read_trajectory
from coderl_generator.agent.workspace import Workspace
from coderl_generator.jail import Jail

EVERYTHING = (Rule(Kind.WRITE), Rule(Kind.SHELL))


@dataclass
class Heard:
    """A listener that remembers."""

    texts: list[str] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def heard(self, text: str) -> None:
        self.texts.append(text)

    def called(self, call: RawCall, observation: Observation) -> None:
        self.observations.append(observation)

    def noticed(self, text: str) -> None:
        self.notices.append(text)


@dataclass
class Ran:
    """A run that ended."""

    ended: Ended
    session: Session
    heard: Heard
    trajectory: Trajectory


@dataclass
class Bench:
    """Runs a script in a workspace."""

    root: Path
    record: Path
    now_s: float = 0.0

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text, encoding="utf-8")

    def text(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def run(
        self,
        script: Sequence[Any],
        *,
        task: str = "do it",
        permissions: Permissions | None = None,
        jail: Jail | None = None,
        native: bool = True,
        resume: bool = False,
        say: str = "",
        **config: Any,
    ) -> Ran:
        settings = RunConfig(model="scripted", **config)
        workspace = Workspace(self.root, self.root / settings.output_root, protected=(self.record,), dry_run=settings.dry_run)
        place = Place(workspace, permissions or Permissions(EVERYTHING), jail)
        earlier = read_trajectory(self.record) if resume else None
        said = sum(1 for _ in earlier.of("reply")) if earlier else 0
        model = ScriptedChat([Line.of(one) for one in script], native_tools=native, said=said)
        heard = Heard()
        recorder = Recorder(self.record, self.clock)
        session = Session(settings, place, model, recorder, heard, self.clock)
        with closing(recorder):
            ended = session.resume(earlier, say) if earlier else session.begin(task)
        return Ran(ended, session, heard, read_trajectory(self.record))

    def clock(self) -> float:
        self.now_s += 0.001
        return self.now_s


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"calls": [{"name": tool, "arguments": arguments}]}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = tmp_path / "workspace"
    root.mkdir()
    return Bench(root, tmp_path / "record.jsonl")


@pytest.fixture
def calling() -> Callable[..., dict[str, Any]]:
    return call
