"""What editors take, and how they are spared taking it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coderl_gate.artifact import default_artifact, save
from coderl_gate.bundle import unpack
from coderl_gate.gate import promote
from coderl_generator.models import EMBEDDED

from .conftest import Team


async def test_the_gate_is_taken_once_and_again_after_a_promotion(running: Team, tmp_path: Path) -> None:
    async with running.client() as client:
        first = await client.get("/v1/gate")
        etag = first.headers["ETag"]
        assert etag.startswith('"')
        assert unpack(first.content, tmp_path / "got").id == default_artifact().id
        for known in (etag, f'"other", {etag}', "*"):
            again = await client.get("/v1/gate", headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
        better = save(replace(default_artifact(), h_bits=0.123), tmp_path / "better")
        promote(running.parts.home, tmp_path / "better")
        second = await client.get("/v1/gate", headers={"If-None-Match": etag})
        assert second.status_code == 200
        assert unpack(second.content, tmp_path / "got").id == better.id


async def test_the_generator_is_named(running: Team) -> None:
    async with running.client() as client:
        answer = await client.get("/v1/generator")
        assert answer.json() == {
            "id": EMBEDDED.name,
            "kind": "embedded",
            "base": "",
            "trained": "",
            "sha256": "",
            "promoted_at": None,
        }
        same = await client.get("/v1/generator", headers={"If-None-Match": answer.headers["ETag"]})
        assert same.status_code == 304
