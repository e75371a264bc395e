"""What counts as a credential."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_store.credentials import credential_in, entropy_bits

CASES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("golden").joinpath("credentials.toml").read_text("utf-8"))[
    "case"
]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_golden(case: dict[str, Any]) -> None:
    text, before = case["text"].replace("·", ""), case.get("before", "").replace("·", "")
    assert credential_in(text, before) == case.get("kind")


@given(st.text(alphabet="abk_-:/@='\" 123\n", max_size=60), st.text(alphabet="abk_-:/@='\" 123\n", max_size=60))
def test_what_lies_before_alone_is_nobodys_doing(before: str, text: str) -> None:
    assert credential_in("", before) is None
    if credential_in(text) is not None:
        assert credential_in(text, " \n" + before + "\n") is not None


def test_entropy_is_that_of_the_texts_own_frequencies() -> None:
    assert entropy_bits("aaaa") == 0.0
    assert entropy_bits("abab") == 1.0
    assert entropy_bits("abcd") == 2.0
