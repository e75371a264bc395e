"""Several candidates over the wire: one item unasked, all when asked for, and the log of what was taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coderl_store.records import Outcome, OutcomeKind, Suggestion
from coderl_store.repository import Repository

SCRIPT = {"default": {"text": "values)", "logprob": -2.0, "others": ["things)", "values, 0)"]}}


def test_what_is_asked_for_can_be_gone_through(start: Callable[..., Any]) -> None:
    uri = "file:///project/module.py"
    client = start(SCRIPT)
    client.initialize({"candidates": 3, "rule": "always_show", "epsilonSkip": 0, "epsilonWithhold": 0, "privacy": "code"})
    client.open(uri, "sum(")
    (alone,) = client.complete(uri, 0, 4)
    items = client.complete(uri, 0, 4, invoked=True)
    assert items[0]["insertText"] == alone["insertText"]
    assert {item["insertText"] for item in items} == {"values)", "things)", "values, 0)"}
    ids = [item["command"]["arguments"][0] for item in items]
    client.notify("textDocument/didShowCompletion", {"item": items[1]})
    client.change(uri, 0, 4, 4, items[1]["insertText"])
    client.request("workspace/executeCommand", {"command": client.command, "arguments": [ids[1]]})
    client.flush()
    repository = Repository(f"sqlite:///{client.home / 'coderl.db'}")
    try:
        ranks = {row.id: row.rank for row in repository.stream(Suggestion)}
        outcomes = {row.suggestion_id: row.kind for row in repository.stream(Outcome)}
    finally:
        repository.close()
    assert [ranks[one] for one in ids] == [0, 1, 2]
    assert outcomes[ids[1]] is OutcomeKind.ACCEPTED
    assert ids[2] not in outcomes
