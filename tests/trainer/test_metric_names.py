"""The names of the metrics: the page lists them all, as the code says them."""

from __future__ import annotations

from pathlib import Path

from coderl_trainer.metric_names import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_page_lists_every_metric_as_the_code_says_it() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| figure | unit | meaning | TRL |\n")[2].partition("\n\n")[0]
    wanted = [
        f"| `{name}` | {metric.unit or '–'} | {metric.doc} | {'yes' if metric.trl else ''} |"
        for name, metric in METRICS.items()
    ]
    assert table.splitlines()[1:] == wanted
