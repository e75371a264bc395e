"""Reading the CUPS telemetry, good rows and bad."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_gate import cups
from coderl_gate.contamination import MOST_ELSEWHERE
from coderl_gate.dataset import CLIP_S, READING_SHARE, reading_seconds
from coderl_gate.errors import DataError
from coderl_gate.reading import Rows, fit_reading
from coderl_store.records import Evidence, Origin, OutcomeKind

HEADER = "#!/usr/bin/env python3\n# Path: write_code_here.py\n"


def row(state: str, second: float, user: int = 1, **changes: Any) -> dict[str, Any]:
    """One event; `second` after eight o'clock."""
    code = "import os\n\nprint("
    event: dict[str, Any] = {
        "UserId": user,
        "TimeGenerated": f"2022-08-08T08:{int(second) // 60:02}:{second % 60:06.3f}Z",
        "StateName": state,
        "TimeSpentInState": 0.5,
        "CurrentSuggestion": "os.getcwd())",
        "CurrentPrompt": HEADER + code,
        "Measurements": {
            "documentLength": 40.0,
            "promptEndPos": float(len(code)),
            "meanLogProb": -0.3 - second / 1000,
            "numTokens": 5.0,
            "timeSinceIssuedMs": 350.0,
        },
        "EditPercentage": [0.0, 0.0, 0.1, 0.2, 0.25],
        "LabeledState": cups.READING,
        "Task": "Tests",
    }
    return {**event, **changes}


def write(folder: Path, rows: list[Mapping[str, Any] | str]) -> Path:
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def decisions(count: int = 40, user: int = 1) -> list[Mapping[str, Any] | str]:
    rows: list[Mapping[str, Any] | str] = []
    for index in range(count):
        rows += [
            row("Shown", 10.0 * index, user, TimeSpentInState=8.0),
            row("Accepted" if index % 3 == 0 else "Rejected", 10.0 * index + 2, user),
        ]
    return rows


def test_a_decision_becomes_a_request(tmp_path: Path) -> None:
    log = cups.read(write(tmp_path, decisions()))
    assert (len(log.requests), log.events, log.problems) == (40, 80, ())
    first, fourth = log.requests[0], log.requests[3]
    assert first.session.origin is Origin.IMPORTED
    assert first.context.prefix == "import os\n\nprint("
    assert first.context.suffix is None
    assert (first.context.line, first.context.character) == (2, 6)
    assert first.context.document_chars == 40
    assert first.context.features["suffix_chars"] == pytest.approx(3.178, abs=0.01)  # ln(1 + 40 − 17)
    assert first.context.recent_accepts == ()
    assert first.context.since_decision_ms is None
    assert fourth.context.recent_accepts == (True, False, False)
    assert fourth.context.since_decision_ms == 8000
    assert fourth.context.session_s == 30
    assert first.context.typing_interval_ms is None


def test_outcome_time_and_survival(tmp_path: Path) -> None:
    accepted, rejected, *_ = cups.read(write(tmp_path, decisions())).requests
    assert accepted.outcome is not None
    assert rejected.outcome is not None
    assert (accepted.outcome.kind, accepted.outcome.evidence) == (OutcomeKind.ACCEPTED, Evidence.IMPORTED)
    assert accepted.outcome.visible_ms == 2000
    assert accepted.outcome.accepted_chars == 12
    assert [(row.after_s, row.share) for row in accepted.survival] == [(15, 1), (30, 1), (120, 0.9), (300, 0.8), (600, 0.75)]
    assert (rejected.outcome.kind, rejected.outcome.accepted_chars, rejected.survival) == (OutcomeKind.DISMISSED, 0, ())


def test_reading_is_what_the_programmers_labelled_and_is_clipped(tmp_path: Path) -> None:
    rows = [
        row("Shown", 0, TimeSpentInState=50.0),  # spent before it was shown
        row("Replay", 1, TimeSpentInState=1.5),
        row("Replay", 3, TimeSpentInState=7.0, LabeledState="Writing New Functionality (Z)"),
        row("Accepted", 4, TimeSpentInState=0.75),
        row("Shown", 60),
        row("Rejected", 90, TimeSpentInState=30.0),
    ]
    log = cups.read(write(tmp_path, [*rows, *decisions(30, user=2)]))
    assert [r.outcome.reading_ms for r in log.requests[:2] if r.outcome is not None] == [2250, 30_000]
    assert [reading_seconds(r) for r in log.requests[:2]] == [2.25, CLIP_S]


def test_log_probs_are_quantiles_of_this_logs_own(tmp_path: Path) -> None:
    log = cups.read(write(tmp_path, decisions()))
    quantiles = [request.suggestion.features["logprob_mean"] for request in log.requests if request.suggestion is not None]
    assert quantiles == sorted(quantiles, key=lambda q: -(q or 0))  # the values fall, so do the quantiles
    assert quantiles[0] == 1.0
    assert quantiles[-1] == 0.0
    assert log.requests[0].suggestion is not None
    assert log.requests[0].suggestion.features["logprob_lowest"] is None


