"""Learning each programmer's tendency, judged prequentially: nothing is used before it happened."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from coderl_gate.dataset import Dataset, Selection, build
from coderl_gate.policy import Policy, Rule
from coderl_gate.recalibration import personalise, walk
from coderl_gate.synthetic import World, knowing
from coderl_store.records import Origin


def logged(users: int, per_user: int, spread: float, seed: int = 1) -> tuple[Dataset, np.ndarray]:
    """Judged suggestions of programmers whose log-odds differ from the model's by N(0, spread²); and the model's p (n,)."""
    world = World(users=users, requests_per_user=per_user, seed=seed, origin=Origin.SIMULATED)
    dataset = build(world.requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW)), Selection(frozenset({Origin.SIMULATED})))
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.1, 0.8, len(dataset))
    names, member = np.unique(dataset.users, return_inverse=True)
    odds = np.log(p / (1 - p)) + rng.normal(0, spread, len(names))[member]
    kept = (rng.random(len(dataset)) < 1 / (1 + np.exp(-odds))).astype(float)
    return replace(dataset, kept=kept), p


def test_programmers_who_differ_are_found_out() -> None:
    dataset, p = logged(12, 60, 1.0)
    found = personalise(p, p, dataset)
    assert found.prior < math.inf
    assert found.losses[found.prior] < found.losses[math.inf] - 0.01
    assert set(found.tendencies) == set(dataset.users.tolist())


def test_programmers_who_do_not_differ_are_left_alone() -> None:
    dataset, p = logged(12, 60, 0.0)
    found = personalise(p, p, dataset)
    assert found.prior == math.inf
    np.testing.assert_array_equal(found.p2, p)
    assert found.tendencies == {}


def test_the_future_and_other_users_never_matter() -> None:
    dataset, p = logged(3, 30, 1.0)
    before1, before2, _ = walk(p, p, dataset, 4.0)
    mine = np.flatnonzero(dataset.users == dataset.users[0])
    flipped = dataset.kept.copy()
    flipped[mine[10:]] = 1 - flipped[mine[10:]]
    flipped[dataset.users != dataset.users[0]] = 0.0
    after1, after2, _ = walk(p, p, replace(dataset, kept=flipped), 4.0)
    np.testing.assert_array_equal(before1[mine[:11]], after1[mine[:11]])
    np.testing.assert_array_equal(before2[mine[:11]], after2[mine[:11]])
    assert (before2[mine[11:]] != after2[mine[11:]]).any()


def test_the_first_suggestion_of_everybody_is_judged_by_the_model_alone() -> None:
    dataset, p = logged(5, 20, 1.0)
    own1, own2, _ = walk(p, p, dataset, 4.0)
    first = [int(np.flatnonzero(dataset.users == user)[0]) for user in np.unique(dataset.users)]
    np.testing.assert_array_equal(own1[first], p[first])
    np.testing.assert_array_equal(own2[first], p[first])
