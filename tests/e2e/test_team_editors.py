"""Editors on a team's server, each in a process of its own: what they were told is safe is there, once, whatever happened."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from coderl_store.home import StoreSettings, hashed, home, salt
from coderl_store.records import RECORD_TYPES, Action, Decision, Evidence, Outcome, OutcomeKind, Session, Suggestion
from coderl_store.repository import Repository

from .test_serve import run, serving

pytestmark = pytest.mark.timeout(1200)
URI = "file:///module.py"
SHOW = {"rule": "always_show", "epsilonSkip": 0, "epsilonWithhold": 0, "cooldownS": 0, "maxDebounceMs": 0}
TEAM_SAYS, LOCAL_SAYS = "team_word)", "local_word)"
PATIENCE_S = 120.0


def script(folder: Path, text: str) -> Path:
    file = folder / f"{text.strip(')')}.json"
    file.write_text(json.dumps({"default": {"text": f"{text}\n"}}))
    return file


@pytest.fixture
def model(tmp_path: Path) -> tuple[str, ...]:
    """Options of a server whose model says `TEAM_SAYS`."""
    return "--backend", "scripted", "--script", str(script(tmp_path, TEAM_SAYS))


def token_of(name: str) -> str:
    return str(json.loads(run("token", "create", "--role", "ingest", "--user", name, "--json").stdout)["token"])


def on_server(*kinds: type) -> list[Any]:
    repository = Repository(StoreSettings.from_environment().database_url)
    try:
        return [record for kind in kinds or RECORD_TYPES for record in repository.stream(kind)]
    finally:
        repository.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], what: str) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.1)


def says(editor: Any, text: str) -> bool:
    """Whether what is suggested now is `text`. The document is another one each time, so nothing is remembered."""
    editor.change(URI, 0, 0, 0, "a")
    return any(text in item["insertText"] for item in editor.complete(URI, 1, 4))


def begun(editor: Any, **settings: Any) -> None:
    editor.initialize({**SHOW, **settings})
    editor.open(URI, "text = 1\nsum(\n")


def accept(editor: Any) -> str:
    """Take a suggestion, as an editor does; its id."""
    (item,) = editor.complete(URI, 1, 4)
    editor.change(URI, 1, 4, 4, item["insertText"])
    arguments = item["command"]["arguments"]
    editor.request("workspace/executeCommand", {"command": editor.command, "arguments": arguments})
    return str(arguments[0])


def told_safe(*editors: Any) -> set[str]:
    return {key for editor in editors for key in editor.recorded()}


def gates_of(editor: Any) -> list[Path]:
    """The server's gates on its disk; they come beside the requests."""
    return list(editor.home.glob("servers/*/gates/*/artifact.json"))


def waiting(editor: Any) -> int:
    return int(editor.request("coderl/status")["pending"])


def test_two_editors_report_to_one_server(start: Callable[..., Any], model: tuple[str, ...], tmp_path: Path) -> None:
    tokens = {name: token_of(name) for name in ("ada", "bob")}
    file = tmp_path / "token"
    file.write_text(tokens["bob"] + "\n")
    with serving(*model) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert ", 2 tokens); model: scripted" in server.line
        assert server.line.rstrip().endswith(f"; pages: {url}/dashboard")
        ada = start(arguments=("--server", url), environment={"CODERL_TOKEN": tokens["ada"]}, gate_folder=None)
        bob = start(arguments=("--server", url, "--token-file", str(file)), gate_folder=None)
        taken = {}
        for name, editor in (("ada", ada), ("bob", bob)):
            begun(editor)
            until(lambda editor=editor: says(editor, TEAM_SAYS), "The team's model never spoke.")
            taken[name] = accept(editor)
            assert editor.request("coderl/status")["generator"] == "scripted"
            assert editor.request("coderl/generator", {})["generator"] == "scripted"
            until(lambda editor=editor: len(gates_of(editor)) == 1, "The team's gate never came.")
        safe = told_safe(ada, bob)
        assert [editor.stop() for editor in (ada, bob)] == [0, 0]
        safe |= told_safe(ada, bob)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE_S)
    keys = {name: hashed(salt(home()), name) for name in tokens}
    sessions = {session.user_key: session for session in on_server(Session)}
    assert set(sessions) == set(keys.values())
    outcomes = {outcome.suggestion_id: outcome for outcome in on_server(Outcome)}
    for name, suggestion_id in taken.items():
        outcome = outcomes[suggestion_id]
        assert (outcome.session_id, outcome.kind, outcome.evidence) == (
            sessions[keys[name]].id,
            OutcomeKind.ACCEPTED,
            Evidence.COMMAND,
        )
    assert {decision.generator_id for decision in on_server(Decision) if decision.action is Action.SHOW} == {"scripted"}
    assert all(suggestion.text is None and suggestion.logprobs for suggestion in on_server(Suggestion))
    assert safe <= {record.id for record in on_server()}
    for editor in (ada, bob):
        assert not (editor.home / "coderl.db").exists()
        assert not list(editor.home.rglob("*.jsonl")), "Something still waits in the spool."
        assert len(gates_of(editor)) == 1
        assert "token" not in (editor.stderr + "".join(editor.told())).lower()


