"""The real Helix in tmux with the real server: it speaks no inline completion, so what counts is that nothing disturbs it.

Helix counts positions in bytes (utf-8) and sends every key as a change of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from coderl_server.documents import Change, Document
from coderl_server.positions import Encoding

from .helix_driver import Helix, helix
from .logged import ALWAYS, rows, scripted

TEXT = "import sys\n"


def opened(tmp_path: Path, text: str = TEXT) -> AbstractContextManager[Helix]:
    return helix(tmp_path / "helix", scripted(tmp_path, []), ALWAYS, text)


@pytest.fixture
def editor(tmp_path: Path, own_home: Path) -> Iterator[Helix]:
    with opened(tmp_path) as running:
        running.wait_open(running.file.as_uri())
        yield running
        assert running.problems() == []


def as_the_server_has_it(helix: Helix) -> str:
    """The text that results from what Helix sent about its file, applied with the server's own code."""
    document: Document | None = None
    for message in helix.sent():
        params: Any = message.get("params")
        if message["method"] == "textDocument/didOpen":
            opened = params["textDocument"]
            document = Document(opened["uri"], opened["languageId"], opened["version"], opened["text"])
        elif message["method"] == "textDocument/didChange":
            assert document is not None
            changes = [Change(_corners(one.get("range")), one["text"]) for one in params["contentChanges"]]
            document.apply(changes, params["textDocument"]["version"], Encoding.UTF8)
    assert document is not None
    return document.text()


def _corners(where: dict[str, Any] | None) -> tuple[int, int, int, int] | None:
    if where is None:
        return None
    start, end = where["start"], where["end"]
    return start["line"], start["character"], end["line"], end["character"]


def gone(pid: int) -> bool:
    """Whether a process has ended (an ended one that nobody has waited for counts)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_the_server_follows_what_is_typed(editor: Helix) -> None:
    editor.insert("o", "def größe(名前):\nreturn '😀👩‍👧' + 𝕏")
    editor.saved(f"{TEXT}def größe(名前):\nreturn '😀👩‍👧' + 𝕏\n")
    assert as_the_server_has_it(editor) == editor.file.read_text(encoding="utf-8")
    # Upper case for all, back again, a key in the last line, and a second cursor.
    editor.keys("%", "M-`")
    editor.saved(f"{TEXT}def größe(名前):\nreturn '😀👩‍👧' + 𝕏\n".upper())
    editor.keys("u", "g", "e", "g", "h")
    editor.insert("i", "z")
    editor.keys("g", "g", "C")
    editor.insert("I", "🙂 ")
    editor.saved(f"🙂 {TEXT}🙂 def größe(名前):\nzreturn '😀👩‍👧' + 𝕏\n")
    assert as_the_server_has_it(editor) == editor.file.read_text(encoding="utf-8")


def test_a_file_with_line_ends_of_dos(tmp_path: Path, own_home: Path) -> None:
    with opened(tmp_path, "a\r\nb\r\n") as running:
        running.wait_open(running.file.as_uri())
        running.insert("o", "c\nd")
        running.saved("a\r\nc\r\nd\r\nb\r\n")
        assert as_the_server_has_it(running) == "a\r\nc\r\nd\r\nb\r\n"
        assert running.problems() == []


def test_nothing_of_ours_is_on_its_screen(editor: Helix) -> None:
    editor.insert("o", "result = alp")
    editor.saved(f"{TEXT}result = alp\n")
    screen = editor.screen()
    assert screen[:2] == ["    1  import sys", "    2  result = alp"]
    assert not any("coderl" in line.lower() for line in screen), screen


def test_it_ends_with_helix_and_logs_nothing_where_nothing_was_asked(tmp_path: Path, own_home: Path) -> None:
    with opened(tmp_path) as running:
        server = running.wait_open(running.file.as_uri())
        running.insert("o", "x = 1")
        running.saved(f"{TEXT}x = 1\n")
        assert running.problems() == []
        assert not gone(server)
        running.quit()
        running.wait("the end of the server", lambda: gone(server))
    assert not (own_home / "coderl.db").exists() or rows(own_home, "SELECT * FROM decisions") == []


def test_a_killed_server_is_started_again_by_hand(tmp_path: Path, own_home: Path) -> None:
    with opened(tmp_path) as running:
        server = running.wait_open(running.file.as_uri())
        os.kill(server, signal.SIGKILL)
        running.wait("the end of the server", lambda: gone(server))
        before = len(running.sent())
        running.command("lsp-restart")
        told = "textDocument/didOpen"
        running.wait("the file opened again", lambda: told in [one["method"] for one in running.sent()[before:]])
        running.insert("o", "y = '名'")
        running.saved(f"{TEXT}y = '名'\n")
        assert as_the_server_has_it(running) == running.file.read_text(encoding="utf-8")
        assert not gone(running.wait_open(running.file.as_uri()))


def test_our_command_from_its_list_does_nothing(editor: Helix) -> None:
    """Helix lists the commands of a server to its user, ours too; it then comes without the id it needs."""
    server = editor.wait_open(editor.file.as_uri())
    editor.command("lsp-workspace-command")
    editor.wait_screen("coderl.accepted.")
    editor.keys("Enter")
    editor.wait("the command", lambda: any(one["method"] == "workspace/executeCommand" for one in editor.sent()))
    editor.insert("o", "x")
    editor.saved(f"{TEXT}x\n")
    assert not gone(server)
    assert editor.screen()[1] == "    2  x"
