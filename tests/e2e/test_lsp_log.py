"""What a session leaves behind: rows that match what the editor saw, and nothing that the privacy level forbids."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coderl_store.records import (
    Action,
    Context,
    Decision,
    Incident,
    Outcome,
    Privacy,
    Reason,
    Session,
    Suggestion,
)
from coderl_store.repository import Repository
from coderl_store.shadow import Shadow

CANARY = "canary7f3a9c"
"""Stands in the document, in the suggestion and in the path; where it is found again tells what was kept."""
SCRIPT = {
    "rules": [{"pattern": r"never\(\Z", "failure": "hang"}, {"pattern": r"dies\(\Z", "failure": "unavailable"}],
    "default": {"text": f"{CANARY}_said)\n"},
}
SHOW = {"rule": "always_show", "epsilonSkip": 0, "epsilonWithhold": 0, "cooldownS": 0}
URI = f"file:///{CANARY}_path/module.py"


def rows(home: Path, kind: type) -> list[Any]:
    repository = Repository(f"sqlite:///{home / 'coderl.db'}")
    try:
        return list(repository.stream(kind))
    finally:
        repository.close()


def holding(home: Path, text: str) -> list[str]:
    """Names of all files under the home folder that hold the text."""
    files = [file for file in home.rglob("*") if file.is_file()]
    return [str(file.relative_to(home)) for file in files if text.encode() in file.read_bytes()]


def session_of(server: Any) -> list[dict[str, Any]]:
    """A session in which everything happens: shown, withheld, accepted, cancelled, failed."""
    server.open(URI, f"{CANARY}_text = 1\nsum(\nnever(\ndies(\n")
    (item,) = server.complete(URI, 1, 4)
    server.change(URI, 1, 4, 4, item["insertText"])
    server.request("workspace/executeCommand", {"command": server.command, "arguments": item["command"]["arguments"]})
    old = server.start("textDocument/inlineCompletion", server.completion(URI, 2, 6))
    assert server.complete(URI, 3, 5) == []
    assert old.done.wait(30)
    server.settings(rule="never_show")
    assert server.complete(URI, 0, 0) == []
    server.settings(rule="always_show")
    items = [item]
    for _ in range(3):
        items += server.complete(URI, 0, 0)
    return items


def test_the_rows_tell_what_the_editor_saw(start: Callable[..., Any]) -> None:
    server = start(SCRIPT, ("--seed", "3"))
    server.initialize({**SHOW, "privacy": "code"}, clientInfo={"name": "test editor", "version": "1.2"})
    items = session_of(server)
    assert server.stop() == 0
    (session,) = rows(server.home, Session)
    assert (session.client_name, session.client_version, session.seed) == ("test editor", "1.2", 3)
    decisions = sorted(rows(server.home, Decision), key=lambda d: d.id)  # ids tell the order of the requests
    contexts = rows(server.home, Context)
    assert [d.reason for d in decisions] == [
        Reason.ALWAYS_SHOWN,
        Reason.SUPERSEDED,
        Reason.GENERATOR_FAILED,
        Reason.NEVER_SHOWN,
        *[Reason.ALWAYS_SHOWN] * 3,
    ]
    assert [c.id for c in contexts] == [d.context_id for d in decisions]
    shown = {d.id for d in decisions if d.action is Action.SHOW}
    suggestions = {s.id: s for s in rows(server.home, Suggestion)}
    assert {item["command"]["arguments"][0] for item in items} == set(suggestions)
    assert {s.decision_id for s in suggestions.values()} == shown
    assert {s.text for s in suggestions.values()} == {f"{CANARY}_said)"}
    outcomes = rows(server.home, Outcome)
    assert Counter(o.suggestion_id for o in outcomes) == Counter(suggestions.keys()), "exactly one outcome each"
    assert outcomes[0].kind == "accepted"
    assert len({row.id for row in [*decisions, *suggestions.values(), *outcomes]}) == len(decisions) + len(suggestions) * 2
    assert set(server.recorded()) >= {o.id for o in outcomes} | {d.id for d in decisions}
    shadows = rows(server.home, Shadow)
    settled = {o.suggestion_id for o in outcomes if o.accepted_chars or o.detail == "reserved"}
    assert Counter(s.suggestion_id for s in shadows) == Counter(suggestions.keys() - settled), "all others have a label"
    everything = [*contexts, *decisions, *suggestions.values(), *outcomes, *shadows, *rows(server.home, Incident), session]
    assert set(server.recorded()) <= {row.id for row in everything}


def test_a_failing_generator_is_told_once_and_logged(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize(SHOW)
    server.open(URI, "dies(")
    for _ in range(5):
        assert server.complete(URI, 0, 5) == []
        assert server.reason(URI) == "generator_failed"
    assert server.stop() == 0
    assert len(server.told("died")) == 1
    assert [incident.message for incident in rows(server.home, Incident)] == ["the scripted backend died"]
    assert len(rows(server.home, Decision)) == 5


# --- privacy


def test_metrics_leave_no_text_anywhere(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize(SHOW)
    assert server.request("coderl/status")["privacy"] == "metrics"
    session_of(server)
    server.flush()
    assert holding(server.home, CANARY) == []
    assert server.stop() == 0
    assert holding(server.home, CANARY) == []
    assert CANARY not in server.stderr
    assert len(rows(server.home, Suggestion)) == 4


def test_at_code_the_text_is_there(start: Callable[..., Any]) -> None:
    """Or else the tests around would prove nothing."""
    server = start(SCRIPT)
    server.initialize({**SHOW, "privacy": "code"})
    session_of(server)
    assert server.stop() == 0
    assert "coderl.db" in holding(server.home, f"{CANARY}_text")
    assert "coderl.db" in holding(server.home, f"{CANARY}_said")
    assert holding(server.home, f"{CANARY}_path") == []


@pytest.mark.parametrize("by", ["option", "environment", "setting"])
def test_off_leaves_no_rows_at_all(start: Callable[..., Any], by: str) -> None:
    server = start(
        SCRIPT,
        ("--privacy", "off") if by == "option" else (),
        environment={"CODERL_PRIVACY": "off"} if by == "environment" else None,
    )
    server.initialize({**SHOW, "privacy": "off" if by == "setting" else "code"})
    assert server.request("coderl/status")["privacy"] == "off"
    session_of(server)
    assert server.request("coderl/flush")["committed"]
    assert server.stop() == 0
    assert server.recorded() == [], "nothing is acknowledged that was not recorded"
    assert sorted(file.name for file in server.home.rglob("*") if file.is_file()) == ["salt"]


def test_the_command_line_is_a_ceiling_for_the_editor(start: Callable[..., Any]) -> None:
    server = start(SCRIPT, ("--privacy", "metrics"))
    server.initialize({**SHOW, "privacy": "code"})
    session_of(server)
    assert server.request("coderl/status")["privacy"] == "metrics"
    assert len(server.told("privacy")) == 1
    assert server.stop() == 0
    assert holding(server.home, CANARY) == []
    assert len(rows(server.home, Suggestion)) == 4


def test_privacy_may_be_changed_in_mid_session(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize({**SHOW, "privacy": "off"})
    server.open(URI, "sum(")
    server.complete(URI, 0, 4)
    server.settings(privacy="metrics")
    server.complete(URI, 0, 4)
    server.settings(privacy="code")
    server.complete(URI, 0, 4)
    server.settings(privacy="metrics")
    server.complete(URI, 0, 4)
    assert server.stop() == 0
    assert [s.text for s in rows(server.home, Suggestion)] == [None, f"{CANARY}_said)", None]
    repository = Repository(f"sqlite:///{server.home / 'coderl.db'}")
    assert len(list(repository.requests())) == 3, "each row finds its session"
    repository.close()


def test_a_file_of_secrets_is_never_read(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize({**SHOW, "privacy": "code"})
    other = server.open("file:///project/main.py", "sum(")
    server.complete(other, 0, 4)
    server.flush()
    before = server.recorded()
    for uri in ("file:///project/.env", "file:///project/%2Eenv.local", "file:///home/me/.ssh/config", "untitled:key.pem"):
        server.open(uri, f"PASSWORD={CANARY}_secret\n", language="dotenv")
        server.change(uri, 1, 0, 0, "sum(")
        for invoked in (False, True):
            assert server.complete(uri, 1, 4, invoked=invoked) == []
            assert server.reason(uri) == "secret_file"
        # Several in one packet, of which all but the last are superseded.
        asked = [server.ask("textDocument/inlineCompletion", server.completion(uri, 0, 9)) for _ in range(5)]
        server.send(*(message for message, _ in asked))
        assert asked[-1][1].result() == {"items": []}
    server.flush()
    assert server.recorded() == before, "not even that somebody typed in it"
    assert server.stop() == 0
    assert holding(server.home, f"{CANARY}_secret") == []
    assert len(rows(server.home, Decision)) == 1


def test_no_code_reaches_standard_error_even_when_the_client_errs(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize(SHOW)
    server.open(URI, f"{CANARY} = 1")
    server.notify("textDocument/didChange", {"textDocument": {"uri": URI}, "contentChanges": [{"text": [CANARY]}]})
    server.notify("textDocument/didOpen", {"textDocument": {"uri": URI, "text": CANARY}})
    server.notify("coderl/outcome", {"id": 5, "kind": CANARY})
    server.send({"id": 900, "method": "workspace/executeCommand", "params": {"command": CANARY, "arguments": [CANARY]}})
    server.send({"id": 901, "method": CANARY, "params": [CANARY]})
    server.raw(b"Content-Length: 10\r\n\r\n" + CANARY.encode() * 10)
    assert server.request("coderl/status")["kind"] == "Normal"
    server.flush()
    server.process.stdin.close()
    server.wait()
    assert CANARY not in server.stderr
    assert holding(server.home, CANARY) == []


# --- what is missing or broken when the server starts


def test_without_a_model_it_says_once_what_to_run_and_stays_silent(start: Callable[..., Any]) -> None:
    server = start()
    server.initialize()
    server.open(URI, "sum(")
    for _ in range(3):
        assert server.complete(URI, 0, 4, invoked=True) == []
        assert server.reason(URI) == "no_model"
    assert server.request("coderl/status")["kind"] == "Warning"
    assert server.stop() == 0
    assert len(server.told("coderl models install")) == 1
    assert [decision.reason for decision in rows(server.home, Decision)] == ["no_model"] * 3
    assert len(rows(server.home, Incident)) == 1


@pytest.mark.parametrize("content", [None, "{", "{}", '{"format": 99}'])
def test_a_broken_gate_is_one_clear_sentence(start: Callable[..., Any], tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "gate"
    if content is not None:
        folder.mkdir()
        (folder / "artifact.json").write_text(content)
    server = start(SCRIPT, gate_folder=folder)
    assert server.wait() == 2
    assert server.stderr.startswith("coderl: ")
    assert str(folder) in server.stderr
    assert server.stderr.count("\n") == 1


def test_a_broken_active_gate_is_replaced_by_the_shipped_one_and_said(start: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "gate").mkdir(parents=True)
    (home / "gate" / "active").write_text("no-such-artifact\n")
    server = start(SCRIPT, home=home, gate_folder=None)
    server.initialize(SHOW)
    server.open(URI, "sum(")
    assert len(server.complete(URI, 0, 4)) == 1
    assert server.request("coderl/status")["kind"] == "Warning"
    assert server.stop() == 0
    assert len(server.told("the shipped one decides")) == 1


def test_a_model_file_that_is_not_there_is_said_to_the_client_once(start: Callable[..., Any]) -> None:
    server = start(arguments=("--model", "/no/such/model.gguf"))
    server.initialize()
    server.open(URI, "sum(")
    assert server.complete(URI, 0, 4) == []
    assert server.stop() == 0
    assert len(server.told("model.gguf")) == 1
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--tcp", "nowhere"),
        ("--tcp", "localhost:99999"),
        ("--clock", "sundial"),
        ("--origin", "mars"),
        ("--privacy", "some"),
        ("--log-level", "loud"),
        ("--database", "mysql://x"),
        ("--database", "sqlite://"),
        ("--backend", "nonsense"),
        ("--backend", "openai"),
        ("--backend", "openai", "--endpoint", "localhost:8000"),
        ("--backend", "scripted", "--script", "/no/such/script.json"),
    ],
)
def test_an_option_that_makes_no_sense_is_exit_code_two(start: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    server = start(SCRIPT, arguments)
    assert server.wait() == 2
    assert server.stderr.startswith("coderl: ")
    assert server.stderr.count("\n") == 1


def test_a_dead_endpoint_is_an_empty_list_and_one_message(start: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    server = start(arguments=("--backend", "openai", "--endpoint", f"http://127.0.0.1:{port}/v1", "--model", "m"))
    server.initialize({**SHOW, "privacy": "metrics"})
    server.open(URI, f"{CANARY} = sum(")
    for _ in range(3):
        started_s = time.monotonic()
        assert server.complete(URI, 0, len(CANARY) + 7) == []
        assert time.monotonic() - started_s < 20
        assert server.reason(URI) == "generator_failed"
    assert server.stop() == 0
    assert len(server.told()) == 1
    assert [incident.code for incident in rows(server.home, Incident)] == ["generator"]
    assert holding(server.home, CANARY) == []
    assert "Traceback" not in server.stderr


def test_two_servers_share_one_home(start: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "home"
    servers = [start(SCRIPT, home=home) for _ in range(2)]
    for server in servers:
        server.initialize(SHOW)
        server.open(URI, "sum(")
    for _ in range(10):
        for server in servers:
            assert len(server.complete(URI, 0, 4)) == 1
    recorded = set()
    for server in servers:
        assert server.stop() == 0
        recorded |= set(server.recorded())
    assert len(rows(home, Session)) == 2
    assert len({session.user_key for session in rows(home, Session)}) == 1
    found = [row.id for kind in (Session, Context, Decision, Suggestion, Outcome, Shadow) for row in rows(home, kind)]
    assert len(rows(home, Outcome)) == 20
    assert recorded <= set(found)
    assert len(found) == len(set(found)) + 20, "a decision has the id of its context, all else is unique"
    assert list((home / "spool").glob("*")) == []


def test_privacy_has_three_levels() -> None:
    """The tests above name each of them."""
    assert {level.value for level in Privacy} == {"off", "metrics", "code"}
