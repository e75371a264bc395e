"""The recording's file, its command, and what happens with servers that cannot be recorded; whole sessions are in tests/e2e."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from coderl_server.errors import InputError, ServerFailed
from coderl_server.framing import FrameParser
from coderl_server.recording import PlayReport, play, record
from coderl_server.recording.format import (
    ClockMoved,
    Event,
    FromClient,
    FromServer,
    Header,
    RecordingWriter,
    read_recording,
)
from coderl_server.recording.peer import decode_messages, encode_message
from coderl_server.recording.player import Divergence, compare
from coderl_server.recording.proxy import with_client_clock

HEADER = Header(("coderl", "lsp"), 7, "0.1.0", 1_763_630_000_000.123)
TIMES = st.floats(0, 2e12)
MESSAGES = st.dictionaries(
    st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text(alphabet=st.characters(), max_size=9)), max_size=4
)
EVENTS = st.one_of(
    st.builds(ClockMoved, TIMES), st.builds(FromClient, TIMES, MESSAGES, st.booleans()), st.builds(FromServer, TIMES, MESSAGES)
)


def write(path: Path, events: list[Event], decisions: list[str] | None) -> None:
    writer = RecordingWriter(path, HEADER)
    for event in events:
        writer.write(event)
    if decisions is not None:
        writer.finish(decisions)
    writer.close()


@given(st.lists(EVENTS, max_size=5), st.none() | st.lists(st.text(max_size=9), max_size=3))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], decisions: list[str] | None
) -> None:
    path = tmp_path_factory.mktemp("recording") / "session.jsonl"
    write(path, events, decisions)
    recording = read_recording(path)
    assert recording.header == HEADER
    assert list(recording.events) == events
    assert recording.decisions == (None if decisions is None else tuple(decisions))
    assert recording.unsettled == sum(isinstance(event, FromClient) and not event.settled for event in events)


@given(MESSAGES)
def test_messages_pass_the_wire_unchanged(message: dict[str, Any]) -> None:
    parser = FrameParser()
    assert decode_messages(parser, encode_message(message), "editor") == [message]


def test_a_recording_is_for_its_owner_and_overwrites_nothing(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    write(path, [], [])
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists already"):
        RecordingWriter(path, HEADER)
    with pytest.raises(InputError, match="cannot be written"):
        RecordingWriter(tmp_path / "nowhere" / "session.jsonl", HEADER)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("hello\n", "Line 1 of"),
        ('{"dir":"header","format":2}\n', "not a recording in format 1"),
        ('{"dir":"client"}\n', "Line 1 of|not a recording"),
        ("HEADER\n{\n", "Line 2 of"),
        ('HEADER\n{"dir":"other","t_ms":1}\n', "Line 2 of"),
        ('HEADER\n{"dir":"client","t_ms":1}\n', "Line 2 of"),
        ("HEADER\n[]\n", "Line 2 of"),
        ("HEADER\n", "broke off"),
    ],
)
def test_what_cannot_be_played_is_said_in_a_sentence(tmp_path: Path, content: str, said: str) -> None:
    made, path = tmp_path / "made.jsonl", tmp_path / "session.jsonl"
    write(made, [], None)
    path.write_text(content.replace("HEADER", made.read_text(encoding="utf-8").strip()), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        play(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        play(tmp_path / "nowhere.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not text"):
        play(tmp_path / "binary")


@pytest.mark.parametrize(
    ("command", "told", "seed"),
    [
        (["coderl", "lsp"], ["coderl", "lsp", "--clock", "client", "--seed", "5"], 5),
        (["coderl", "lsp", "--seed", "9"], ["coderl", "lsp", "--seed", "9", "--clock", "client"], 9),
        (["coderl", "lsp", "--seed=8", "--clock=client"], ["coderl", "lsp", "--seed=8", "--clock=client"], 8),
        (["wrapper"], ["wrapper"], None),
    ],
)
def test_the_server_gets_a_clock_and_a_seed(command: list[str], told: list[str], seed: int | None) -> None:
    assert with_client_clock(command, 5) == (told, seed)


def decision(number: int, **fields: object) -> str:
    return json.dumps({"record": "decision", "fields": {"id": str(number), "p1": 0.5, **fields}})


def test_the_first_difference_is_found_and_named() -> None:
    recorded = (decision(1), decision(2), decision(3))
    assert compare(recorded, list(recorded)) is None
    changed = compare(recorded, [decision(1), decision(2, p1=0.25, route="skip"), decision(4)])
    assert changed is not None
    assert (changed.index, changed.fields) == (1, ("p1", "route"))
    assert changed.sentence == "Decision 2 differs in p1, route."


@pytest.mark.parametrize(("played", "said"), [(1, "did not make decision 2"), (3, "made decision 3")])
def test_a_missing_or_additional_decision_is_a_difference(played: int, said: str) -> None:
    found = compare((decision(0), decision(1)), [decision(number) for number in range(played)])
    assert found is not None
    assert said in found.sentence


def test_the_report_says_same_or_what_differs() -> None:
    same = PlayReport("s.jsonl", 10, 2, 2, 0, None)
    other = PlayReport("s.jsonl", 10, 2, 2, 1, Divergence(0, ("p1",), "[left]", "right"), answers_differing=1)
    out = io.StringIO()
    same.render(Console(file=out, width=200))
    other.render(Console(file=out, width=200))
    assert "byte for byte" in out.getvalue()
    assert all(said in out.getvalue() for said in ("Decision 1 differs in p1.", "[left]", "1 answers", "speed decides"))
    assert same.to_json()["same"] is True
    assert other.to_json()["first_divergence"]["fields"] == ["p1"]
    assert PlayReport("s", 1, 1, 1, 0, None, answers_differing=1).same is False


def test_nothing_to_record_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which server to record"):
        record(tmp_path / "out.jsonl", [])
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("stdin", "program", "said"),
    [
        (os.devnull, sys.executable, "over pipes"),
        (__file__, sys.executable, "over pipes"),
        (os.devnull, "nosuchcommand", "There is no program nosuchcommand"),
    ],
)
def test_an_input_without_an_editor_and_a_command_that_is_none_are_refused(
    tmp_path: Path, stdin: str, program: str, said: str
) -> None:
    out = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "coderl_server", "record", str(out), "--", program, "-c", "pass"]
    with Path(stdin).open("rb") as source:
        done = subprocess.run(command, stdin=source, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not out.exists()


ANSWERING = """
import json, sys
while line := sys.stdin.buffer.readline():
    sys.stdin.buffer.readline()
    message = json.loads(sys.stdin.buffer.read(int(line.split(b":")[1])))
    body = json.dumps({{"jsonrpc": "2.0", "id": message["id"], {answer}}}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
    sys.stdout.buffer.flush()
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('no gate today')", "exit status 1(.|\n)*no gate today"),
        (ANSWERING.format(answer='"result": {"now_ms": 5.0}'), "runs on its own clock"),
        (ANSWERING.format(answer='"error": {"code": -32601, "message": "no such method"}'), "no such method"),
    ],
)
def test_servers_that_cannot_be_driven_are_told_from_each_other(tmp_path: Path, program: str, said: str) -> None:
    path = tmp_path / "session.jsonl"
    write(path, [ClockMoved(1000.0), FromClient(1000.0, {"jsonrpc": "2.0", "method": "initialized"}, True)], [])
    with pytest.raises(ServerFailed, match=said):
        play(path, [sys.executable, "-c", program])
    with pytest.raises(ServerFailed, match="could not be started"):
        play(path, [str(tmp_path / "nowhere")])