def test_the_server_goes_away_and_comes_back(start: Callable[..., Any], model: tuple[str, ...], tmp_path: Path) -> None:
    port = free_port()
    local = ("--backend", "scripted", "--script", str(script(tmp_path, LOCAL_SAYS)))
    with serving("--port", str(port), *model) as server:
        editor = start(arguments=("--server", f"http://127.0.0.1:{port}", *local), gate_folder=None)
        begun(editor)
        until(lambda: says(editor, TEAM_SAYS), "The team's model never spoke.")
        assert editor.request("coderl/status")["kind"] == "Normal"
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE_S)
    until(lambda: says(editor, LOCAL_SAYS), "This machine's model never took over.")
    status = editor.request("coderl/status")
    assert (status["kind"], "Suggestions come from scripted on this machine" in status["message"]) == ("Warning", True)
    assert len(editor.told("The team's server cannot be reached")) >= 1
    accept(editor)
    assert waiting(editor) > 0
    with serving("--port", str(port), *model):
        editor.change(URI, 1, 4, 4 + len(LOCAL_SAYS), "")
        until(lambda: says(editor, TEAM_SAYS), "The team's model never came back.")
        until(lambda: waiting(editor) == 0, "What waited was never taken.")
        assert editor.request("coderl/status")["kind"] == "Normal"
        assert editor.stop() == 0
    with serving("--port", str(port)):
        until(lambda: told_safe(editor) <= {record.id for record in on_server()}, "Something was lost.")
    sessions, decisions = on_server(Session), on_server(Decision)
    assert len(sessions) == 1
    assert len({decision.id for decision in decisions}) == len(decisions)
    assert {outcome.kind for outcome in on_server(Outcome)} >= {OutcomeKind.ACCEPTED}


def test_an_editor_that_never_reaches_its_server_sends_later(start: Callable[..., Any], tmp_path: Path) -> None:
    port = free_port()
    server_option = ("--server", f"http://127.0.0.1:{port}")
    local = ("--backend", "scripted", "--script", str(script(tmp_path, LOCAL_SAYS)))
    editor = start(arguments=(*server_option, *local), gate_folder=None, home=tmp_path / "editor")
    begun(editor)
    assert says(editor, LOCAL_SAYS)
    until(lambda: editor.request("coderl/status")["kind"] == "Warning", "Nothing was said.")
    editor.process.kill()
    editor.wait()
    assert list(editor.home.glob("servers/*/spool/*.jsonl"))
    with serving("--port", str(port)):
        later = start(arguments=(*server_option, *local), gate_folder=None, home=tmp_path / "editor")
        begun(later)
        until(lambda: "serves no model" in later.request("coderl/status")["message"], "Nothing was said.")
        assert says(later, LOCAL_SAYS)
        assert later.stop() == 0
        safe = told_safe(editor, later)
        until(lambda: safe <= {record.id for record in on_server()}, "Something was lost.")
    assert len(on_server(Session)) == 2


@contextmanager
def deaf_proxy(port: int, lost: int) -> Iterator[int]:
    """Passes everything on, but cuts the connection where the answer to a batch of records comes, the first `lost` times."""
    left, lock = [lost], threading.Lock()

    def cut(request: bytes) -> bool:
        with lock:
            doomed = b"POST /v1/records" in request and left[0] > 0
            left[0] -= doomed
            return doomed

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
            sent = bytearray()

            def upwards() -> None:
                with suppress(OSError):
                    while data := client.recv(65536):
                        sent.extend(data)
                        server.sendall(data)
                    server.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=upwards, daemon=True)
            thread.start()
            while data := server.recv(65536):
                if cut(bytes(sent)):
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(data)
                sent.clear()

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept_all() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept_all, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    assert left == [0], "No answer was lost."


def test_lost_acknowledgements_lose_and_double_nothing(start: Callable[..., Any], model: tuple[str, ...]) -> None:
    with serving(*model) as server, deaf_proxy(server.port, lost=4) as port:
        editor = start(arguments=("--server", f"http://127.0.0.1:{port}"), gate_folder=None)
        begun(editor)
        until(lambda: says(editor, TEAM_SAYS), "The team's model never spoke.")
        accept(editor)
        until(lambda: waiting(editor) == 0, "The records were never taken.")
        assert editor.stop() == 0
        safe = told_safe(editor)
        until(lambda: safe <= {record.id for record in on_server()}, "Something was lost.")
        with server.client as client:
            figures = client.get("/metrics").text
    sent = float(next(line for line in figures.splitlines() if line.startswith("coderl_records_total{")).rsplit(" ", 1)[1])
    records = on_server()
    assert sent > len(records), "Nothing was sent twice: the test tested nothing."
    assert len({(type(record), record.id) for record in records}) == len(records)


def test_what_cannot_work_is_said_at_the_start() -> None:
    for options, words in (
        (("--server", "team.example"), "must be the address of a team server"),
        (("--server", "http://me:pass@team.example"), "must not hold a name or a password"),
        (("--server", "http://team.example", "--token-file", "/nowhere"), "cannot be read"),
        (("--server", "http://team.example", "--clock", "client"), "needs the system's clock"),
    ):
        refused = run("lsp", *options)
        assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
    for options, words in (
        (("--model", "embedded"), "--backend too"),
        (("--backend", "llamacpp"), "coderl models install"),
        (("--backend", "openai"), "needs --endpoint"),
    ):
        refused = run("serve", "--port", "0", *options)
        assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
