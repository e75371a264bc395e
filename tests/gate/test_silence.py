"""What silence cost by labels, against a population whose truth is known and against rows made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from coderl_gate.costs import CostParameters, costs_of, realised_s, utility_s
from coderl_gate.policy import Policy
from coderl_gate.silence import check, silence
from coderl_gate.synthetic import World, knowing
from coderl_store.records import Action, Evidence, Outcome, OutcomeKind
from coderl_store.repository import LoggedRequest
from coderl_store.shadow import Shadow, ShadowVerdict

TRUTH = CostParameters()
SILENT = Policy(0.0, eagerness=-0.8)


def log(label_error: float | None = 0.0, policy: Policy = SILENT, users: int = 12) -> list[LoggedRequest]:
    world = World(users=users, requests_per_user=40, seed=1, label_error=label_error)
    return list(world.requests(knowing(), policy, TRUTH))


def users_of(requests: list[LoggedRequest]) -> np.ndarray:
    return np.array([request.session.user_key for request in requests], dtype=np.str_)


def test_right_labels_tell_what_showing_would_have_been_worth() -> None:
    requests = log()
    report = silence(requests, users_of(requests), TRUTH)
    world, worth = World(users=12, requests_per_user=40, seed=1), []
    for situation, request in zip(world.situations(), requests, strict=True):
        if request.decision.action is Action.WITHHOLD:
            worth.append((situation.p, utility_s(situation.p, costs_of(situation.chars, situation.lines, TRUTH))))
    assert report.withheld == len(worth) > 100
    share, net = np.mean(worth, axis=0)
    assert report.typed_anyway.low <= share <= report.typed_anyway.high
    assert report.net_s.low <= net <= report.net_s.high
    assert report.net_s.estimate * report.withheld == pytest.approx(report.lost_s - report.spared_s)
    assert "weak evidence" in report.sentence


def test_wrong_labels_are_believed() -> None:
    """The report says what the labels say; whether they are right is what `check` is for."""
    requests, flipped = log(0.0), log(1.0)
    right = silence(requests, users_of(requests), TRUTH).typed_anyway.estimate
    wrong = silence(flipped, users_of(flipped), TRUTH).typed_anyway.estimate
    assert wrong == pytest.approx(1.0 - right)


def test_without_labels_nothing_is_known() -> None:
    requests = log(None)
    report = silence(requests, users_of(requests), TRUTH)
    assert report.verdicts == {"none": report.withheld}
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["net_s"] == {"estimate": None, "low": None, "high": None}
    assert data["check"]["agreement"] is None
    assert "says nothing" in report.sentence


def withheld_with(verdict: ShadowVerdict, agreed_chars: int, taken_chars: int) -> LoggedRequest:
    request = next(one for one in log() if one.shadow is not None)
    assert request.suggestion is not None
    shadow = replace(request.shadow, verdict=verdict, agreed_chars=agreed_chars, taken_chars=taken_chars)
    return replace(request, suggestion=replace(request.suggestion, chars=20, lines=1), shadow=shadow)


@pytest.mark.parametrize(
    ("verdict", "agreed", "taken", "typed"),
    [
        (ShadowVerdict.WOULD_KEEP, 20, 0, 20),
        (ShadowVerdict.WOULD_KEEP, 20, 15, 5),
        (ShadowVerdict.WOULD_KEEP, 20, 40, 0),
        (ShadowVerdict.WOULD_KEEP_PART, 8, 0, 8),
        (ShadowVerdict.WOULD_REJECT, 8, 0, 0),
    ],
)
def test_only_what_was_typed_key_by_key_counts(verdict: ShadowVerdict, agreed: int, taken: int, typed: int) -> None:
    report = silence([withheld_with(verdict, agreed, taken)], np.array(["u"]), TRUTH)
    assert report.chars == typed
    assert report.lost_s - report.spared_s == pytest.approx(realised_s(typed, 20, 1, TRUTH))


def test_an_unknown_label_is_counted_and_not_used() -> None:
    report = silence([withheld_with(ShadowVerdict.UNKNOWN, 0, 0)], np.array(["u"]), TRUTH)
    assert (report.withheld, report.verdicts, report.chars) == (1, {"unknown": 1}, 0)


def shown_with(kind: OutcomeKind, verdict: ShadowVerdict, accepted_chars: int = 0) -> LoggedRequest:
    request = next(one for one in log(policy=Policy(0.0, eagerness=1.0)) if one.outcome is not None)
    suggestion, decision = request.suggestion, request.decision
    assert suggestion is not None
    outcome = Outcome(
        "o", decision.at, decision.session_id, suggestion.id, decision.id, kind, Evidence.INFERRED, 900.0, accepted_chars
    )
    shadow = Shadow("s", decision.at, decision.session_id, suggestion.id, decision.id, verdict, 5, 9, 0, 20.0)
    return replace(request, outcome=outcome, shadow=shadow)


def test_labels_are_checked_where_an_outcome_is_known_and_nothing_was_inserted() -> None:
    keep, reject = ShadowVerdict.WOULD_KEEP, ShadowVerdict.WOULD_REJECT
    found = check(
        [
            shown_with(OutcomeKind.TYPED_THROUGH, keep),
            shown_with(OutcomeKind.TYPED_THROUGH, reject),
            shown_with(OutcomeKind.DISAGREED, reject),
            shown_with(OutcomeKind.DISMISSED, reject),
            shown_with(OutcomeKind.DISMISSED, ShadowVerdict.WOULD_KEEP_PART),
            # none of these says anything
            shown_with(OutcomeKind.ACCEPTED, keep, accepted_chars=9),
            shown_with(OutcomeKind.PARTIALLY_ACCEPTED, keep, accepted_chars=4),
            shown_with(OutcomeKind.NOT_SEEN, reject),
            shown_with(OutcomeKind.DISMISSED, ShadowVerdict.UNKNOWN),
        ]
    )
    assert (found.typed_through, found.typed_through_agreed, found.rejected, found.rejected_agreed) == (2, 1, 3, 2)
    assert found.agreement == pytest.approx(0.6)
