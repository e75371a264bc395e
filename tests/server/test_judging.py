"""`coderl replay --from-cups`: a given gate on other programmers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coderl_gate.artifact import default_artifact, save
from coderl_gate.cups import read
from coderl_server.errors import InputError
from coderl_server.judging import judge_on_cups


@pytest.mark.cups
def test_a_gate_is_judged_on_programmers_it_has_not_seen(shared_data: Path, tmp_path: Path) -> None:
    """Half of the programmers. The shipped gate has seen them under another hash: what is tested is the arithmetic."""
    rows = [row for row in (shared_data / "cups" / "events.jsonl").read_text().splitlines() if row.strip()]
    users = sorted({json.loads(row)["UserId"] for row in rows})
    half = set(users[::2])
    (tmp_path / "events.jsonl").write_text("\n".join(row for row in rows if json.loads(row)["UserId"] in half))
    save(default_artifact(), tmp_path / "gate")
    report = judge_on_cups(tmp_path, tmp_path / "gate").to_json()
    assert report["users"] == len(half)
    assert report["decisions"] == len(read(tmp_path).requests)
    assert report["in_sample"] is False
    assert report["stage2"]["auc"] > report["stage2"]["population"]["auc"] - 0.02
    assert report["net_seconds_per_suggestion"]["show_all"] < report["net_seconds_per_suggestion"]["gate"]
    assert report["net_seconds_per_suggestion"]["gate"] < report["net_seconds_per_suggestion"]["oracle"]
    for key in ("stage1", "stage2", "generations_skipped", "model", "provenance"):
        assert report[key]


@pytest.mark.cups
def test_the_gates_own_data_is_said_to_be_that(shared_data: Path) -> None:
    judged = judge_on_cups(shared_data / "cups", None)
    assert judged.to_json()["in_sample"] is True
    assert any("flatter" in sentence for sentence in judged.to_json()["warnings"])


def test_wrong_input_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no events\.jsonl"):
        judge_on_cups(tmp_path, None)
    with pytest.raises(InputError, match="no gate artifact"):
        judge_on_cups(tmp_path, tmp_path / "nothing")
