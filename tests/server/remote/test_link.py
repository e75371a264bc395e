"""The link to a team's server: what is taken, what is kept on the disk, and when this machine's own model speaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.server.team.conftest import built

from coderl_gate.artifact import default_artifact, load, save
from coderl_gate.gate import promote
from coderl_generator.backend import GenerationRequest, forces_beginning
from coderl_generator.errors import BackendRefused, BackendUnavailable
from coderl_server.gates import chosen_artifact
from coderl_server.remote.address import TEAM, TeamServer
from coderl_server.remote.facts import Facts, keep, read
from coderl_server.remote.link import Fallback, Link
from coderl_server.team.settings import TeamSettings
from coderl_store.home import home
from coderl_store.memory import MemoryLog

LOCAL = Fallback("embedded", "small")


class Editor:
    """What a link changes, written down."""

    def __init__(self, url: str, folder: Path, fallback: Fallback | None = LOCAL) -> None:
        self.used: list[Any] = []
        self.gates = 0
        self.told = ""
        self.link = Link(TeamServer.at(url), folder, fallback)
        self.link.connect(self.use, self.gate_changed, self.notice)

    async def use(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.used.append(asked["model"])
        generator = self.link.facts.generator_id if asked["model"] == TEAM else "small"
        return {"generator": generator, "changed": True, "message": ""}

    async def gate_changed(self) -> None:
        self.gates += 1

    def notice(self, code: str, sentence: str) -> None:
        assert code == "server"
        self.told = sentence


Make = Callable[..., Editor]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes editors, and closes their links in the end."""
    editors: list[Editor] = []

    def one(*arguments: Any) -> Editor:
        editors.append(Editor(*arguments))
        return editors[-1]

    yield one
    for editor in editors:
        await editor.link.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "servers" / "one"


async def test_model_and_gate_are_taken_once_and_kept(make: Make, folder: Path) -> None:
    team = built(home(), TeamSettings(), MemoryLog())
    async with team.on_port() as url:
        editor = make(url, folder)
        assert not editor.link.remote
        assert await editor.link.look()
        assert await editor.link.look()
        assert (editor.used, editor.gates, editor.told) == ([TEAM], 1, "")
        gate = editor.link.gate
        assert gate is not None
        assert editor.link.facts.user_key == team.key_of("me")
        assert load(gate).id == default_artifact().id
        backend = editor.link.backend()
        assert backend.generator_id == "scripted"
        assert not forces_beginning(backend)
        request = GenerationRequest("x", begins_with="on", one_line=True, document="file:///a.py")
        assert "".join([token.text async for token in backend.stream(request)]) == "one two three"
        received = team.model.requests[-1]
        assert (received.begins_with, received.one_line) == ("on", True)
        assert "a.py" not in received.document
        await backend.aclose()
    later = make(url, folder)  # the server is gone: what was kept counts from the start
    assert (later.link.remote, later.link.facts.generator_id, later.link.gate) == (True, "scripted", gate)
    assert not await later.link.look()
    assert (later.used, later.link.remote) == (["embedded"], False)
    assert "cannot be reached" in later.told
    assert "come from small on this machine" in later.told
    assert not await later.link.look()
    assert later.used == ["embedded"]


async def test_another_gate_and_another_model_are_noticed(make: Make, folder: Path, tmp_path: Path) -> None:
    team = built(home(), TeamSettings(), MemoryLog())
    async with team.on_port() as url:
        editor = make(url, folder)
        assert await editor.link.look()
        save(replace(default_artifact(), h_bits=0.123), tmp_path / "new")
        promote(home(), tmp_path / "new")
        assert await editor.link.look()
        assert editor.gates == 2
        found, warning = chosen_artifact(None, home(), "", editor.link.gate)
        assert (found.h_bits, warning) == (0.123, "")
        old = editor.link.backend()
        team.model._id = "another"
        with pytest.raises(BackendRefused):
            [token async for token in old.stream(GenerationRequest("x"))]
        assert await editor.link.look()
        assert (editor.used, editor.link.facts.generator_id) == ([TEAM, TEAM], "another")
        await old.aclose()


async def test_without_a_model_anywhere_that_is_said(make: Make, folder: Path) -> None:
    editor = make("http://127.0.0.1:9", folder, None)
    assert editor.link.remote
    assert not await editor.link.look()
    assert "no model is installed on this machine" in editor.told
    assert editor.used == []
    backend = editor.link.backend()
    with pytest.raises(BackendUnavailable):
        [token async for token in backend.stream(GenerationRequest("x"))]
    await backend.aclose()


async def test_the_first_key_on_a_fresh_machine_need_not_know_the_model(make: Make, folder: Path) -> None:
    """No facts on the disk and a request before the first look: the link has met the server, and the row names its model."""
    team = built(home(), TeamSettings(), MemoryLog())
    async with team.on_port() as url:
        link = make(url, folder).link
        await asyncio.to_thread(link.meet)
        backend = link.backend()
        assert (link.remote, backend.generator_id) == (True, "scripted")
        assert "".join([token.text async for token in backend.stream(GenerationRequest("x"))]) == "one two three"
        await backend.aclose()
        assert await link.look()
        assert read(folder).generator_id == "scripted"
    away = make("http://127.0.0.1:9", folder.parent / "two").link
    away.meet()
    assert (away.remote, away.facts) == (False, Facts())


async def test_a_refused_token_is_said(make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    team = built(home(), TeamSettings(), MemoryLog())
    monkeypatch.setenv("CODERL_TOKEN", "nonsense")
    async with team.on_port() as url:
        editor = make(url, folder)
        assert not await editor.link.look()
    assert "refuses the token" in editor.told
    assert "nonsense" not in editor.told


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"generator_id": 1}', "\x00"])
def test_damaged_facts_are_no_facts(text: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "facts.json").write_text(text)
    assert read(folder) == Facts()


def test_facts_without_their_gate_ask_for_it_again(folder: Path) -> None:
    keep(folder, Facts("a", "plain", gate_etag='"x"'), None)
    assert read(folder) == Facts("a", "plain")
    assert json.loads((folder / "facts.json").read_text())["gate_etag"] == '"x"'
