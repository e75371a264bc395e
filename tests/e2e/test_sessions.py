"""Recorded sessions of real clients, played into a real server: as many answers, of the same kinds, and the same outcomes.

The fixtures `sessions/<client>.jsonl` are made by `python -m tests.editors.record_sessions` (its head says what is in them).
The server runs on the recorded time. Compared are kinds of answers, messages to the user, and outcomes; not the texts of
answers nor what the gate computed, which may change with the server.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from coderl_server.recording.format import ClockMoved, FromClient, FromServer, read_recording
from coderl_store.records import Outcome
from coderl_store.repository import Repository

SESSIONS = sorted((Path(__file__).parent / "sessions").glob("*.jsonl"))
FOLDER = "${FOLDER}"
CLIENTS = ("emacs", "helix", "neovim", "neovim_plugin", "pytest_lsp", "vscode")
MAX_BYTES = 100_000
PATIENCE_S = 60.0


def kind(answer: Mapping[str, Any]) -> str:
    """Of an answer: its error code, whether it holds items, or that it is another result."""
    if "error" in answer:
        return f"error {answer['error']['code']}"
    result = answer["result"]
    if isinstance(result, dict) and "items" in result:
        return "items" if result["items"] else "no items"
    return "null" if result is None else "result"


class Playback:
    """One recording against one server."""

    def __init__(self, server: Any, folder: Path) -> None:
        self._server = server
        self._names = {FOLDER: str(folder)}
        """What stands in the recording → what it is in this playback: the folder, ids of suggestions, our command."""
        self._pending: dict[str, tuple[str, Any, int]] = {}
        """JSON of a recorded request's id → its method, its answer to come, and its id in this playback."""
        self._settling: Any = None
        self._over = self._exited = False
        self.recorded: dict[str, str] = {}
        self.answers: dict[str, str] = {}
        """JSON of a recorded request's id → the kind of its answer, then and now."""
        self.told: list[str] = []
        """What the user was shown in the recording."""

    def play(self, recording: Path) -> None:
        for event in read_recording(recording).events:
            match event:
                case ClockMoved(t_ms):
                    self._settle()
                    self._settling = self._server.start("coderl/clock", {"now_ms": t_ms, "settle": True})
                case FromClient(_, message, _):
                    self._send(self._here(message))
                case FromServer(_, message):
                    self._expect(message)
        for key, (method, pending, _) in self._pending.items():
            pending.done.wait(PATIENCE_S)
            assert pending.done.is_set() or method == "shutdown", f"no answer to {method} {key}"
            if pending.done.is_set():
                self.answers[key] = kind(pending.message)

    def leave(self) -> int:
        """The end as the client did it: `exit` or, where it just closed, the end of its output; else a polite one of ours.

        Returns the exit code; that of a server which was never told to exit does not count.
        """
        if not self._over:
            return int(self._server.stop())
        if not self._exited:
            self._server.process.stdin.close()
        code = int(self._server.wait())
        return code if self._exited else 0

    def _here(self, message: Mapping[str, Any]) -> dict[str, Any]:
        text = json.dumps(message)
        for recorded, name in self._names.items():
            text = text.replace(recorded, name)
        here: dict[str, Any] = json.loads(text)
        return here

    def _settle(self) -> None:
        if self._settling is not None and not self._over:
            self._settling.result(PATIENCE_S)
        self._settling = None

    def _send(self, message: dict[str, Any]) -> None:
        self._settle()
        method, params = message.get("method", ""), message.get("params")
        assert method, "none of the recorded servers asks its client"
        if method == "initialize":
            params["processId"] = os.getpid()
        elif method == "$/cancelRequest":
            _, _, params["id"] = self._pending[json.dumps(params["id"])]
        self._over = self._over or method == "shutdown"
        self._exited = self._exited or method == "exit"
        if "id" in message:
            asked, pending = self._server.ask(method, params)
            self._pending[json.dumps(message["id"])] = method, pending, asked["id"]
            self._server.send(asked)
        else:
            self._server.send({"method": method, **({} if params is None else {"params": params})})

    def _expect(self, message: Mapping[str, Any]) -> None:
        if message.get("method") == "window/showMessage":
            self.told.append(message["params"]["message"])
        if "method" in message:
            return
        key = json.dumps(message["id"])
        method, pending, _ = self._pending[key]
        assert pending.done.wait(PATIENCE_S), f"no answer to {method} {key}"
        self.recorded[key] = kind(message)
        self._learn(message.get("result"), pending.message.get("result"))

    def _learn(self, recorded: Any, played: Any) -> None:
        """What the client repeats later has another name now."""
        if not isinstance(recorded, dict) or not isinstance(played, dict):
            return
        for then, now in zip(recorded.get("items") or [], played.get("items") or [], strict=False):
            self._names[then["command"]["arguments"][0]] = now["command"]["arguments"][0]
        if "capabilities" in recorded:
            then, now = (one["capabilities"]["executeCommandProvider"]["commands"][0] for one in (recorded, played))
            self._names[then] = now


@pytest.mark.parametrize("recording", SESSIONS, ids=lambda path: path.stem)
def test_a_recorded_session_goes_as_it_went(start: Callable[..., Any], tmp_path: Path, recording: Path) -> None:
    header = json.loads(recording.read_text(encoding="utf-8").splitlines()[0])
    server = start(header["script"], ("--seed", str(header["seed"]), "--clock", "client"), gate_folder=None)
    playback = Playback(server, tmp_path)
    playback.play(recording)
    assert playback.leave() == 0
    assert server.stderr == ""
    assert server.impure == server.unexpected == []
    assert {key: playback.answers[key] for key in playback.recorded} == playback.recorded
    # Of requests whose answer the client did not wait for: none fails.
    assert not [said for key, said in playback.answers.items() if key not in playback.recorded and said.startswith("error")]
    assert server.told() == playback.told
    if len(logged(server.home)) < len(header["outcomes"]):
        # On a busy machine the server ends with records still in its spool; the next one puts them into the database.
        following = start(header["script"], home=server.home, gate_folder=None)
        following.initialize()
        following.flush()
        assert following.stop() == 0
    assert logged(server.home) == header["outcomes"]


def logged(home: Path) -> list[list[Any]]:
    """Kind, evidence, detail and accepted characters of every outcome, sorted as in the fixtures."""
    if not (home / "coderl.db").exists():
        return []
    repository = Repository(f"sqlite:///{home / 'coderl.db'}")
    try:
        return sorted([str(one.kind), str(one.evidence), one.detail, one.accepted_chars] for one in repository.stream(Outcome))
    finally:
        repository.close()


def test_there_is_a_session_of_every_client_and_it_names_no_machine() -> None:
    assert tuple(path.stem for path in SESSIONS) == CLIENTS
    for path in SESSIONS:
        text = path.read_text(encoding="utf-8")
        assert len(text) < MAX_BYTES, path
        places = re.findall(r'"(?:uri|rootUri|rootPath|path)":"([^"]+)"', text)
        assert places, path
        assert all(place.removeprefix("file://").startswith(FOLDER) for place in places), path
        assert not re.search(r'"(?:file://)?/[^"]', text), path
