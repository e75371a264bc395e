from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate.costs import CostParameters, costs_of, expected_costs, utility_s
from coderl_gate.synthetic import knowing
from coderl_store.records import Action, Origin, OutcomeKind
from coderl_store.repository import LoggedRequest, Repository
from coderl_trainer.errors import FeedbackError
from coderl_trainer.logged import LoggedRow, LoggedRows, Reading, agreeing, rows_from_log, split_rows
from coderl_trainer.logged_tokens import NotUsed

from .logged_requests import Requests, records

NOT_KEPT = (OutcomeKind.DISMISSED, OutcomeKind.DISAGREED, OutcomeKind.DELETED, OutcomeKind.MOVED_ON, OutcomeKind.TIMED_OUT)


def rows_of(made: Requests, *requests: LoggedRequest, **reading: Any) -> LoggedRows:
    return rows_from_log(requests, made.codec, Reading(**reading))


def test_a_row_says_what_was_shown_and_what_became_of_it() -> None:
    made, costs = Requests(), CostParameters()
    (row,) = rows_of(made, made.one(), costs=costs).rows
    assert (row.kept, row.kept_chars, row.chars, row.retained_chars) == (True, 12, 12, 12)
    assert row.seconds == pytest.approx(utility_s(1.0, costs_of(12, 1, costs, 0.5)))
    assert row.expected_s == pytest.approx(utility_s(0.4, expected_costs(costs, 0.5)))
    assert row.modelled_s == pytest.approx(utility_s(0.6, costs_of(12, 1, costs, 0.5)))
    assert row.greedy


@pytest.mark.parametrize("kind", NOT_KEPT)
def test_what_was_not_kept_costs_its_reading(kind: OutcomeKind) -> None:
    made = Requests()
    (row,) = rows_of(made, made.one(kind)).rows
    assert (row.kept, row.kept_chars, row.retained_chars) == (False, 0, 0)
    assert row.seconds == pytest.approx(-(0.5 + costs_of(12, 1, CostParameters()).t_verify_s))


def test_what_was_rewritten_or_kept_in_part_saves_less() -> None:
    made = Requests()
    whole, edited, part = rows_of(
        made,
        made.one(share=1.0),
        made.one(share=0.5),
        made.one(OutcomeKind.PARTIALLY_ACCEPTED, chars=6, share=1.0),
    ).rows
    assert whole.seconds > edited.seconds
    assert edited.seconds == pytest.approx(part.seconds)
    assert (whole.retained_chars, edited.retained_chars, part.retained_chars) == (12, 6, 6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": OutcomeKind.NOT_SEEN}, NotUsed.NOT_SEEN),
        ({"kind": OutcomeKind.DISMISSED, "visible_ms": 120.0}, NotUsed.NOT_SEEN),
        ({"kind": None}, NotUsed.NO_OUTCOME),
        ({"origin": Origin.SIMULATED}, NotUsed.NOT_REAL),
        ({"origin": Origin.IMPORTED}, NotUsed.NOT_REAL),
        ({"decision": {"action": Action.WITHHOLD}}, NotUsed.NOT_SHOWN),
        ({"decision": {"propensity": 0.0}}, NotUsed.BAD_PROPENSITY),
        ({"decision": {"propensity": float("nan")}}, NotUsed.BAD_PROPENSITY),
        ({"suggestion": {"generator_id": "other"}}, NotUsed.OTHER_GENERATOR),
        ({"text": None}, NotUsed.NO_TEXT),
        ({"text": "something else"}, NotUsed.TEXT_DIFFERS),
        ({"suggestion": {"token_ids": (), "logprobs": ()}}, NotUsed.NO_TOKENS),
        ({"written": "\treturn total"}, NotUsed.BOUNDARY),
    ],
)
def test_what_is_no_row_is_counted_by_reason(changes: Mapping[str, Any], reason: NotUsed) -> None:
    made = Requests()
    logged = rows_of(made, made.one(**changes), made.one(), generators=("m",))
    assert len(logged.rows) == 1
    assert logged.left_out == {reason: 1}


def test_what_was_taken_at_once_was_seen() -> None:
    made = Requests()
    assert len(rows_of(made, made.one(visible_ms=120.0)).rows) == 1


def test_simulated_rows_come_when_they_are_asked_for() -> None:
    made = Requests()
    logged = rows_of(made, made.one(origin=Origin.SIMULATED), made.one(), origins=frozenset({Origin.SIMULATED}))
    assert len(logged.rows) == 1
    assert logged.left_out == {NotUsed.NOT_REAL: 1}


