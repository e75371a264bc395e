"""The measurement: two servers that type the same files in turn, then the server and the bare backend in turn.

The second server is the baseline: the same, with `reuse`, `anchor` and `workAhead` off (nothing remembered, nothing joined, no
steps of the text window, nothing read or written before it is asked for). llama.cpp's own cache of the last prompt stays on in
both. They take turns after some keys, so that what else the machine does falls on both. The overhead follows
`benchmarks/bench_server.py`: one key after the other at one place, each awaited, in a server without reuse and in the bare
backend of this process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from rich.console import Console

from coderl_gate.costs import CostParameters
from coderl_generator.backend import Backend
from coderl_generator.complete import Budget, complete
from coderl_generator.prompt import Place
from coderl_generator.registry import backend as build_backend
from coderl_store.home import default_database_url
from coderl_store.records import Decision, Suggestion

from ..errors import InputError, ServerFailed
from ..simulate.options import SimulateOptions, Typescript, read_typescripts
from .figures import LatencyReport, Overhead, Side, joined, spent
from .typist import LAST_ANSWER_S, TimedEditor, Typist, warm

MODULES: Final = ("textwrap", "fnmatch", "csv", "shlex", "calendar", "bisect")
"""Of Python's own library: what is typed where no file is named."""
TURN_KEYS: Final = 40
OVERHEAD_HEAD_CHARS: Final = 1200
OVERHEAD_TOKENS: Final = 16
QUIET: Final = ("epsilonSkip", "epsilonWithhold")
"""No random trials: both servers should do the same."""
PLAIN: Mapping[str, object] = MappingProxyType({"reuse": False, "anchor": False, "workAhead": False})
"""What the second server has switched off."""


@dataclass(frozen=True, slots=True)
class LatencyOptions:
    """What to measure. Raises InputError for impossible values."""

    files: tuple[Path, ...] = ()
    """None = modules of Python's own library."""
    seed: int = 0
    chars_per_second: float = 5.0
    max_chars: int = 400
    """Per file."""
    max_seconds: float = 300.0
    """For typing, both servers together. The start of the servers and the overhead come on top."""
    overhead_pairs: int = 30
    plain: bool = True
    """Type into the baseline too."""
    backend: str = "llamacpp"
    model: str = "embedded"
    endpoint: str = ""
    script: Path | None = None
    gate: Path | None = None
    settings: Mapping[str, object] | None = None
    """More settings for the servers, in their wire names."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_seconds < float("inf"):
            raise InputError(f"The number of max seconds must be at least 1, not {self.max_seconds:g}.")
        if self.overhead_pairs < 0:
            raise InputError(f"The number of overhead pairs must be at least 0, not {self.overhead_pairs}.")

    def typing(self, home: Path) -> SimulateOptions:
        """The files and how they are typed. Raises InputError."""
        return SimulateOptions(
            files=self.files or standard_files(),
            seed=self.seed,
            chars_per_second=self.chars_per_second,
            max_chars=self.max_chars,
            script=self.script,
            backend="scripted" if self.backend == "openai" else self.backend,
            home=home,
            privacy="metrics",
        )

    def command(self) -> list[str]:
        """The server's command line."""
        command = [sys.executable, "-m", "coderl_server", "lsp", "--seed", str(self.seed), "--origin", "simulated"]
        command += ["--backend", self.backend]
        given = (("--model", self.model), ("--endpoint", self.endpoint), ("--script", self.script), ("--gate", self.gate))
        for flag, value in given:
            if value:
                command += [flag, str(value)]
        return command

    def bare(self) -> Backend | None:
        """The backend as it is, in this process; None where that says nothing (a scripted one) or cannot be built so."""
        if self.backend == "llamacpp":
            return build_backend("llamacpp", model_path=self.model)
        if self.backend == "openai":
            return build_backend("openai", base_url=self.endpoint, model=self.model)
        return None


def standard_files() -> tuple[Path, ...]:
    """Modules of Python's own library that are there as source."""
    specs = [find_spec(name) for name in MODULES]
    found = [Path(spec.origin) for spec in specs if spec is not None and spec.origin is not None]
    return tuple(path for path in found if path.suffix == ".py")


