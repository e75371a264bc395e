"""A run put together from its configuration: new, resumed or replayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

from coderl_generator.errors import BadTrajectory, MalformedCall, PathRefused, ToolFailed
from coderl_generator.jail import Jail

from .budget import Budget, Spent
from .calls import RawCall, read_text
from .chat import ChatModel, Sampling
from .citations import Citation, citations
from .compaction import Compactor, Mode
from .conversation import Conversation, Origin
from .loop import Agent, Ended, Listener
from .permissions import Permissions
from .planning import REMINDER, RevisePlan, make_plan
from .retrieval import Embedder
from .scaffolds import Scaffold, system_text, tools_of
from .search_tool import SearchCode, ShownHits
from .shell_tools import Runner
from .toolbox import MOST_OBSERVED_CHARS, Tool, Toolbox, diff_of_changes
from .trajectory import FORMAT, Recorder, Trajectory, bytes_of_json
from .workspace import Change, Workspace


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a run is made of, as its record keeps it; what was permitted is not part of it and has to be said again."""

    output_root: str = "."
    """Relative to the workspace."""
    scaffold: str = Scaffold.FULL
    model: str = "embedded"
    base_url: str = ""
    use_rag: bool = False
    use_planning: bool = False
    dry_run: bool = False
    test_command: str = ""
    compaction: str = Mode.AUTO
    context_tokens: int = 32_768
    max_steps: int = 30
    max_tokens: int | None = None
    max_seconds: float | None = 1800.0
    max_cost: float | None = None
    prompt_price: float = 0.0
    reply_price: float = 0.0
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    max_reply_tokens: int = 2048
    hidden: Sequence[str] = ()
    """Patterns of files that are not read, beside those of secrets."""

    @classmethod
    def of(cls, trajectory: Trajectory) -> RunConfig:
        """That of a recorded run. Raises `BadTrajectory`."""
        known = {one.name for one in fields(cls)}
        config = trajectory.start.get("config")
        if not isinstance(config, dict) or set(config) - known:
            raise BadTrajectory(f"{trajectory.path} was written by another version of simplecoder")
        return cls(**config)

    def budget(self) -> Budget:
        """Its limits."""
        return Budget(self.max_steps, self.max_tokens, self.max_seconds, self.max_cost, self.prompt_price, self.reply_price)

    def sampling(self) -> Sampling:
        """How it decodes."""
        return Sampling(self.temperature, self.top_p, self.seed, self.max_reply_tokens)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run works and with what: things of this machine, which no record keeps."""

    workspace: Workspace
    permissions: Permissions
    jail: Jail | None
    """None = there is none here; tools that run programs are then left out."""
    programs: tuple[str, ...] = ()
    """Folders with programs for the jail."""
    embedder: Callable[[], Embedder | None] = lambda: None
    """Makes the sentence model of the search by meaning."""


class Session:
    """One run, from its first message to its end, which may be several answers long."""

    def __init__(
        self,
        config: RunConfig,
        place: Place,
        model: ChatModel,
        recorder: Recorder,
        listener: Listener,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.place, self.recorder = config, place, recorder
        toolbox = toolbox_of(config, place, recorder)
        self.agent = Agent(
            model=model,
            toolbox=toolbox,
            conversation=Conversation(recorder),
            recorder=recorder,
            budget=config.budget(),
            sampling=config.sampling(),
            compactor=Compactor(Mode(config.compaction), config.context_tokens),
            listener=listener,
            now_s=now_s,
            system=lambda native: system_text(toolbox.specs, native_tools=native),
            after_failure=REMINDER if config.use_planning else "",
        )

    def begin(self, task: str) -> Ended:
        """A new run. Never raises what `Agent.run` does not."""
        self._write_start(task, resumed=False)
        system = self.agent.system(self.agent.model.native_tools)
        self.agent.conversation.add(Origin.SYSTEM, {"role": "system", "content": system})
        return self._run(task, plan=self.config.use_planning)

    def go_on(self, said: str) -> Ended:
        """What a person says next, and the run until the next end."""
        return self._run(said)

    def resume(self, trajectory: Trajectory, said: str = "") -> Ended:
        """Take up a recorded run where it was. Raises `BadTrajectory` where the model calls tools in another way."""
        if trajectory.native_tools != self.agent.model.native_tools:
            ways = ("the text protocol", "calls of the endpoint's own")
            raise BadTrajectory(
                f"this run calls tools by {ways[trajectory.native_tools]}, and the model {self.agent.model.name} does not"
            )
        self._write_start(trajectory.start["task"], resumed=True)
        agent = self.agent
        agent.conversation.resume(trajectory)
        for line in trajectory.of("reply"):
            agent.spent = Spent(**line["spent"])
        for line in trajectory.of("call"):
            for name, before in line.get("before", {}).items():
                agent.before.setdefault(name, bytes_of_json(before))
        entries = agent.conversation.entries
        agent.open_calls = _open_calls(trajectory, agent.conversation, agent.spent.steps)
        if not entries:  # killed before a word was said
            agent.conversation.add(Origin.SYSTEM, {"role": "system", "content": agent.system(agent.model.native_tools)})
        if not said and not any(one.origin is Origin.USER for one in entries):
            said = trajectory.start["task"]
        if not said and not agent.open_calls and entries[-1].origin is Origin.MODEL:
            agent.conversation.add(Origin.LOOP, {"role": "user", "content": "The run was interrupted here. Go on."})
        return self._run(said, plan=self.config.use_planning and not any(trajectory.of("plan")))

    def _run(self, said: str, *, plan: bool = False) -> Ended:
        def first() -> None:
            if said:
                self.agent.conversation.add(Origin.USER, {"role": "user", "content": said})
            if plan:
                make_plan(self.agent.conversation, self.recorder, self.agent.ask)

        ended = self.agent.run(first)
        cited = citations(ended.answer, self.place.workspace)
        self.recorder.write(
            "end",
            status=str(ended.status),
            detail=ended.detail,
            answer=ended.answer,
            citations=[asdict(one) for one in cited],
            spent=ended.spent.to_json(),
            cost=self.agent.budget.price(ended.spent),
            diff=self.diff(),
        )
        return ended

    def bad_citations(self, ended: Ended) -> list[Citation]:
        """Those of an answer that name no place."""
        return [one for one in citations(ended.answer, self.place.workspace) if one.objection]

    def diff(self) -> str:
        """All that the run changed, as one unified diff; a file that cannot be read any more is left out."""
        changes = []
        for name, before in sorted(self.agent.before.items()):
            path = PurePosixPath(name)
            with suppress(ToolFailed, PathRefused):
                after = self.place.workspace.read_if_there(path)
                if after != before:
                    changes.append(Change(path, before, after))
        return diff_of_changes(changes)

    def _write_start(self, task: str, *, resumed: bool) -> None:
        self.recorder.write(
            "start",
            format=FORMAT,
            task=task,
            workspace=str(self.place.workspace.root),
            config=asdict(self.config),
            native_tools=self.agent.model.native_tools,
            version=version("coderl"),
            resumed=resumed,
        )


def toolbox_of(config: RunConfig, place: Place, recorder: Recorder) -> Toolbox:
    """The tools of a configuration, in a place."""
    runner = Runner(place.jail, place.workspace, place.programs) if place.jail else None
    shown = ShownHits(place.workspace.root)
    search = (SearchCode(place.workspace, shown, place.embedder),) if config.use_rag else ()
    further: Sequence[Tool] = (*search, *((RevisePlan(recorder),) if config.use_planning else ()))
    tools = tools_of(Scaffold(config.scaffold), place.workspace, runner, config.test_command, further)
    most_chars = min(MOST_OBSERVED_CHARS, config.context_tokens)  # a quarter of a small context
    return Toolbox(tools, place.workspace, place.permissions, shown, most_chars)


def _open_calls(trajectory: Trajectory, conversation: Conversation, turn: int) -> tuple[tuple[RawCall, bool], ...]:
    """The calls of the last reply that have no observation, each with whether it was begun. `turn`: number of that reply."""
    after: list[dict[str, Any]] = []
    for line in trajectory.of("message", "begun", "call"):
        after = [] if line["kind"] == "message" and line["origin"] == Origin.MODEL else [*after, line]
    last = next((one.message for one in reversed(conversation.entries) if one.origin is Origin.MODEL), {})
    made = tuple(
        RawCall(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in last.get("tool_calls", ())
    )
    if not made:
        with suppress(MalformedCall):  # then there are none
            made = read_text(str(last.get("content") or ""), turn)[1]
    answered = {line["id"] for line in after if line["kind"] == "call"}
    begun = {line["id"] for line in after if line["kind"] == "begun"}
    return tuple((one, one.id in begun) for one in made if one.id not in answered)
