"""The language server over a real pipe: what every client of the protocol may rely on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import converters, types

from coderl_server.settings import Settings, wire_name
from coderl_store.repository import Repository

SLOW = {"pattern": r"slow\(\Z", "text": "one two three four five six seven eight nine ten", "delay_ms": 300}
SCRIPT = {
    "rules": [
        SLOW,
        {"pattern": r"tick\(\Z", "text": "one two three four five six seven eight nine ten", "delay_ms": 10},
        {"pattern": r"never\(\Z", "failure": "hang"},
        {"pattern": r"dies\(\Z", "text": "one", "failure": "unavailable"},
        {"pattern": r"refuses\(\Z", "failure": "refused"},
        {"pattern": r"late\(\Z", "failure": "timeout"},
        {"pattern": r"silent\(\Z", "text": ""},
        {"pattern": r"long\(\Z", "text": ", ".join(f"argument_{n}" for n in range(30))},
        {"pattern": r"self\.co\Z", "text": "unt += 1"},
    ],
    "default": {"text": "values)\n"},
}
PLAIN = {"rule": "always_show", "epsilonSkip": 0, "epsilonWithhold": 0, "cooldownS": 0, "privacy": "code", "eagerness": 0}
DEFAULTS = {
    wire_name(name): getattr(Settings(), name)
    for name in ("enabled", "manual_only", "min_idle_ms", "max_suggestion_chars", "max_document_chars", "deadline_ms")
}
CANARY = "canary_7f3a9c"
numbers = count()


@pytest.fixture(scope="module")
def server(start_shared: Callable[..., Any]) -> Iterator[Any]:
    server = start_shared(SCRIPT, ("--seed", "7"))
    server.initialize({**PLAIN})
    yield server
    assert server.stop() == 0, server.stderr
    assert "Traceback" not in server.stderr, server.stderr


@pytest.fixture
def client(server: Any) -> Any:
    server.settings(**PLAIN, **DEFAULTS)
    server.request("coderl/snooze", {"minutes": 0})
    return server


@pytest.fixture
def uri() -> str:
    return f"file:///project/module_{next(numbers)}.py"


def stored(client: Any, kind: type) -> list[Any]:
    client.flush()
    repository = Repository(f"sqlite:///{client.home / 'coderl.db'}")
    try:
        return list(repository.stream(kind))
    finally:
        repository.close()


# --- initialize


def test_the_answer_to_initialize_fits_the_protocol_and_names_what_is_offered(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    answer = server.initialize()
    result = converters.get_converter().structure(answer, types.InitializeResult)
    assert answer["capabilities"]["inlineCompletionProvider"] == {}
    assert answer["capabilities"]["textDocumentSync"]["change"] == types.TextDocumentSyncKind.Incremental
    assert result.server_info is not None
    assert result.server_info.name == "coderl"
    assert server.stop() == 0


def test_each_server_has_a_command_name_of_its_own(start: Callable[..., Any], server: Any) -> None:
    other = start(SCRIPT)
    other.initialize()
    assert other.command != server.command
    assert other.command.startswith("coderl.")
    assert other.stop() == 0


@pytest.mark.parametrize(
    ("offered", "chosen", "bytes_per_unit"),
    [
        (("utf-8",), "utf-8", 1),
        (("utf-16",), "utf-16", 2),
        (("utf-32", "utf-16"), "utf-32", 4),
        (("utf-9000", "utf-32"), "utf-32", 4),
        ((), "utf-16", 2),
    ],
)
def test_positions_are_counted_in_the_encoding_that_was_agreed_on(
    start: Callable[..., Any], uri: str, offered: tuple[str, ...], chosen: str, bytes_per_unit: int
) -> None:
    def units(text: str) -> int:
        return len(text.encode(f"{chosen}-le" if bytes_per_unit > 1 else chosen)) // bytes_per_unit

    server = start(SCRIPT)
    answer = server.initialize(PLAIN, encodings=offered)
    assert answer["capabilities"]["positionEncoding"] == chosen
    before = "größe = '😀€'; sum("
    server.open(uri, before)
    (item,) = server.complete(uri, 0, units(before))
    end = {"line": 0, "character": units(before)}
    assert item["range"] == {"start": end, "end": end}
    assert item["insertText"] == "values)"
    # Behind an astral character the text that was typed is found again, and the range is in the client's units.
    server.open(uri, "'😀'; self.co")
    width = units("'😀'; self.co")
    (item,) = server.complete(uri, 0, width)
    assert item["insertText"] == "count += 1"
    assert item["range"]["start"]["character"] == width - 2
    assert server.stop() == 0


def test_a_second_initialize_is_refused_and_changes_nothing(client: Any, refused: type[Exception]) -> None:
    with pytest.raises(refused) as caught:
        client.request("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
    assert caught.value.code == types.ErrorCodes.InvalidRequest
    assert client.request("coderl/status")["kind"] == "Normal"


def test_before_initialize_requests_are_refused_and_notifications_ignored(
    start: Callable[..., Any], refused: type[Exception], uri: str
) -> None:
    server = start(SCRIPT)
    server.open(uri, "sum(")
    for method, params in (("textDocument/inlineCompletion", server.completion(uri, 0, 4)), ("coderl/status", None)):
        with pytest.raises(refused) as caught:
            server.request(method, params)
        assert caught.value.code == types.ErrorCodes.ServerNotInitialized
    server.initialize(PLAIN)
    assert server.complete(uri, 0, 4) == []
    assert server.reason(uri) == "unknown_document"
    assert server.stop() == 0


def test_after_shutdown_requests_are_refused_but_answered(
    start: Callable[..., Any], refused: type[Exception], uri: str
) -> None:
    server = start(SCRIPT)
    server.initialize(PLAIN)
    server.open(uri, "sum(")
    server.request("shutdown")
    with pytest.raises(refused) as caught:
        server.complete(uri, 0, 4)
    assert caught.value.code == types.ErrorCodes.InvalidRequest
    server.notify("exit")
    assert server.wait() == 0


# --- suggestions


def test_a_suggestion_has_an_empty_range_in_mid_line(client: Any, uri: str) -> None:
    client.open(uri, "total = sum(  # all of them")
    (item,) = client.complete(uri, 0, 12)
    place = {"line": 0, "character": 12}
    assert item["range"] == {"start": place, "end": place}
    assert item["insertText"] == item["filterText"] == "values)"
    assert item["command"]["command"] == client.command
    converters.get_converter().structure({"items": [item]}, types.InlineCompletionList)


def test_at_the_end_of_a_line_the_range_begins_where_the_token_does(client: Any, uri: str) -> None:
    client.open(uri, "class A:\n    def f(self):\n        self.co")
    (item,) = client.complete(uri, 2, 15)
    assert item["range"] == {"start": {"line": 2, "character": 13}, "end": {"line": 2, "character": 15}}
    assert item["insertText"] == item["filterText"] == "count += 1"


def test_withheld_is_an_empty_list(client: Any, uri: str) -> None:
    client.settings(rule="never_show")
    client.open(uri, "sum(")
    assert client.request("textDocument/inlineCompletion", client.completion(uri, 0, 4)) == {"items": []}
    assert client.reason(uri) == "never_shown"


def test_an_invoked_request_is_shown_whatever_the_gate_thinks(client: Any, uri: str) -> None:
    client.settings(rule="never_show")
    client.open(uri, "sum(")
    assert len(client.complete(uri, 0, 4, invoked=True)) == 1
    assert client.reason(uri) == "asked_for"


@pytest.mark.parametrize(
    ("place", "reason"),
    [("dies(", "generator_failed"), ("refuses(", "generator_failed"), ("silent(", "empty"), ("long(", "too_large")],
)
def test_what_goes_wrong_with_the_generator_is_an_empty_list_with_its_reason(
    client: Any, uri: str, place: str, reason: str
) -> None:
    client.settings(maxSuggestionChars=30)
    client.open(uri, place)
    assert client.complete(uri, 0, len(place)) == []
    assert client.reason(uri) == reason


def test_a_deadline_ends_a_slow_generation(client: Any, uri: str) -> None:
    client.settings(deadlineMs=30)
    client.open(uri, "late(")
    assert client.complete(uri, 0, 5) == []
    assert client.reason(uri) in ("empty", "timed_out")


def test_a_superseded_request_is_cancelled_and_the_newer_one_answered(client: Any, uri: str, refused: type[Exception]) -> None:
    client.open(uri, "slow(\nsum(")
    old = client.start("textDocument/inlineCompletion", client.completion(uri, 0, 5))
    assert len(client.complete(uri, 1, 4)) == 1
    with pytest.raises(refused) as caught:
        old.result()
    assert caught.value.code == types.LSPErrorCodes.RequestCancelled
    assert client.reason(uri) == "always_shown"


def test_two_requests_in_one_packet_are_answered_once_each(client: Any, uri: str, refused: type[Exception]) -> None:
    client.open(uri, "sum(")
    asked = [client.ask("textDocument/inlineCompletion", client.completion(uri, 0, 4)) for _ in range(20)]
    client.send(*(message for message, _ in asked))
    for _, pending in asked[:-1]:
        with pytest.raises(refused) as caught:
            pending.result()
        assert caught.value.code == types.LSPErrorCodes.RequestCancelled
    assert len(asked[-1][1].result()["items"]) == 1
    assert client.reason(uri) == "always_shown", "why is about the request that came last, not the answer that did"


def test_a_request_in_another_document_supersedes_nothing(client: Any, uri: str) -> None:
    other = client.open(f"{uri}x.py", "sum(")
    client.open(uri, "tick(")
    first = client.start("textDocument/inlineCompletion", client.completion(uri, 0, 5))
    assert len(client.complete(other, 0, 4)) == 1
    assert len(first.result()["items"]) == 1


def test_a_cancelled_request_stops_decoding_and_is_answered_as_cancelled(
    client: Any, uri: str, refused: type[Exception]
) -> None:
    client.open(uri, "never(")
    message, pending = client.ask("textDocument/inlineCompletion", client.completion(uri, 0, 6))
    client.send(message)
    client.notify("$/cancelRequest", {"id": message["id"]})
    with pytest.raises(refused) as caught:
        pending.result()
    assert caught.value.code == types.LSPErrorCodes.RequestCancelled
    assert client.reason(uri) == "superseded"


def test_cancelling_what_is_unknown_or_done_changes_nothing(client: Any, uri: str) -> None:
    client.open(uri, "sum(")
    message, pending = client.ask("textDocument/inlineCompletion", client.completion(uri, 0, 4))
    client.send(message)
    pending.result()
    for key in (message["id"], 987654, "text"):
        client.notify("$/cancelRequest", {"id": key})
    assert len(client.complete(uri, 0, 4)) == 1


def test_a_change_in_the_same_packet_does_not_reach_the_request_before_it(client: Any, uri: str) -> None:
    client.open(uri, "self.co")
    message, pending = client.ask("textDocument/inlineCompletion", client.completion(uri, 0, 7))
    change = client.change_params(uri, {"text": "something else entirely"})
    change["textDocument"]["version"] = 1  # with a new version the answer would be stale, and empty for that reason
    client.send(message, {"method": "textDocument/didChange", "params": change})
    items = pending.result()["items"]
    assert [item["insertText"] for item in items] == ["count += 1"]


# --- documents


def test_a_document_nobody_opened_is_not_read(client: Any, tmp_path: Path) -> None:
    file = tmp_path / "real.py"
    file.write_text("sum(")
    assert client.complete(file.as_uri(), 0, 4) == []
    assert client.reason(file.as_uri()) == "unknown_document"


def test_a_closed_document_is_forgotten(client: Any, uri: str) -> None:
    client.open(uri, "sum(")
    client.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert client.complete(uri, 0, 4) == []
    assert client.reason(uri) == "unknown_document"


def test_changes_with_crlf_line_ends_arrive_where_they_belong(client: Any, uri: str) -> None:
    client.open(uri, "import os\r\n\r\nx = 1\r\n")
    client.change(uri, 1, 0, 0, "self.c")
    client.change(uri, 1, 6, 6, "o")
    (item,) = client.complete(uri, 1, 7)
    assert item["insertText"] == "count += 1"
    from coderl_store.records import Context

    context = stored(client, Context)[-1]
    assert context.prefix == "import os\r\nself.co"
    assert context.suffix == "\r\nx = 1\r\n"


@pytest.mark.parametrize("text", ["\ud800 sum(", "\x00 sum(", "﻿ sum(", "é̂ sum("])
def test_odd_characters_break_nothing(client: Any, uri: str, text: str) -> None:
    client.open(uri, text)
    assert len(client.complete(uri, 0, len(text.encode("utf-8", "surrogatepass")))) == 1
    client.flush()


def test_a_place_beyond_the_text_is_the_nearest_one_in_it(client: Any, uri: str) -> None:
    client.open(uri, "sum(")
    (item,) = client.complete(uri, 2**31 - 1, 2**31 - 1)
    assert item["range"]["start"] == {"line": 0, "character": 4}


def test_too_large_a_document_gets_nothing(client: Any, uri: str) -> None:
    client.settings(maxDocumentChars=1000)
    client.open(uri, "#" * 1000 + "\nsum(")
    assert client.complete(uri, 1, 4) == []
    assert client.reason(uri) == "too_large"


# --- settings


def test_settings_apply_live_and_a_bad_key_costs_only_itself(client: Any, uri: str) -> None:
    client.open(uri, "sum(")
    client.settings(enabled="yes", manualOnly=True, noSuchKey=1)
    assert client.complete(uri, 0, 4) == []
    assert client.reason(uri) == "manual_only"
    assert len(client.complete(uri, 0, 4, invoked=True)) == 1
    assert len(client.told("coderl.enabled must be true or false")) == 1
    assert len(client.told("Unknown setting coderl.noSuchKey")) == 1
    client.settings(manualOnly=False)
    assert len(client.complete(uri, 0, 4)) == 1


def test_numbers_no_computer_can_hold_are_refused_like_others(client: Any, uri: str) -> None:
    client.settings(maxTokens=10**400, deadlineMs=-(10**400), minIdleMs=float("nan"), eagerness=float("inf"))
    client.request("coderl/status")
    for key in ("maxTokens", "deadlineMs", "minIdleMs", "eagerness"):
        assert len(client.told(f"coderl.{key} must be")) == 1
    client.open(uri, "sum(")
    assert len(client.complete(uri, 0, 4)) == 1


@pytest.mark.parametrize("settings", [None, 3, [], {"coderl": 3}, {"coderl": None}, {"other": {}}])
def test_settings_of_any_shape_are_survived(client: Any, uri: str, settings: Any) -> None:
    client.notify("workspace/didChangeConfiguration", {"settings": settings})
    client.open(uri, "sum(")
    assert len(client.complete(uri, 0, 4)) == 1


def test_a_language_is_switched_off_and_on(client: Any, uri: str) -> None:
    client.open(uri, "sum(", language="cobol")
    client.settings(languages={"cobol": False})
    assert client.complete(uri, 0, 4) == []
    assert client.reason(uri) == "disabled"
    client.settings(languages={"cobol": True})
    assert len(client.complete(uri, 0, 4)) == 1


def test_prose_is_off_by_itself(client: Any) -> None:
    uri = client.open("file:///project/README.md", "sum(", language="markdown")
    assert client.complete(uri, 0, 4) == []
    assert client.reason(uri) == "disabled"


def test_snooze_is_quiet_until_it_is_over(client: Any, uri: str) -> None:
    client.open(uri, "sum(")
    status = client.request("coderl/snooze", {"minutes": 5})
    assert 290 < status["snoozed_s"] <= 300
    assert status["kind"] == "Inactive"
    assert client.complete(uri, 0, 4) == []
    assert client.reason(uri) == "snoozed"
    assert client.request("coderl/snooze", {"minutes": 0})["snoozed_s"] == 0
    assert len(client.complete(uri, 0, 4)) == 1


@pytest.mark.parametrize("minutes", [-1, 10**400, "5", None, float("nan"), True])
def test_a_snooze_that_makes_no_sense_is_ten_minutes(client: Any, minutes: Any) -> None:
    assert 590 < client.request("coderl/snooze", {"minutes": minutes})["snoozed_s"] <= 600


def test_why_says_it_in_words(client: Any, uri: str) -> None:
    assert client.request("coderl/why", {"textDocument": {"uri": uri}})["decision"] is None
    client.settings(rule="entropy", eagerness=-1)
    client.open(uri, "sum(")
    assert client.complete(uri, 0, 4) == []
    answer = client.request("coderl/why", {"textDocument": {"uri": uri}})
    assert answer["decision"]["fields"]["reason"] == "below_threshold"
    assert answer["decision"]["sentence"] in answer["text"]
    assert "eagerness" in answer["text"]
    assert client.request("coderl/why")["decision"]["fields"]["id"] == answer["decision"]["fields"]["id"]


def test_decisions_come_in_the_order_of_the_requests_and_agree_with_why(client: Any, uri: str) -> None:
    client.open(uri, "sum(")
    client.complete(uri, 0, 4)
    decisions = client.request("coderl/decisions")["decisions"]
    assert client.why(uri)["id"] in decisions[-1]


# --- outcomes


def accept(client: Any, item: dict[str, Any], uri: str) -> None:
    """What an editor does: the text first, then the command."""
    at = item["range"]
    client.notify("textDocument/didChange", client.change_params(uri, {"range": at, "text": item["insertText"]}))
    command = item["command"]
    client.request("workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]})


def outcome_of(client: Any, item: dict[str, Any]) -> Any:
    """The one outcome of a suggestion; waits until it is final."""
    from coderl_store.records import Outcome

    key = item["command"]["arguments"][0]
    give_up_s = time.monotonic() + 20
    while time.monotonic() < give_up_s:
        found = [outcome for outcome in stored(client, Outcome) if outcome.suggestion_id == key]
        if found:
            (outcome,) = found
            return outcome
        time.sleep(0.1)
    raise AssertionError("the suggestion got no outcome")


def test_an_accept_is_known_by_its_command(client: Any, uri: str) -> None:
    client.open(uri, "class A:\n    self.co")
    (item,) = client.complete(uri, 1, 11)
    accept(client, item, uri)
    outcome = outcome_of(client, item)
    assert (outcome.kind, outcome.evidence, outcome.accepted_chars) == ("accepted", "command", len("unt += 1"))
    accept(client, item, uri)
    assert outcome_of(client, item) == outcome


def test_a_command_with_arguments_that_name_nothing_is_answered(client: Any, refused: type[Exception]) -> None:
    for arguments in ([], None, [None], [3], [{"id": 3}], [["x"]], ["no such id"], ["a", "b", "c"]):
        params = {"command": client.command, "arguments": arguments}
        assert client.request("workspace/executeCommand", params) is None
    with pytest.raises(refused) as caught:
        client.request("workspace/executeCommand", {"command": "coderl.no.such"})
    assert caught.value.code == types.ErrorCodes.InvalidParams


def test_the_notifications_of_copilot_are_understood(start: Callable[..., Any], uri: str) -> None:
    client = start(SCRIPT)  # from the first such notification on, what is not shown is not seen
    client.initialize(PLAIN)
    client.open(uri, "sum(")
    (item,) = client.complete(uri, 0, 4)
    client.notify("textDocument/didShowCompletion", {"item": item})
    time.sleep(0.3)
    client.change(uri, 0, 4, 4, "val")
    client.notify("textDocument/didPartiallyAcceptCompletion", {"item": item, "acceptedLength": 3})
    client.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///elsewhere.py"}})
    outcome = outcome_of(client, item)
    assert (outcome.kind, outcome.accepted_chars) == ("partially_accepted", 3)
    assert client.stop() == 0


def test_a_client_may_say_itself_how_it_ended(start: Callable[..., Any], uri: str) -> None:
    client = start(SCRIPT)
    client.initialize({**PLAIN, "cooldownS": 60})
    client.open(uri, "sum(")
    (item,) = client.complete(uri, 0, 4)
    key = item["command"]["arguments"][0]
    client.notify("coderl/outcome", {"id": key, "kind": "dismissed", "visibleMs": 900})
    assert client.complete(uri, 0, 4) == []
    assert client.reason(uri) == "cooldown"
    outcome = outcome_of(client, item)
    assert (outcome.kind, outcome.evidence, outcome.visible_ms) == ("dismissed", "notification", 900)
    assert client.stop() == 0


def test_a_rejected_text_does_not_come_back_by_itself(client: Any, uri: str) -> None:
    client.open(uri, "rejected = sum(")
    (item,) = client.complete(uri, 0, 15)
    client.notify("coderl/outcome", {"id": item["command"]["arguments"][0], "kind": "dismissed", "visibleMs": 900})
    assert client.complete(uri, 0, 15) == []
    assert client.reason(uri) == "rejected_before"
    assert len(client.complete(uri, 0, 15, invoked=True)) == 1


def test_going_to_another_document_ends_what_is_open(client: Any, uri: str) -> None:
    client.open(uri, "sum(")
    (item,) = client.complete(uri, 0, 4)
    time.sleep(0.3)
    client.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///elsewhere.py"}})
    outcome = outcome_of(client, item)
    assert (outcome.kind, outcome.evidence, outcome.detail) == ("moved_on", "inferred", "other_document")


def test_who_tells_copilots_names_hears_copilots_status(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize(PLAIN, options={"editorInfo": {"name": "vim", "version": "9"}})
    status = server.wait_for(lambda m: m["method"] == "didChangeStatus")
    assert status["params"] == {"message": "Ready.", "kind": "Normal", "busy": False}
    server.settings(enabled=False)
    server.wait_for(lambda m: m["method"] == "didChangeStatus" and m["params"]["kind"] == "Inactive")
    assert server.stop() == 0


# --- life and death


def test_the_end_of_input_ends_the_server_and_loses_no_outcome(start: Callable[..., Any], uri: str) -> None:
    server = start(SCRIPT)
    server.initialize(PLAIN)
    server.open(uri, "sum(\nnever(")
    (item,) = server.complete(uri, 0, 4)
    server.start("textDocument/inlineCompletion", server.completion(uri, 1, 6))
    server.request("coderl/status")
    server.process.stdin.close()
    assert server.wait() == 1
    assert "Traceback" not in server.stderr, server.stderr
    repository = Repository(f"sqlite:///{server.home / 'coderl.db'}")
    from coderl_store.records import Decision, Outcome

    assert [o.suggestion_id for o in repository.stream(Outcome)] == [item["command"]["arguments"][0]]
    assert [d.reason for d in repository.stream(Decision)] == ["always_shown", "superseded"]
    repository.close()


def test_exit_without_shutdown_is_exit_code_one(start: Callable[..., Any]) -> None:
    server = start(SCRIPT)
    server.initialize(PLAIN)
    server.notify("exit")
    assert server.wait() == 1


def test_what_follows_exit_is_not_read(start: Callable[..., Any], uri: str) -> None:
    server = start(SCRIPT)
    server.initialize(PLAIN)
    server.open(uri, "sum(")
    server.request("coderl/status")
    message, pending = server.ask("textDocument/inlineCompletion", server.completion(uri, 0, 4))
    server.send({"method": "exit"}, message)
    assert server.wait() == 1
    assert not pending.done.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_leave_ends_it_in_good_order(start: Callable[..., Any], uri: str, number: int) -> None:
    server = start(SCRIPT)
    server.initialize(PLAIN)
    server.open(uri, "sum(")
    (item,) = server.complete(uri, 0, 4)
    server.process.send_signal(number)
    assert server.wait() == 1
    repository = Repository(f"sqlite:///{server.home / 'coderl.db'}")
    from coderl_store.records import Outcome

    assert [o.suggestion_id for o in repository.stream(Outcome)] == [item["command"]["arguments"][0]]
    repository.close()


def test_the_server_ends_when_its_editor_is_gone(start: Callable[..., Any]) -> None:
    editor = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    server = start(SCRIPT)
    server.initialize(PLAIN, processId=editor.pid)
    assert server.request("coderl/status")["kind"] == "Normal"
    editor.communicate()
    assert server.wait() == 1
    assert "is gone" in server.stderr


@pytest.mark.parametrize("process_id", [0, -1, -99999, os.getpid()], ids=["none", "minus one", "a group", "our own"])
def test_a_process_id_that_is_none_or_alive_ends_nothing(start: Callable[..., Any], process_id: int) -> None:
    server = start(SCRIPT)
    server.initialize(PLAIN, processId=process_id)
    time.sleep(0.2)
    assert server.request("coderl/status")["kind"] == "Normal"
    assert server.stop() == 0
    assert "Traceback" not in server.stderr, server.stderr


def test_over_tcp_the_same_is_said(start: Callable[..., Any], connect: Callable[..., Any], uri: str) -> None:
    server = start(SCRIPT, ("--tcp", "127.0.0.1:0"))
    give_up_s = time.monotonic() + 20
    while (told := re.search(r"listens on 127\.0\.0\.1:(\d+)", server.stderr)) is None:
        assert time.monotonic() < give_up_s, server.stderr
        time.sleep(0.05)
    client, connection = connect("127.0.0.1", int(told[1]))
    client.initialize(PLAIN)
    client.open(uri, "sum(")
    assert len(client.complete(uri, 0, 4)) == 1
    second, other = connect("127.0.0.1", int(told[1]))
    second._reader.join(10)
    assert not second._reader.is_alive(), "there is one client only"
    other.close()
    assert client.request("shutdown") is None
    client.notify("exit")
    assert server.process.wait(20) == 0
    client.close()
    connection.close()
    assert client.impure == []
    assert "Traceback" not in server.stderr


def test_a_tcp_client_that_vanishes_ends_the_server_quietly(start: Callable[..., Any], connect: Callable[..., Any]) -> None:
    import socket
    import struct

    server = start(SCRIPT, ("--tcp", "127.0.0.1:0"))
    give_up_s = time.monotonic() + 20
    while (told := re.search(r"listens on 127\.0\.0\.1:(\d+)", server.stderr)) is None:
        assert time.monotonic() < give_up_s, server.stderr
        time.sleep(0.05)
    client, connection = connect("127.0.0.1", int(told[1]))
    client.initialize(PLAIN)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RD)
    client.close()
    connection.close()  # a reset, not an end
    assert server.process.wait(20) == 1
    assert "Traceback" not in server.stderr, server.stderr


def test_a_port_that_is_taken_is_said_in_one_sentence(start: Callable[..., Any]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = start(SCRIPT, ("--tcp", f"127.0.0.1:{taken.getsockname()[1]}"))
        assert server.wait() == 2
    assert "Traceback" not in server.stderr
    assert server.stderr.startswith("coderl: ")


@pytest.mark.parametrize("source", ["null", "file"])
def test_input_that_is_no_pipe_is_read_to_its_end(tmp_path: Path, source: str) -> None:
    file = Path(os.devnull)
    if source == "file":
        file = tmp_path / "input"
        file.write_bytes(b'Content-Length: 33\r\n\r\n{"jsonrpc":"2.0","method":"exit"}\n')
    with file.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "coderl_server", "lsp"], stdin=stdin, capture_output=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr, done.stderr


def test_nothing_but_messages_reaches_standard_output(start: Callable[..., Any], uri: str) -> None:
    """A backend that prints: its words go to standard error."""
    server = start(None, ("--backend", "loud_backend.Loud"), environment={"PYTHONPATH": str(Path(__file__).parent / "plugins")})
    server.initialize(PLAIN)
    server.open(uri, "sum(")
    assert len(server.complete(uri, 0, 4)) == 1
    assert server.stop() == 0
    assert server.stderr.count("I print things") == 2


# --- the client of another library


async def test_pygls_own_client_understands_all_of_it(gate_folder: Path, uri: str, tmp_path: Path) -> None:
    import json

    from pygls.lsp.client import LanguageClient

    script = tmp_path / "script.json"
    script.write_text(json.dumps(SCRIPT))
    client = LanguageClient("test", "1")
    arguments = ("lsp", "--gate", str(gate_folder), "--backend", "scripted", "--script", str(script))
    await client.start_io(sys.executable, "-m", "coderl_server", *arguments)
    await client.initialize_async(
        types.InitializeParams(types.ClientCapabilities(), initialization_options={"coderl": {"rule": "always_show"}})
    )
    client.initialized(types.InitializedParams())
    client.text_document_did_open(types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "python", 1, "sum(")))
    answer = await client.text_document_inline_completion_async(
        types.InlineCompletionParams(
            types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
            types.TextDocumentIdentifier(uri),
            types.Position(0, 4),
        )
    )
    assert isinstance(answer, types.InlineCompletionList)
    assert answer.items[0].insert_text == "values)"
    await client.shutdown_async(None)
    client.exit(None)
    await client.stop()
