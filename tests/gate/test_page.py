"""The parts of a report's page: one file, nothing fetched, nothing that a text could break."""

from __future__ import annotations

import base64
import re

from coderl_gate.page import document, items, picture, table


def test_a_page_needs_nothing_else() -> None:
    page = document("A & B", [table(["x"], [["1"]]), picture(b"\x89PNG", "a curve")])
    assert page.startswith("<!doctype html>")
    assert "<title>A &amp; B</title>" in page
    assert base64.b64encode(b"\x89PNG").decode() in page
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert "<script" not in page
    assert "href" not in page


def test_texts_are_texts() -> None:
    hostile = "<script>alert('x')</script>"
    parts = table([hostile], [[hostile]]) + items(hostile, [hostile]) + picture(b"", f'"{hostile}')
    assert "<script" not in parts
    assert 'alt=""' not in parts


def test_an_empty_list_has_no_heading() -> None:
    assert items("Warnings", []) == ""
