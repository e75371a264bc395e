"""The report: complete, self-contained, the same every time, and safe against odd strings."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from coderl_gate import report
from coderl_gate.calibrate import Comparison, Fit, calibrate, compare
from coderl_gate.dataset import build
from coderl_gate.errors import GateError
from coderl_gate.policy import Policy, Rule
from coderl_gate.synthetic import World, knowing

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def fit() -> Fit:
    requests = World(users=6, requests_per_user=40).requests(knowing(), Policy(0.5, rule=Rule.ALWAYS_SHOW))
    return calibrate(build(requests), {"source": "a <b>bold</b> source"})


class _Tags(HTMLParser):
    """Every tag opened must be closed, in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(fit: Fit) -> None:
    page = report.page(fit, compare(fit, knowing()), promoted=True)
    parser = _Tags()
    parser.feed(page)
    assert parser.open == []
    assert parser.seen.count("img") == 5
    assert "script" not in parser.seen
    assert "http" not in page
    assert "It was promoted." in page


def test_pictures_are_png_and_say_what_they_show(fit: Fit) -> None:
    page = report.page(fit, None, promoted=False)
    pictures = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)">', page)
    assert len(pictures) == 5
    assert all(base64.b64decode(data).startswith(PNG) for _, data in pictures)
    assert len({data for _, data in pictures}) == 5
    assert sum("reliability" in words for words, _ in pictures) == 2
    assert sum("histogram" in words for words, _ in pictures) == 2


def test_what_was_not_estimated_and_warned_about_is_said(fit: Fit) -> None:
    page = report.page(fit, None, promoted=False)
    for sentence in (*fit.costs.not_estimated, *fit.warnings):
        assert sentence.replace("'", "&#x27;") in page


def test_strings_from_outside_are_escaped(fit: Fit) -> None:
    page = report.page(fit, None, promoted=False)
    assert "<b>bold" not in page
    assert "&lt;b&gt;bold" in page


def test_same_fit_same_page(fit: Fit) -> None:
    assert report.page(fit, None, promoted=False) == report.page(fit, None, promoted=False)


def test_both_files_are_written(fit: Fit, tmp_path: Path) -> None:
    report.write(fit, tmp_path / "deep" / "down", Comparison("gate-x", 5, True, (0.5, 0.6), (1.0, 0.9)), promoted=False)
    figures = json.loads((tmp_path / "deep" / "down" / "metrics.json").read_text())
    assert figures["comparison"]["verdict"] == "not worse"
    assert figures["promoted"] is False
    assert (tmp_path / "deep" / "down" / "report.html").read_text().startswith("<!doctype html>")


def test_an_unusable_folder_is_one_sentence(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GateError, match="another --out"):
        report.write(fit, tmp_path / "file", None, promoted=False)


def test_a_gate_that_shows_nothing_is_reported_without_numbers(fit: Fit) -> None:
    silent = replace(fit, outlook=replace(fit.outlook, shown=0.0, gate=0.0, kept_of_shown=float("nan")))
    assert "not known" in report.page(silent, None, promoted=False)