BAD: Mapping[str, tuple[Mapping[str, Any] | str, str]] = {
    "not JSON": ("{oops", "cannot be read"),
    "not an object": ("[1, 2]", "must be a JSON object"),
    "no state": ({"UserId": 1}, "StateName"),
    "text missing": (row("Shown", 900, CurrentSuggestion=None), "must be text"),
    "empty suggestion": (row("Shown", 900, CurrentSuggestion=""), "without a suggestion"),
    "no such time": (row("Shown", 0, TimeGenerated="yesterday"), "cannot be read"),
    "no time zone": (row("Shown", 0, TimeGenerated="2022-08-08T09:00:00"), "time zone"),
    "a measurement that is no number": (json.dumps(row("Shown", 900, Measurements={"meanLogProb": float("nan")})), "finite"),
    "backwards": (row("Shown", 1), "backwards"),
    "decided without being shown": (row("Accepted", 900), "without a Shown event"),
    "negative time": (row("Replay", 900, TimeSpentInState=-1), "negative"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_reported_with_its_line_and_skipped(name: str, tmp_path: Path) -> None:
    bad, why = BAD[name]
    log = cups.read(write(tmp_path, [*decisions(), bad]))
    assert len(log.requests) == 40
    (problem,) = log.problems
    assert problem.line == 81
    assert why in problem.sentence


def test_missing_files_and_logs_without_decisions_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no events\.jsonl"):
        cups.read(tmp_path)
    with pytest.raises(DataError, match="no decision"):
        cups.read(write(tmp_path, [row("Shown", 1)]))


def test_same_file_same_requests(tmp_path: Path) -> None:
    folder = write(tmp_path, decisions())
    assert cups.read(folder) == cups.read(folder)


def test_ids_are_unique(tmp_path: Path) -> None:
    log = cups.read(write(tmp_path, [*decisions(20, 1), *decisions(20, 2)]))
    ids = [
        record.id for r in log.requests for record in (r.context, r.decision, r.suggestion, r.outcome, *r.survival) if record
    ]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        (HEADER + "x = 1", "x = 1"),
        ("// Language: javascript\n// Path: study21\\write.js\nlet x", "let x"),
        ("# Path: a.py\nx", "x"),
        ("", ""),
        ("x = 1\n# Path: not a header\n", "x = 1\n# Path: not a header\n"),
        ("#!/usr/bin/env python3\nx", "#!/usr/bin/env python3\nx"),
    ],
)
def test_only_copilots_header_is_removed(prompt: str, code: str) -> None:
    assert cups.code_before_cursor(prompt) == code


@given(st.text())
def test_the_header_comes_off_whatever_follows(code: str) -> None:
    assert cups.code_before_cursor(HEADER + code) == code


@pytest.mark.cups
def test_the_real_file(shared_data: Path) -> None:
    log = cups.read(shared_data / "cups")
    kept = [request.outcome.kept for request in log.requests if request.outcome is not None]
    assert (len(kept), sum(kept), log.events, log.problems) == (723, 240, 2402, ())
    assert len({request.session.user_key for request in log.requests}) == 14
    assert not any((request.context.prefix or "").startswith(("#!/usr/bin", "// Language")) for request in log.requests)


@pytest.mark.cups
def test_the_reading_shares_are_what_the_programmers_labelled(shared_data: Path) -> None:
    """`dataset.READING_SHARE` quotes this log; here is where the numbers come from."""
    log = cups.read(shared_data / "cups")
    rows = [r for r in log.requests if r.outcome is not None and r.suggestion is not None and r.outcome.visible_ms is not None]
    visible_s = np.array(
        [min(CLIP_S, r.outcome.visible_ms / 1000) for r in rows if r.outcome is not None and r.outcome.visible_ms]
    )
    labelled_s = np.array([reading_seconds(r) or 0.0 for r in rows])
    chars = np.array([float(r.suggestion.chars) for r in rows if r.suggestion is not None])
    kept = np.array([float(r.outcome.kept) for r in rows if r.outcome is not None])
    users, member = np.unique([r.session.user_key for r in rows], return_inverse=True)
    fit = fit_reading(Rows(chars, visible_s, kept, np.ones(len(rows)), member, len(users)))
    assert fit.elsewhere == MOST_ELSEWHERE
    for kind, mean_labelled_s, mean_visible_s, mean_alone_s in ((True, 2.15, 3.55, 2.87), (False, 0.67, 4.83, 3.16)):
        of = kept == kind
        alone_s = float(np.average(visible_s[of], weights=fit.reading[of]))
        assert visible_s[of].mean() == pytest.approx(mean_visible_s, abs=0.01)
        assert labelled_s[of].mean() == pytest.approx(mean_labelled_s, abs=0.01)
        assert alone_s == pytest.approx(mean_alone_s, abs=0.02)
        assert labelled_s[of].mean() / alone_s == pytest.approx(READING_SHARE[kind], abs=0.01)
