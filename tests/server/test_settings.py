"""Wire options become settings; one bad key costs only itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.policy import Rule
from coderl_server.settings import Settings, resolve, wire_name
from coderl_store.records import Privacy

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)
names = [wire_name(field.name) for field in dataclasses.fields(Settings)]


def test_good_keys_apply() -> None:
    settings, problems = resolve(
        {"eagerness": -0.5, "minIdleMs": 300, "privacy": "code", "rule": "never_show", "manualOnly": True}
    )
    assert problems == []
    assert settings.eagerness == -0.5
    assert settings.min_idle_ms == 300
    assert settings.privacy is Privacy.CODE
    assert settings.rule is Rule.NEVER_SHOW
    assert settings.manual_only


def test_a_bad_key_is_reported_and_the_others_apply() -> None:
    settings, problems = resolve({"eagerness": 7, "cooldownS": 9, "nonsense": 1, "enabled": "yes"})
    assert settings.cooldown_s == 9
    assert settings.eagerness == 0
    assert settings.enabled is True
    assert problems == [
        "Setting coderl.eagerness must be a number between -1 and 1, not 7; it stays at 0.0.",
        "Unknown setting coderl.nonsense; it is ignored.",
        "Setting coderl.enabled must be true or false, not 'yes'; it stays at True.",
    ]


def test_languages_are_merged_with_what_is_there() -> None:
    settings, _ = resolve({"languages": {"markdown": True, "rust": False}})
    assert settings.languages["markdown"] is True
    assert settings.languages["rust"] is False
    assert settings.languages["yaml"] is False


@pytest.mark.parametrize("wire", [[], "x", 3, True])
def test_settings_that_are_no_object_are_ignored_in_words(wire: object) -> None:
    settings, problems = resolve(wire)
    assert settings == Settings()
    assert len(problems) == 1


@given(st.dictionaries(st.sampled_from(names) | st.text(max_size=12), json_values, max_size=6))
def test_no_json_breaks_the_settings(wire: dict[str, Any]) -> None:
    settings, problems = resolve(wire)
    # Whatever came out resolves to itself again, and each key either applied or was named.
    for field in dataclasses.fields(Settings):
        assert type(getattr(settings, field.name)) is type(getattr(Settings(), field.name))
    assert len(problems) <= len(wire)
    for problem in problems:
        assert problem.endswith(".")
