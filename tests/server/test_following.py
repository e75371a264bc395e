"""What a running server does about promotions, and what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coderl_gate.gate import promote as promote_gate
from coderl_gate.synthetic import knowing
from coderl_generator.promotion import Kind, activate, active_file, kept, rollback
from coderl_server.following import Followed, Follower
from coderl_trainer.tiny_llama import write_tiny_llama


class Watched:
    """A follower with a server that notes what it is told."""

    def __init__(self, home: Path, kind: Kind | None = Kind.MODEL, *, gate: bool = True) -> None:
        self.home = home
        self.asked: list[dict[str, Any]] = []
        self.gates = 0
        self.notices: dict[str, str] = {}
        self.refusal = ""
        self.follower = Follower(home, Followed(kind, gate), self.use, self.gate_changed, self.notices.__setitem__)

    async def use(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(wanted)
        (value,) = wanted.values()
        name = (
            "before" if self.refusal else "embedded" if value in (None, "embedded") else Path(value).name.removesuffix(".gguf")
        )
        return {"generator": name, "changed": not self.refusal, "message": self.refusal}

    async def gate_changed(self) -> None:
        self.gates += 1

    def promote(self, name: str) -> str:
        """Promote a tiny model of this name; its path in the data folder."""
        one = kept(self.home, write_tiny_llama(self.home.parent / f"{name}.gguf", name=name, seed=len(name)))
        activate(self.home, one)
        return str(one.path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def test_what_is_promoted_is_taken_once(home: Path) -> None:
    watched = Watched(home)
    await watched.follower.look()
    assert watched.asked == []
    path = watched.promote("first")
    for _ in range(3):
        await watched.follower.look()
    assert watched.asked == [{"model": path}]
    assert watched.notices == {"promotion": ""}


async def test_a_server_that_began_with_the_active_model_has_it(home: Path) -> None:
    Watched(home).promote("first")
    watched = Watched(home)
    await watched.follower.look()
    assert watched.asked == []
    rollback(home)
    await watched.follower.look()
    assert watched.asked == [{"model": "embedded"}]


async def test_a_model_that_cannot_be_loaded_is_said_once_and_tried_after_the_next_promotion(home: Path) -> None:
    watched = Watched(home)
    watched.refusal = "there is no memory for it"
    first = watched.promote("first")
    for _ in range(3):
        await watched.follower.look()
    assert watched.asked == [{"model": first}]
    said = "The promoted model first cannot be used, so before goes on: there is no memory for it"
    assert watched.notices == {"promotion": said}
    watched.refusal = ""
    second = watched.promote("second")
    await watched.follower.look()
    assert watched.asked[-1] == {"model": second}
    assert watched.notices == {"promotion": ""}


async def test_a_list_that_cannot_be_read_is_said(home: Path) -> None:
    watched = Watched(home)
    active_file(home).parent.mkdir(parents=True)
    active_file(home).write_text("../outside\n")
    await watched.follower.look()
    assert watched.asked == []
    assert "delete it to use the embedded model" in watched.notices["promotion"]


async def test_a_generator_that_was_named_is_never_changed(home: Path) -> None:
    watched = Watched(home, kind=None)
    watched.promote("first")
    await watched.follower.look()
    assert (watched.asked, watched.gates) == ([], 0)


async def test_an_adapter_is_taken_by_servers_that_load_adapters(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    one = kept(home, folder)
    activate(home, one)
    with_adapters, with_models = Watched(home, Kind.ADAPTER), Watched(home)
    await with_models.follower.look()
    await with_adapters.follower.look()  # it began with the bare model
    assert with_adapters.asked == [{"adapter": str(one.path)}]
    assert with_models.asked == []
    rollback(home)
    await with_adapters.follower.look()
    assert with_adapters.asked[-1] == {"adapter": None}


@pytest.mark.parametrize("follows", [True, False])
async def test_a_promoted_gate_is_taken_where_none_was_named(home: Path, tmp_path: Path, follows: bool) -> None:
    from coderl_gate.artifact import save

    watched = Watched(home, gate=follows)
    save(knowing(), tmp_path / "gate")
    promote_gate(home, tmp_path / "gate")
    for _ in range(2):
        await watched.follower.look()
    assert watched.gates == int(follows)
