"""A session of an editor (a script that talks frames in real time) with the server, recorded by the proxy and played again."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coderl_server.framing import FrameParser, encode_frame
from coderl_server.recording import play
from coderl_server.recording.format import FromClient, FromServer, read_recording

Oracle = Callable[..., Path]
URI = "file:///project/source.py"


class RawEditor:
    """Types into a server process in real time, frame by frame; knows no LSP library."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.seen: list[dict[str, Any]] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        parser = FrameParser()
        while data := await self._process.stdout.read(1 << 16):
            for frame in parser.feed(data):
                assert isinstance(frame, dict)
                self.seen.append(frame)
                if "method" not in frame:
                    self._answers[frame["id"]].set_result(frame)

    def tell(self, method: str, params: object, **more: object) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **more}).encode()
        self._process.stdin.write(encode_frame(body))

    async def ask(self, method: str, params: object) -> Any:
        number = len(self._answers) + 1
        self._answers[number] = asyncio.get_running_loop().create_future()
        self.tell(method, params, id=number)
        return (await asyncio.wait_for(self._answers[number], 30))["result"]

    async def type_file(self, text: str) -> int:
        """Type 150 characters, asking every ten; accept the first item offered. Returns how many items were offered."""
        await self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        self.tell("initialized", {})
        self.tell("textDocument/didOpen", {"textDocument": {"uri": URI, "languageId": "python", "version": 1, "text": ""}})
        line = column = offered = 0
        for index, char in enumerate(text[:150]):
            here = {"line": line, "character": column}
            change = {"range": {"start": here, "end": here}, "text": char}
            document = {"uri": URI, "version": index + 2}
            self.tell("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
            line, column = (line + 1, 0) if char == "\n" else (line, column + 1)
            await asyncio.sleep(0.002)
            if index % 10 == 9:
                place = {"textDocument": {"uri": URI}, "position": {"line": line, "character": column}}
                answer = await self.ask("textDocument/inlineCompletion", {**place, "context": {"triggerKind": 2}})
                if answer["items"]:
                    offered += 1
                    self.tell("textDocument/didShowCompletion", {"item": answer["items"][0]})
                    await asyncio.sleep(0.06)  # a heartbeat of the clock
        return offered

    async def leave(self, *, politely: bool) -> int:
        if politely:
            await self.ask("shutdown", None)
            self.tell("exit", None)
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = await asyncio.wait_for(self._process.wait(), 30)
        await self._reader
        return code


def recorded(out: Path, server: list[str], text: str, *, politely: bool = True) -> tuple[int, int]:
    """Record a session; returns the exit status and how many items were offered."""
    return asyncio.run(_recorded(out, server, text, politely))


async def _recorded(out: Path, server: list[str], text: str, politely: bool) -> tuple[int, int]:
    command = [sys.executable, "-m", "coderl_server", "record", "--grace-ms", "20000", str(out), "--", *server]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(os.environ))
    editor = RawEditor(process)
    offered = await editor.type_file(text)
    code = await editor.leave(politely=politely)
    assert process.stderr is not None
    assert b"will hold the text" in await process.stderr.read()
    assert not any(str(message.get("id", "")).startswith("coderl-recorder/") for message in editor.seen)
    return code, offered


@pytest.fixture
def server(small_gate: Path, oracle: Oracle) -> list[str]:
    command = [sys.executable, "-m", "coderl_server", "lsp", "--backend", "scripted", "--script", str(oracle(0.1))]
    return [*command, "--gate", str(small_gate), "--seed", "11"]


@pytest.mark.slow
def test_a_recorded_session_plays_again_byte_for_byte(tmp_path: Path, source: Path, server: list[str], oracle: Oracle) -> None:
    out = tmp_path / "session.jsonl"
    code, offered = recorded(out, server, source.read_text(encoding="utf-8"))
    assert code == 0
    assert offered > 0
    assert_both_sides_in_order(out)
    recording = read_recording(out)
    assert recording.header.seed == 11
    assert recording.decisions is not None
    assert len(recording.decisions) == 15
    assert len({json.loads(line)["fields"]["at"] for line in recording.decisions}) > 1

    same = play(out)
    assert same.same, same.to_json()
    assert (same.decisions_played, same.answers_differing) == (15, 0)

    # Another seed: other coins.
    command = list(recording.header.command)
    command[command.index("--seed") + 1] = "12"
    seeded = play(out, command).first_divergence
    assert seeded is not None
    assert "coin_before" in seeded.fields

    # Another generator behind the same command: shorter suggestions, so other costs, other thresholds.
    oracle(0.1).write_text('{"default": {"text": "pass"}}', encoding="utf-8")
    changed = play(out)
    assert changed.first_divergence is not None
    assert {"costs", "tau"} <= set(changed.first_divergence.fields)
    assert changed.decisions_played == 15


def assert_both_sides_in_order(out: Path) -> None:
    events = read_recording(out).events
    times = [event.t_ms for event in events]
    assert times == sorted(times)
    asked = [event.msg["id"] for event in events if isinstance(event, FromClient) and "id" in event.msg]
    answered = [event.msg["id"] for event in events if isinstance(event, FromServer) and "method" not in event.msg]
    assert sorted(asked) == sorted(answered) == list(range(1, len(asked) + 1))


def test_an_editor_that_just_leaves_is_recorded_to_the_end(tmp_path: Path, source: Path, server: list[str]) -> None:
    out = tmp_path / "session.jsonl"
    recorded(out, server, source.read_text(encoding="utf-8"), politely=False)
    report = play(out)
    assert report.same, report.to_json()
    assert report.decisions_recorded == 15
