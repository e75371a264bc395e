"""The dial against the rule itself, request by request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.logged import records_of

from coderl_gate.costs import CostParameters
from coderl_gate.escalation import entropy_bits as entropy_of
from coderl_gate.policy import Policy, Request, action_probabilities, route_probability
from coderl_gate.policy import eager as eager_one
from coderl_gate.replay import replay
from coderl_gate.synthetic import World, knowing
from coderl_gate.whatif import Dial, eager, entropy_bits, redecided
from coderl_store.decided import Decided, read_decided
from coderl_store.records import Action, Costs, Route
from coderl_store.repository import LoggedRequest, Repository

EXPLORING = Policy(0.5, epsilon_skip=0.3, epsilon_withhold=0.3)
PROBABILITIES = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])


@pytest.fixture(scope="module")
def log() -> list[LoggedRequest]:
    return list(World(users=12, requests_per_user=40, seed=6).requests(knowing(), EXPLORING))


@pytest.fixture(scope="module")
def rows(log: list[LoggedRequest], tmp_path_factory: pytest.TempPathFactory) -> list[Decided]:
    repository = Repository(f"sqlite:///{tmp_path_factory.mktemp('whatif') / 'coderl.db'}")
    repository.append(records_of(log))
    found = read_decided(repository.engine)
    repository.close()
    return found


@given(tau=PROBABILITIES, eagerness=st.floats(-1, 1), p=PROBABILITIES)
def test_thresholds_and_entropy_are_those_of_the_rule(tau: float, eagerness: float, p: float) -> None:
    assert eager(np.array([tau]), eagerness)[0] == pytest.approx(eager_one(tau, eagerness))
    assert entropy_bits(np.array([p]))[0] == pytest.approx(entropy_of(p))


@given(eagerness=st.floats(-1, 1), h=st.floats(0, 1))
def test_every_request_is_decided_as_by_the_rule(rows: list[Decided], eagerness: float, h: float) -> None:
    dial = Dial.of(rows)
    assert dial is not None
    found, policy = redecided(dial.columns, eagerness, h), Policy(h, eagerness)
    for index, row in enumerate(rows):
        assert row.p1 is not None
        assert row.expected_costs is not None
        asked = Request(p1=row.p1, expected=Costs(**row.expected_costs))
        generate = 1.0 - route_probability(asked, policy, Route.SKIP)
        assert found.generate[index] == generate
        if row.costs is None:
            assert found.show[index] == 0.0
            continue
        full = Request(p1=row.p1, expected=asked.expected, p2=row.p1 if row.p2 is None else row.p2, costs=Costs(**row.costs))
        show = sum(p for (_, action), p in action_probabilities(full, policy).items() if action is Action.SHOW)
        assert found.show[index] == show


@pytest.mark.parametrize("policy", [Policy(0.5), Policy(0.5, 0.6), Policy(0.0, -0.6)])
def test_the_report_is_that_of_the_replay(log: list[LoggedRequest], rows: list[Decided], policy: Policy) -> None:
    """The log's own gate is asked, so p1 and p2 are as logged; drafts aside, which have no p2."""
    assert not any(row.route == "draft" for row in rows) or policy.h_bits == 0.5
    dial = Dial.of(rows)
    assert dial is not None
    report = dial.at(policy.eagerness, policy.h_bits)
    expected = replay(log, knowing(), policy, truth=CostParameters())
    assert (report.n, report.generated) == (expected.n, expected.generated)
    assert report.logged == pytest.approx(expected.logged)
    assert report.seconds.estimate == pytest.approx(expected.seconds.estimate, abs=0.01)
    assert report.overlap == pytest.approx(expected.overlap)


def test_more_eagerness_shows_more(rows: list[Decided]) -> None:
    dial = Dial.of(rows)
    assert dial is not None
    shown = [redecided(dial.columns, eagerness, 0.5).show.sum() for eagerness in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    assert shown == sorted(shown)
    assert shown[0] < shown[-1]


def test_what_no_gate_decided_is_left_out(rows: list[Decided]) -> None:
    assert Dial.of([]) is None
    dial = Dial.of([*rows[:3], replace(rows[3], stage="rule"), replace(rows[4], p1=None)])
    assert dial is not None
    assert dial.left_out == 2
    assert len(dial.columns.p1) == 3
    assert dial.at(0.0, 0.5).left_out == {"not decided by a gate, or without what it takes": 2}