def measure(options: LatencyOptions, console: Console | None = None) -> LatencyReport:
    """Measure. Progress goes to `console`.

    Raises InputError for files that cannot be typed, ServerFailed where a server dies, and the generator's errors where the
    bare backend cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="coderl-latency-") as folder:
        return asyncio.run(_Measurement(options, Path(folder), console).run())


class _Measurement:
    def __init__(self, options: LatencyOptions, folder: Path, console: Console | None) -> None:
        self._options = options
        self._folder = folder
        self._console = console
        self._scripts = read_typescripts(options.typing(folder / "typing"))

    async def run(self) -> LatencyReport:
        options = self._options
        names = ["server", "plain"] if options.plain else ["server"]
        async with AsyncExitStack() as stack:
            servers = []
            for name in names:
                server = _Server(options, self._folder / name, {} if name == "server" else dict(PLAIN))
                stack.push_async_callback(server.quit)
                self._say(f"{name}: starting")
                await server.start()
                servers.append(server)
            await self._type(servers)
            sides = [await server.finish() for server in servers]
        messages = [message for server in servers for message in server.messages]
        return LatencyReport(options.seed, sides[0], sides[1] if options.plain else None, await self._overhead(), messages)

    async def _type(self, servers: Sequence[_Server]) -> None:
        until_s = asyncio.get_running_loop().time() + self._options.max_seconds
        turn = 0
        for script in self._scripts:
            if asyncio.get_running_loop().time() >= until_s:
                self._say(f"{script.path.name}: left out, the time is up")
                continue
            for server in servers:
                await server.typist.open(script)
            while asyncio.get_running_loop().time() < until_s and not all(server.typist.done for server in servers):
                turn += 1
                for server in servers if turn % 2 else tuple(reversed(servers)):
                    await server.typist.type_keys(TURN_KEYS, until_s)
                keys = " and ".join(str(server.typist.keystrokes) for server in servers)
                self._say(f"{script.path.name}: {keys} keys typed")
            for server in servers:
                await server.typist.leave()

    async def _overhead(self) -> Overhead | None:
        options, script = self._options, self._scripts[0]
        bare = options.bare() if options.overhead_pairs else None
        if bare is None:
            return None
        settings = {
            "reuse": False,
            "workAhead": False,
            "maxDebounceMs": 0,  # a wait for the next key is no overhead
            "rule": "always_show",
            "mode": "line",
            "maxTokens": OVERHEAD_TOKENS,
            "deadlineMs": LAST_ANSWER_S * 1000,
        }
        server = _Server(options, self._folder / "overhead", settings)
        self._say("overhead: the server and the bare backend in turn")
        try:
            await server.start()
            return await _in_turn(server.editor, bare, script, options.overhead_pairs)
        finally:
            await server.quit()
            await bare.aclose()

    def _say(self, sentence: str) -> None:
        if self._console is not None:
            self._console.print(sentence, highlight=False, markup=False)


class _Server:
    """One server process with its own log, and who types into it."""

    def __init__(self, options: LatencyOptions, home: Path, settings: Mapping[str, object]) -> None:
        self._options = options
        self._typing = options.typing(home)
        self._home = home
        self._settings = {**dict.fromkeys(QUIET, 0), **(options.settings or {}), **settings}
        self._warm = 0
        self._before: Mapping[str, Any] = {}
        self.editor = TimedEditor(version("coderl"))
        self.typist = Typist(self.editor, CostParameters(typing_chars_per_s=options.chars_per_second))

    @property
    def messages(self) -> Sequence[str]:
        return self.editor.messages

    async def start(self) -> None:
        await self.editor.start(self._options.command(), self._typing.environment(os.environ), self._settings)
        self.editor.watch_writer()
        self._warm = await warm(self.editor)
        self._before = await self.editor.ask("coderl/counters", {})

    async def finish(self) -> Side:
        """Read the log and the counters. Raises ServerFailed where the log does not hold every request."""
        counted = spent(self._before, await self.editor.ask("coderl/counters", {}))
        if not (await self.editor.ask("coderl/flush", {}))["committed"]:
            raise ServerFailed("The log was not written in time, so it cannot be said what the requests came to.")
        from coderl_store.repository import Repository

        repository = Repository(default_database_url(self._home.resolve()))
        try:
            decisions = sorted(repository.stream(Decision), key=lambda decision: decision.id)[self._warm :]
            measured = joined(self.typist.timed, decisions, repository.stream(Suggestion))
        except ValueError as error:
            raise ServerFailed("The log does not hold one decision for each request.") from error
        finally:
            repository.close()
        return Side(measured, counted, self.typist.keystrokes)

    async def quit(self) -> None:
        await self.editor.quit()


async def _in_turn(editor: TimedEditor, bare: Backend, script: Typescript, pairs: int) -> Overhead:
    """One key after the other; who is first changes with each. The first pair reads the whole prompt and is not counted."""
    text = script.text[: script.start] + script.text[script.start : script.end]
    start = text.find("\n", min(len(text) // 2, OVERHEAD_HEAD_CHARS)) + 1
    before, keys = text[:start], text[start : start + pairs]
    budget = Budget(max_tokens=OVERHEAD_TOKENS, timeout_s=LAST_ANSWER_S)
    await editor.open(script.uri, script.language, before, "")
    server_ms: list[float] = []
    bare_ms: list[float] = []
    different = 0
    for index, key in enumerate(("", *keys)):
        if key:
            editor.insert(key)
        place = Place(editor.text, "", script.language, script.path.name)
        alone, served, offered = 0.0, 0.0, ""
        for who in ("server", "bare") if index % 2 else ("bare", "server"):
            if who == "server":
                served, offered = await _served(editor)
            else:
                completion = await complete(bare, place, budget, time.perf_counter)
                alone, written = completion.latency_ms, completion.text
        if index == 0:
            continue
        if offered != (written if written.strip() else ""):
            different += 1
            continue
        server_ms.append(served)
        bare_ms.append(alone)
    return Overhead(server_ms, bare_ms, different)


async def _served(editor: TimedEditor) -> tuple[float, str]:
    """Milliseconds of an answer, and what it offers."""
    asked, sent_s = editor.timed_request()
    answer = asyncio.wrap_future(asked.future)
    await asyncio.wait([answer], timeout=LAST_ANSWER_S)
    if not asked.answered:
        raise ServerFailed(f"The server gave no answer in {LAST_ANSWER_S:.0f} s.")
    items = asked.items()
    ms = (editor.arrived_s(asked) - sent_s) * 1000.0
    return ms, editor.offer(items[0]).new_text if items else ""
