"""The short form of `make outcome-accuracy`: every move of a client once, but for the one that takes eleven seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from .accuracy.plan import BARE, NEOVIM, NEOVIM_PLUGIN, Client, Move, Onwards, plan
from .accuracy.single import measured

SEED = 1


@pytest.mark.slow
@pytest.mark.parametrize("client", [NEOVIM_PLUGIN, NEOVIM, BARE], ids=lambda client: client.name)
def test_what_is_logged_is_what_was_done(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODERL_HOME", str(tmp_path / "home"))
    quick = replace(client, moves=tuple(move for move in client.moves if move is not Move.LINGER))
    report = measured(quick, SEED, len(quick.moves), tmp_path)
    assert len(report.scored) == len(quick.moves)
    # A line begun below after leaving insert mode: to a server it is Enter against the suggestion (docs/clients.md).
    alike = {
        one.number
        for one in plan(SEED, len(quick.moves), quick)
        if client is BARE and one.move.value.endswith("Esc") and one.onwards is Onwards.BELOW
    }
    assert [one.to_json() for one in report.wrong() if one.number not in alike] == []
