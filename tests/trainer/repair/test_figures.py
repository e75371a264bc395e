"""Figures of episodes and comparisons of two agents, against values worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from coderl_trainer.errors import FigureError, TaskError
from coderl_trainer.repair.figures import RepairRow, compare, figures, read_rows, write_rows

ROW = RepairRow("t0", "t0", True, 1.0, True, 1.05, 2.0, 3, 1, 4, 50, 1, (), "finished", 0)


def rows(solved: list[bool | None], *, seconds: float = 2.0) -> list[RepairRow]:
    return [
        replace(
            ROW,
            task_id=f"t{at}",
            problem=f"t{at}",
            solved=one,
            partial=None if one is None else float(one),
            wall_s=seconds + at,
            reason="the jail broke" if one is None else "",
        )
        for at, one in enumerate(solved)
    ]


def test_ungraded_episodes_count_neither_way() -> None:
    found = figures(rows([True, False, None, True]))
    assert (found.n, found.ungraded, found.reasons) == (3, 1, {"the jail broke": 1})
    assert found.success.estimate == pytest.approx(2 / 3)
    assert found.success.low < 2 / 3 < found.success.high
    assert found.success_bootstrap.estimate == pytest.approx(2 / 3)
    assert found.time_to_solution_s.estimate == pytest.approx((2 + 5) / 2)
    assert (found.files_read.estimate, found.commands_run.estimate) == (3.0, 1.0)


def test_nothing_is_not_zero() -> None:
    told = json.loads(json.dumps(figures(rows([None])).to_json()))
    assert told["success"]["estimate"] is None
    assert told["time_to_solution_s"] == {"estimate": None, "low": None, "high": None}
    assert told["n"] == 0


def test_findings_and_fitted_repairs_are_counted() -> None:
    fitted = replace(ROW, solved=False, partial=0.0, findings=("names_tests", "committed"))
    found = figures([fitted, replace(ROW, task_id="t1", findings=("committed",))])
    assert (found.visible_only, found.findings) == (1, {"names_tests": 1, "committed": 2})


def test_two_agents() -> None:
    a, b = rows([False] * 6 + [True, True, None]), rows([True] * 6 + [True, False, True], seconds=1.0)
    found = compare(a, b)
    assert (found.success.n, found.success.only_a, found.success.only_b, found.left_out) == (8, 1, 6, 1)
    assert found.success.mcnemar_p == pytest.approx(2 * (1 + 7) / 2**7)
    h = 2 * math.asin(math.sqrt(7 / 8)) - 2 * math.asin(math.sqrt(2 / 8))
    assert found.success.cohens_h == pytest.approx(h)
    assert found.partial.estimate == pytest.approx(5 / 8)
    assert found.partial_d is not None
    assert found.partial_d > 1
    assert (found.both_solved, found.time_d) == (1, None)
    assert json.dumps(found.to_json())


def test_an_agent_against_itself() -> None:
    found = compare(rows([True, False, True]), rows([True, False, True]))
    assert (found.success.mcnemar_p, found.success.cohens_h, found.partial_d, found.time_d) == (1.0, 0.0, 0.0, 0.0)


def test_nothing_in_common() -> None:
    with pytest.raises(FigureError, match="nothing to compare"):
        compare(rows([None]), rows([True]))


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    written = rows([True, None, False])
    write_rows(written, path)
    assert read_rows(path) == written
    path.write_text('{"task_id": "t"}\n')
    with pytest.raises(TaskError, match="line 1 is no row"):
        read_rows(path)
