"""Filters that need the session: golden cases, and through the service."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.stop_rules import Reason as Ending
from coderl_server.documents import Change
from coderl_server.positions import Encoding
from coderl_server.session import Identity, Session
from coderl_server.settings import Settings
from coderl_server.withholding import nothing_left, objection_to, undoes
from coderl_store.records import Decision, Reason, Suggestion

URI = "file:///project/module.py"
GOLDEN = Path(__file__).with_name("golden")


def cases(name: str) -> list[Any]:
    found: list[dict[str, Any]] = tomllib.loads((GOLDEN / f"{name}.toml").read_text("utf-8"))["case"]
    assert len(found) >= 8
    return [pytest.param(case, id=case["name"]) for case in found]


@pytest.mark.parametrize("case", cases("undoes"))
def test_golden_undoes(case: dict[str, Any]) -> None:
    assert undoes(case["deleted"], case["text"]) is case["undoes"]


@pytest.mark.parametrize("case", cases("rejected"))
def test_golden_rejected(case: dict[str, Any]) -> None:
    session = Session(Identity("session", "user", b"salt"), Settings(), 0.0)
    line_prefix, text = case["rejected"].split("▮")
    session.dismissed("file:///a", line_prefix, text, 0.0)
    assert session.rejected_before("file:///a", case["before"], case["text"]) is case["again"]
    assert session.rejected_before("file:///b", case["before"], case["text"]) is False


@given(st.text(alphabet="ab_(). \n", max_size=12), st.text(alphabet="ab_(). \n", max_size=12))
def test_putting_back_depends_on_words_alone(deleted: str, text: str) -> None:
    assert undoes(deleted, text) == undoes(deleted.replace(" ", "  "), f" {text}\n")
    assert undoes(deleted, deleted) == (len("".join(deleted.split())) >= 3)


def test_what_was_asked_for_may_undo_and_repeat_but_never_hold_a_credential() -> None:
    secret = "-----BE" + "GIN PRIVATE KEY-----"
    for automatic, text, reason in (
        (True, "values)", Reason.UNDOES_EDIT),
        (False, "values)", None),
        (False, secret, Reason.CREDENTIAL),
        (True, "x" * 801, Reason.TOO_LARGE),
        (True, "other", Reason.REJECTED_BEFORE),
        (False, "other", None),
    ):
        got = objection_to(text, "sum(", Settings(), automatic=automatic, deleted="values", rejected_before="other".__eq__)
        assert got is reason, text


def test_every_ending_without_text_has_a_reason() -> None:
    assert {nothing_left(ending) for ending in Ending} == {
        Reason.EMPTY, Reason.DUPLICATE, Reason.REPETITION, Reason.TOO_SHORT,
    }  # fmt: skip


def delete(bench: Any, start: int, end: int) -> None:
    bench.service.changed(URI, None, [Change((0, start, 0, end), "")], Encoding.UTF16)


def test_what_was_deleted_key_by_key_is_not_put_back_for_a_while(workbench: Any) -> None:
    bench = workbench()
    bench.open("sum(values)")
    for end in range(11, 4, -1):
        delete(bench, end - 1, end)
    assert bench.ask() is None
    assert bench.decision.reason is Reason.UNDOES_EDIT
    assert bench.ask(invoked=True) is not None
    bench.later(31.0)
    assert bench.ask() is not None


def test_what_was_typed_since_is_a_new_beginning(workbench: Any) -> None:
    bench = workbench()
    bench.open("sum(values)")
    delete(bench, 4, 11)
    bench.type("v", 0, 4)
    delete(bench, 4, 5)
    assert bench.ask() is not None


def test_a_credential_is_neither_shown_nor_logged(workbench: Any) -> None:
    bench = workbench(text="'gh" + "p_" + "a1B2c3" * 6 + "')")
    bench.open()
    assert bench.ask(invoked=True) is None
    assert bench.decision.reason is Reason.CREDENTIAL
    (suggestion,) = bench.rows(Suggestion)
    assert (suggestion.text, suggestion.token_ids) == (None, ())
    assert len(bench.rows(Decision)) == 1


def test_blocks_that_were_kept_ask_for_more_of_them(workbench: Any) -> None:
    bench = workbench(text="\n    first()\n    second()\n", cooldown_s=0)
    bench.open("def f():\n    \n\n\ndef g():\n    a = 1\n    \n    b = 2\n")
    bench.ask(6, 4)
    assert bench.suggestion.lines == 1
    for _ in range(2):
        bench.service._session.seen(True, bench.clock.now_s(), "one\ntwo")
    bench.ask(6, 4)
    assert bench.suggestion.lines == 2
    bench.later(301.0)
    bench.ask(6, 4)
    assert bench.suggestion.lines == 1
