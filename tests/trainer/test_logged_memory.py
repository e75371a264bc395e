"""A run from the log goes on with the rows that it began with, and says where it cannot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_store.records import OutcomeKind, Survival
from coderl_store.repository import LoggedRequest
from coderl_trainer.errors import FeedbackError, RunError
from coderl_trainer.logged import LoggedRows, Reading, rows_from_log, thinned
from coderl_trainer.logged_memory import FILE, Noted, digest
from coderl_trainer.logged_tokens import NotUsed

from .logged_requests import Requests


def read(made: Requests, requests: Sequence[LoggedRequest]) -> LoggedRows:
    return rows_from_log(requests, made.codec, Reading())


def later(made: Requests, request: LoggedRequest, after_s: float, share: float) -> LoggedRequest:
    """The same request with one more measurement."""
    assert request.suggestion is not None
    at = request.decision.at + timedelta(seconds=after_s)
    measured = Survival(made.ids.new(), at, request.session.id, request.suggestion.id, after_s, share)
    return replace(request, survival=(*request.survival, measured))


def test_a_log_that_grew_gives_the_rows_that_were_there(tmp_path: Path) -> None:
    made = Requests()
    began = [made.one(share=1.0), made.one(OutcomeKind.DISMISSED), made.one(), made.one(kind=None)]
    logged = read(made, began)
    Noted.of(logged).write(tmp_path)
    grew = [later(made, began[0], 600.0, 0.25), began[1], later(made, began[2], 30.0, 0.5), made.one(), began[3]]
    assert read(made, grew).rows != logged.rows
    noted = Noted.read(tmp_path)
    again = noted.require(read(made, list(noted.as_they_were(grew))))
    assert again == logged
    assert again.left_out == {NotUsed.NO_OUTCOME: 1}


def test_a_row_that_is_gone_or_changed_is_an_error(tmp_path: Path) -> None:
    made = Requests()
    began = [made.one(), made.one(), made.one()]
    noted = Noted.of(read(made, began))
    with pytest.raises(FeedbackError, match=rf"1 of the 3 .* no longer in the log .*{began[1].decision.id}.*start it anew"):
        noted.require(read(made, list(noted.as_they_were([began[0], began[2]]))))
    other = replace(began[2], decision=replace(began[2].decision, propensity=0.5))
    with pytest.raises(FeedbackError, match=rf"1 of the 3 .* not as they were .*{began[2].decision.id}"):
        noted.require(read(made, list(noted.as_they_were([*began[:2], other]))))


def test_everything_that_is_learned_from_is_in_the_digest() -> None:
    made = Requests()
    (row,) = read(made, [made.one(share=0.5)]).rows
    tokens = replace(row.tokens, logprobs=tuple(value - 1e-9 for value in row.tokens.logprobs))
    for changes in (
        {"tokens": tokens},
        {"seconds": row.seconds + 1e-12},
        {"propensity": 0.25},
        {"p1": None},
        {"measured_s": 1.0},
    ):
        assert digest(replace(row, **changes)) != digest(row), changes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "damage",
    [
        lambda told: told["rows"].pop(),
        lambda told: told["rows"][0].update(sha256="0"),
        lambda told: told.update(schema=2),
        lambda told: told.pop("left_out"),
        lambda told: told.update(rows=3),
        lambda told: told.update(left_out={"no_reason": 1}),
    ],
)
def test_a_damaged_note_is_not_gone_on_with(tmp_path: Path, damage: object) -> None:
    made = Requests()
    Noted.of(read(made, [made.one(), made.one()])).write(tmp_path)
    told = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    damage(told)  # type: ignore[operator]
    (tmp_path / FILE).write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(RunError, match=rf"{FILE} is damaged"):
        Noted.read(tmp_path)


def test_no_code_is_copied_into_the_folder_of_a_run(tmp_path: Path) -> None:
    made = Requests()
    Noted.of(read(made, [made.one()])).write(tmp_path)
    assert "total" not in (tmp_path / FILE).read_text(encoding="utf-8")


@given(count=st.integers(0, 30), most=st.none() | st.integers(1, 40))
def test_fewer_rows_lie_evenly_in_time(count: int, most: int | None) -> None:
    made = Requests()
    logged = read(made, [made.one() for _ in range(count)])
    fewer = thinned(logged, most)
    assert len(fewer.rows) == min(count, count if most is None else most)
    assert len(fewer.rows) + fewer.left_out.get(NotUsed.NOT_NEEDED, 0) == count
    places = [logged.rows.index(row) for row in fewer.rows]
    gaps = {after - before for before, after in pairwise(places)}
    assert not gaps or (min(gaps) > 0 and max(gaps) - min(gaps) <= 1)