def test_a_database_gives_the_same_rows(tmp_path: Path) -> None:
    made = Requests()
    requests = [made.one(), made.one(OutcomeKind.DISMISSED), made.one(share=0.5)]
    repository = Repository(f"sqlite:///{tmp_path / 'log.db'}")
    try:
        repository.append(record for request in requests for record in records(request))
        assert rows_from_log(repository.requests(), made.codec) == rows_of(made, *requests)
    finally:
        repository.close()


def test_a_critic_estimates_anew_and_brings_its_costs() -> None:
    made, critic = Requests(), knowing()
    features = {**dict.fromkeys(critic.stage2.names, 0.0), **dict.fromkeys(critic.stage1.names, 0.0)}
    known = {"features": features, "feature_version": critic.feature_version}
    (row,) = rows_of(made, made.one(context=known, suggestion=known), critic=critic).rows
    assert row.p1 == pytest.approx(critic.stage1.probability(features))
    assert row.p2 is not None
    assert row.p2 != 0.6
    (unknown,) = rows_of(made, made.one(), critic=critic).rows
    assert (unknown.p1, unknown.p2, unknown.expected_s, unknown.modelled_s) == (None, None, None, None)


def test_log_probs_of_another_model_are_found() -> None:
    made = Requests()
    logged = rows_of(made, made.one(), made.one(), made.one(kind=None))
    ours = [[-0.52, -1.49], [-0.5, -1.9]]
    left = agreeing(logged, ours, tolerance=0.1)
    assert left.rows == logged.rows[:1]
    assert left.left_out == {NotUsed.NO_OUTCOME: 1, NotUsed.DISAGREES: 1}
    assert agreeing(logged, ours, tolerance=0.3) == logged
    with pytest.raises(FeedbackError, match="2 logged rows but log-probs of 1"):
        agreeing(logged, ours[:1])
    with pytest.raises(FeedbackError, match="2 tokens of its own but 1"):
        agreeing(logged, [[-0.5], [-0.5]])


def row(user: str, minute: int, lineage: str = "") -> LoggedRow:
    made = Requests()
    (first,) = rows_of(made, made.one()).rows
    name = f"{user}/{minute}"
    at = first.at + timedelta(minutes=minute)
    return replace(first, decision_id=name, user_key=user, at=at, lineage_id=lineage or name)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=60), st.integers(0, 5)
)
def test_no_programmer_and_no_time_is_on_both_sides(given_rows: list[tuple[int, int, int]], seed: int) -> None:
    base = row("0", 0)
    rows = [
        replace(base, decision_id=str(index), user_key=str(user), at=base.at + timedelta(minutes=minute), lineage_id=str(idea))
        for index, (user, minute, idea) in enumerate(given_rows)
    ]
    try:
        split = split_rows(rows, seed=seed)
    except FeedbackError:
        return
    parts = (split.train, split.held_out, split.left_out)
    assert Counter(one.decision_id for part in parts for one in part) == Counter(one.decision_id for one in rows)
    assert max(one.at for one in split.train) < min(one.at for one in split.held_out)
    assert not {one.lineage_id for one in split.train} & {one.lineage_id for one in split.held_out}
    users = {one.user_key for one in split.train} & {one.user_key for one in split.held_out}
    assert not users or split.solo
    assert split.solo == (len({one.user_key for one in rows}) == 1)


def test_one_programmer_is_split_by_time() -> None:
    split = split_rows([row("me", minute) for minute in range(10)])
    assert split.solo
    assert (len(split.train), len(split.held_out), len(split.left_out)) == (7, 3, 0)


def test_an_idea_served_on_both_sides_is_on_none() -> None:
    rows = [row("me", minute, "same" if minute in (6, 7) else "") for minute in range(10)]
    split = split_rows(rows)
    assert [one.decision_id for one in split.left_out] == ["me/6", "me/7"]


@pytest.mark.parametrize("rows", [[], [("me", 1)], [("me", 1), ("me", 1)]])
def test_too_few_rows_to_split_are_said(rows: list[tuple[str, int]]) -> None:
    with pytest.raises(FeedbackError, match="nothing to learn from"):
        split_rows([row(*one) for one in rows])
    with pytest.raises(FeedbackError, match="between 0 and 1"):
        split_rows([], early=1.0)
