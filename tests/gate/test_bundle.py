"""An artifact that is sent arrives as it was, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coderl_gate.artifact import default_artifact, load
from coderl_gate.bundle import pack, unpack
from coderl_gate.errors import ArtifactError


def test_it_arrives_as_it_was_and_replaces_the_older_one(tmp_path: Path) -> None:
    shipped = default_artifact()
    data = pack(shipped)
    assert data == pack(shipped)
    for _ in range(2):
        assert unpack(data, tmp_path / "cache" / "gate").id == shipped.id
    assert pack(load(tmp_path / "cache" / "gate")) == data
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["gate"]


def changed(data: bytes) -> bytes:
    texts = json.loads(data)
    texts["stage1.lgb.txt"] = texts["stage1.lgb.txt"].replace("leaf_value=", "leaf_value=1", 1)
    return json.dumps(texts).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-100],
        lambda data: b"[]",
        lambda data: b"{}",
        lambda data: b'{"../evil.txt": "x"}',
        lambda data: b'{"artifact.json": 1}',
        lambda data: b'{"artifact.json": "\\ud800"}',
        changed,
    ],
)
def test_what_is_damaged_or_foreign_is_refused_and_the_older_one_stays(tmp_path: Path, damage) -> None:
    shipped = default_artifact()
    unpack(pack(shipped), tmp_path / "gate")
    with pytest.raises(ArtifactError):
        unpack(damage(pack(shipped)), tmp_path / "gate")
    assert load(tmp_path / "gate").id == shipped.id
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "evil"))] == []
