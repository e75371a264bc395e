"""The programmer's own rules: which come first, and what asking by hand lifts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_server.rules import Situation, objection
from coderl_server.settings import Settings
from coderl_store.records import Reason, Trigger

FREE = Situation("file:///a/b.py", "python", 100, Trigger.AUTOMATIC, now_s=1000.0)
OF_PLACE: list[tuple[dict[str, Any], dict[str, Any], Reason]] = [
    ({"uri": "file:///a/.env"}, {}, Reason.SECRET_FILE),
    ({}, {"enabled": False}, Reason.DISABLED),
    ({}, {"languages": {"python": False}}, Reason.DISABLED),
    ({}, {"disable_globs": ("a/*",)}, Reason.DISABLED),
    ({}, {"max_document_chars": 99}, Reason.TOO_LARGE),
    ({"several_cursors": True}, {}, Reason.MULTI_CURSOR),
]
OF_TIME: list[tuple[dict[str, Any], dict[str, Any], Reason]] = [
    ({}, {"manual_only": True}, Reason.MANUAL_ONLY),
    ({"snoozed_until_s": 1000.1}, {}, Reason.SNOOZED),
    ({"cooldown_until_s": 1000.1}, {}, Reason.COOLDOWN),
]


def test_nothing_is_objected_to_by_default() -> None:
    assert objection(FREE, Settings()) is None


@pytest.mark.parametrize(("situation", "settings", "reason"), OF_PLACE)
def test_rules_of_place_hold_even_when_asked_by_hand(
    situation: dict[str, Any], settings: dict[str, Any], reason: Reason
) -> None:
    for trigger in Trigger:
        assert objection(replace(FREE, trigger=trigger, **situation), Settings(**settings)) is reason


@pytest.mark.parametrize(("situation", "settings", "reason"), OF_TIME)
def test_rules_of_timing_are_lifted_by_asking(situation: dict[str, Any], settings: dict[str, Any], reason: Reason) -> None:
    assert objection(replace(FREE, **situation), Settings(**settings)) is reason
    assert objection(replace(FREE, trigger=Trigger.INVOKED, **situation), Settings(**settings)) is None


def test_limits_themselves_are_allowed() -> None:
    at_limits = replace(FREE, snoozed_until_s=1000.0, cooldown_until_s=1000.0)
    assert objection(at_limits, Settings(max_document_chars=100)) is None


@given(st.permutations(range(len(OF_PLACE) + len(OF_TIME))), st.integers(1, len(OF_PLACE) + len(OF_TIME)))
def test_a_secret_file_is_named_before_anything_else(order: list[int], count: int) -> None:
    """So that nothing about it is logged, whatever else forbids a suggestion."""
    situation, settings = FREE, {}
    for index in order[:count]:
        changes, options, _ = (OF_PLACE + OF_TIME)[index]
        situation = replace(situation, **changes)
        settings |= options
    found = objection(situation, Settings(**settings))
    assert found is not None
    assert (found is Reason.SECRET_FILE) == (0 in order[:count])
