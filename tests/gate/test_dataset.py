"""What enters training, what does not, and that it is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from coderl_gate import bulk
from coderl_gate.catalogue import CONTEXT_NAMES, SUGGESTION_NAMES
from coderl_gate.costs import CostParameters
from coderl_gate.dataset import (
    CLIP_S,
    EXPLICIT,
    MAX_WEIGHT,
    READING_SHARE,
    SOLO_BLOCKS,
    Dataset,
    Selection,
    build,
    collect,
    columns_of,
    reading_seconds,
)
from coderl_gate.errors import DataError
from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import BEFORE, World, knowing
from coderl_store.records import Action, Evidence, Origin, OutcomeKind, Record
from coderl_store.repository import LoggedRequest, Repository

SHOW_ALL = Policy(0.5, rule=Rule.ALWAYS_SHOW)


def log(users: int = 4, per_user: int = 30, policy: Policy = SHOW_ALL, origin: Origin = Origin.EDITOR) -> list[LoggedRequest]:
    world = World(users=users, requests_per_user=per_user, origin=origin)
    return list(world.requests(knowing(), policy, CostParameters()))


def changed(request: LoggedRequest, part: str, **changes: object) -> LoggedRequest:
    return replace(request, **{part: replace(getattr(request, part), **changes)})


def test_rows_line_up() -> None:
    requests = log()
    dataset = build(reversed(requests))
    assert len(dataset) == 120
    assert dataset.before.shape == (120, len(CONTEXT_NAMES))
    assert dataset.after.shape == (120, len(SUGGESTION_NAMES))
    by_id = {request.suggestion.id: request for request in requests if request.suggestion is not None}
    column = CONTEXT_NAMES.index(BEFORE)
    for index, key in enumerate(dataset.ids):
        request = by_id[key]
        assert request.outcome is not None
        assert request.suggestion is not None
        assert dataset.kept[index] == request.outcome.kept
        assert dataset.users[index] == request.session.user_key
        assert dataset.chars[index] == request.suggestion.chars
        assert dataset.before[index, column] == request.context.features[BEFORE]
    assert np.isnan(dataset.before[:, CONTEXT_NAMES.index("rest_blank")]).all()
    assert (dataset.weight == 1).all()
    np.testing.assert_array_equal(dataset.groups, dataset.users)


def test_order_of_arrival_does_not_matter() -> None:
    requests = log()
    assert build(requests).data_hash == build(reversed(requests)).data_hash
    flipped = changed(requests[0], "outcome", kind=OutcomeKind.ACCEPTED, accepted_chars=3)
    other = changed(requests[0], "outcome", kind=OutcomeKind.DISMISSED, accepted_chars=0)
    assert build([flipped, *requests[1:]]).data_hash != build([other, *requests[1:]]).data_hash


LEFT_OUT: dict[str, Callable[[LoggedRequest], LoggedRequest]] = {
    "where nothing was shown": lambda r: replace(changed(r, "decision", action=Action.WITHHOLD), outcome=None),
    "without an outcome yet": lambda r: replace(r, outcome=None),
    "not seen by anybody": lambda r: changed(r, "outcome", kind=OutcomeKind.NOT_SEEN),
    "of another feature version": lambda r: changed(r, "suggestion", feature_version=99),
    "with an impossible propensity": lambda r: changed(r, "decision", propensity=0.0),
    "whose clock ran backwards": lambda r: changed(r, "outcome", at=r.decision.at - timedelta(seconds=1)),
    "with a feature that is not a finite number": lambda r: changed(r, "context", features={BEFORE: float("nan")}),
    "with an impossible length": lambda r: changed(r, "outcome", accepted_chars=10**6),
    "of simulated sessions": lambda r: changed(r, "session", origin=Origin.SIMULATED),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_cannot_teach_is_left_out_and_counted(reason: str) -> None:
    requests = [LEFT_OUT[reason](request) if index % 3 == 0 else request for index, request in enumerate(log())]
    dataset = build(requests)
    assert dataset.skipped == {reason: 40}
    assert len(dataset) == 80


def test_duplicated_ids_count_once() -> None:
    requests = log()
    dataset = build([*requests, *requests[:7]])
    assert dataset.skipped == {"with an id that occurred before": 7}


def test_weak_evidence_can_be_left_out() -> None:
    requests = [changed(r, "outcome", evidence=Evidence.INFERRED) if index % 2 else r for index, r in enumerate(log())]
    assert len(build(requests)) == 120
    dataset = build(requests, Selection(evidence=EXPLICIT))
    assert dataset.skipped == {"with inferred evidence only": 60}


def test_simulated_rows_enter_only_when_asked_for() -> None:
    requests = log(origin=Origin.SIMULATED)
    with pytest.raises(DataError, match="120 of simulated sessions"):
        build(requests)
    assert len(build(requests, Selection(frozenset({Origin.SIMULATED})))) == 120


def test_rows_of_trials_weigh_by_their_propensity() -> None:
    exploring = Policy(0.9, epsilon_skip=0.5, epsilon_withhold=0.5)
    requests = log(users=10, per_user=100, policy=exploring)
    dataset = build(requests)
    by_id = {request.suggestion.id: request.decision.propensity for request in requests if request.suggestion is not None}
    np.testing.assert_allclose(dataset.weight, [1 / by_id[key] for key in dataset.ids])
    assert {1.0, 2.0, 4.0} == {round(float(weight), 6) for weight in dataset.weight}
    # weighted, the rows stand for all situations again: here the share kept if everything were shown
    everything = build(log(users=10, per_user=100))
    assert np.average(dataset.kept, weights=dataset.weight) == pytest.approx(everything.kept.mean(), abs=0.06)


def test_weights_are_clipped() -> None:
    requests = [changed(r, "decision", propensity=0.001) if index == 0 else r for index, r in enumerate(log())]
    assert build(requests).weight.max() == MAX_WEIGHT


def test_one_user_is_cut_into_blocks_of_time() -> None:
    dataset = build(log(users=1, per_user=103))
    assert dataset.solo
    blocks = list(dict.fromkeys(dataset.groups.tolist()))
    assert len(blocks) == SOLO_BLOCKS
    starts = [float(dataset.at_s[dataset.groups == block].min()) for block in blocks]
    ends = [float(dataset.at_s[dataset.groups == block].max()) for block in blocks]
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False))
    sizes = [int((dataset.groups == block).sum()) for block in blocks]
    assert max(sizes) - min(sizes) <= 1


def test_reading_time_depends_on_who_reads() -> None:
    kept = next(r for r in log() if r.outcome is not None and r.outcome.kept)
    editor = changed(kept, "outcome", visible_ms=4000.0)
    assert reading_seconds(editor) == pytest.approx(4 * READING_SHARE[True])
    simulated = changed(editor, "session", origin=Origin.SIMULATED)
    assert reading_seconds(simulated) == 4.0
    assert reading_seconds(changed(simulated, "outcome", evidence=Evidence.INFERRED)) is None  # it was typing by then
    assert reading_seconds(changed(editor, "outcome", visible_ms=600_000.0)) == pytest.approx(10 * READING_SHARE[True])
    assert reading_seconds(changed(editor, "outcome", kind=OutcomeKind.TIMED_OUT)) is None
    assert reading_seconds(changed(editor, "outcome", kind=OutcomeKind.TYPED_THROUGH)) is None
    assert reading_seconds(changed(editor, "outcome", visible_ms=None)) is None


def test_partial_keeps_count_their_characters() -> None:
    requests = log()
    index = next(i for i, r in enumerate(requests) if r.outcome is not None and r.outcome.kept)
    requests[index] = changed(requests[index], "outcome", kind=OutcomeKind.PARTIALLY_ACCEPTED, accepted_chars=4)
    dataset = build(requests)
    suggestion = requests[index].suggestion
    assert suggestion is not None
    assert dataset.kept_chars[dataset.ids.index(suggestion.id)] == 4
    assert dataset.kept[dataset.ids.index(suggestion.id)] == 1


def test_take_keeps_rows_aligned() -> None:
    dataset = build(log())
    chosen = dataset.kept == 1
    part = dataset.take(chosen)
    assert len(part) == int(chosen.sum())
    assert (part.kept == 1).all()
    assert part.ids == tuple(key for key, wanted in zip(dataset.ids, chosen, strict=True) if wanted)
    assert part.before.shape[0] == part.weight.shape[0] == len(part)


def test_empty_and_one_sided_logs_are_one_sentence() -> None:
    with pytest.raises(DataError, match="The log is empty"):
        build([])
    rejected = [changed(request, "outcome", kind=OutcomeKind.DISMISSED, accepted_chars=0) for request in log()]
    with pytest.raises(DataError, match="0 kept and 120 rejected"):
        build(rejected)


def stored(requests: list[LoggedRequest], path: Path) -> Repository:
    repository = Repository(f"sqlite:///{path}")
    records: dict[tuple[type, str], Record] = {}
    for r in requests:
        for record in (r.session, r.context, r.decision, r.suggestion, r.outcome, *r.survival):
            if record is not None:
                records[type(record), record.id] = record
    repository.append(records.values())
    return repository


def assert_same(one: Dataset, other: Dataset) -> None:
    for item in fields(Dataset):
        ours, theirs = getattr(one, item.name), getattr(other, item.name)
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=item.name)
        else:
            assert ours == theirs, item.name


@pytest.mark.parametrize("batch", [1, 7, 64, 20_000])
def test_the_log_in_columns_gives_the_same_dataset(batch: int, tmp_path: Path) -> None:
    """All that a database can hold of the rows that are left out, at once; and rows of random trials."""
    broken = [LEFT_OUT[reason] for reason in LEFT_OUT if "not a finite" not in reason]
    exploring = Policy(0.9, epsilon_skip=0.5, epsilon_withhold=0.5)
    requests = log(users=7, per_user=40, policy=exploring)
    requests = [
        broken[index // 4 % len(broken)](r) if index % 4 == 0 and r.outcome is not None and r.suggestion is not None else r
        for index, r in enumerate(requests)
    ]
    requests = [
        changed(r, "outcome", reading_ms=333.3) if index % 5 == 1 and r.outcome is not None else r
        for index, r in enumerate(requests)
    ]
    simulated = {r.session.id for r in requests if r.session.origin is Origin.SIMULATED}
    # a session has one origin in a database, so those rows belong to sessions of their own there
    requests = [
        changed(r, "session", id=f"{r.session.id}-simulated") if r.session.origin is Origin.SIMULATED else r for r in requests
    ]
    for part in ("context", "decision", "suggestion", "outcome"):
        requests = [r if getattr(r, part) is None else changed(r, part, session_id=r.session.id) for r in requests]
    repository = stored(requests, tmp_path / "log.db")
    try:
        found = collect(repository.columns(origins=tuple(Origin), batch=batch))
        again = build(repository.requests(origins=tuple(Origin)))
    finally:
        repository.close()
    assert simulated
    assert len(found.skipped) == len(broken)
    assert_same(found, build(requests))
    assert_same(found, again)


def test_a_log_read_in_columns_complains_alike(tmp_path: Path) -> None:
    repository = stored([], tmp_path / "log.db")
    with pytest.raises(DataError, match="The log is empty"):
        collect(repository.columns())
    repository.close()
    repository = stored([replace(r, outcome=None) for r in log()], tmp_path / "other.db")
    with pytest.raises(DataError, match=r"None of the 120 logged requests .* \(120 without an outcome yet\)"):
        collect(repository.columns(batch=50))
    repository.close()


def test_beyond_the_limit_features_are_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = build(log())
    monkeypatch.setattr(bulk, "EXACT_ROWS", 50)
    rough = collect([columns_of(log()[:60]), columns_of(log()[60:])])
    assert (exact.before.dtype, rough.before.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(rough.before, exact.before, rtol=1e-6)
    assert rough.kept.dtype == np.float64
    assert rough.data_hash == exact.data_hash
    assert rough.take(rough.kept == 1).before.dtype == np.float32


def test_measured_reading_counts_as_it_is() -> None:
    kept = next(r for r in log() if r.outcome is not None and r.outcome.kept)
    assert reading_seconds(changed(kept, "outcome", visible_ms=9000.0, reading_ms=2500.0)) == 2.5
    assert reading_seconds(changed(kept, "outcome", reading_ms=25_000.0)) == CLIP_S
    assert reading_seconds(replace(kept, outcome=None)) is None
