"""Every page in a real Chromium: it loads its own files only, complains of nothing, can be used by everybody, and works."""

from __future__ import annotations

import importlib.resources
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.dashboard_server import PAGES, Served, serve

from .conftest import Look

SERIOUS = ("serious", "critical")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", PAGES)
def test_every_page_loads_without_a_fault(open_server: Served, look: Callable[..., Look], place: str, scheme: str) -> None:
    looking = look(open_server.url, color_scheme=scheme)
    asked: list[str] = []
    looking.page.on("request", lambda request: asked.append(request.url))
    begun_s = time.perf_counter()
    answer = looking.open(place)
    print(f"\n/{place or 'worth'} ({scheme}): loaded in {1000 * (time.perf_counter() - begun_s):.0f} ms")
    assert answer.status == 200
    assert looking.page.locator("h1").count() == 1
    assert looking.page.locator("nav a[aria-current=page]").count() == 1
    assert not looking.complaints
    assert all(url.startswith(open_server.url) for url in asked)  # nothing of the internet
    assert _faults(looking) == []
    wide = looking.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0


def test_a_narrow_window_scrolls_in_one_direction(open_server: Served, look: Callable[..., Look]) -> None:
    looking = look(open_server.url, viewport={"width": 390, "height": 800})
    for place in PAGES:
        looking.open(place)
        wide = looking.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0, place


def test_the_first_page_says_what_the_log_says(open_server: Served, look: Callable[..., Look]) -> None:
    looking = look(open_server.url)
    looking.open("?days=90")
    tiles = dict(
        zip(looking.page.locator(".tile dt").all_inner_texts(), looking.page.locator(".tile").all_inner_texts(), strict=True)
    )
    assert "of 6,000 requests" in tiles["Withheld"]
    assert "12" in tiles["Programmers"]
    assert looking.page.locator("svg.chart").count() == 3
    looking.page.get_by_role("link", name="python").click()
    assert "language=python" in looking.page.url
    assert looking.page.locator("tbody th", has_text="typescript").count() == 0


def test_the_slider_decides_anew(open_server: Served, look: Callable[..., Look]) -> None:
    looking = look(open_server.url)
    looking.open("what-if")
    shown = looking.page.locator(".tile", has_text="requests").locator("dd").first
    before = _share(shown)
    slider = looking.page.get_by_label("Eagerness", exact=True)
    slider.focus()
    for _ in range(10):
        slider.press("ArrowRight")
    looking.page.wait_for_function("(old) => document.querySelector('.tile dd').innerText !== old", arg=shown.inner_text())
    looking.page.wait_for_function("!document.querySelector('#figures').classList.contains('busy')")
    assert looking.page.locator("output[for=eagerness]").inner_text() == "0.5"
    assert _share(shown) > before
    slider.fill("-1")
    looking.page.wait_for_function("(old) => document.querySelector('.tile dd').innerText !== old", arg=shown.inner_text())
    looking.page.wait_for_function("!document.querySelector('#figures').classList.contains('busy')")
    assert _share(shown) < before
    assert not looking.complaints


def test_a_silence_is_found_and_explained(open_server: Served, look: Callable[..., Look]) -> None:
    looking = look(open_server.url)
    looking.open("silent?days=30")
    looking.page.get_by_label("Reason").select_option("below_threshold")
    looking.page.get_by_role("button", name="Search").click()
    reasons = looking.page.locator("section:last-of-type tbody tr td:nth-child(2)").all_inner_texts()
    assert set(reasons) == {"below threshold"}
    looking.page.locator("section:last-of-type tbody a").first.click()
    assert "reading it would probably have cost more time" in looking.page.locator("main").inner_text()
    assert "records no text" in looking.page.locator("main").inner_text()
    assert _faults(looking) == []


def test_the_theme_is_switched_and_remembered(open_server: Served, look: Callable[..., Look]) -> None:
    looking = look(open_server.url, color_scheme="light")
    looking.open("")
    light = _ground(looking)
    looking.page.locator("#theme").click()
    dark = _ground(looking)
    assert dark != light
    looking.open("health")
    assert _ground(looking) == dark


def test_signing_in_what_a_role_sees_and_signing_out(tmp_path: Path, look: Callable[..., Look], log_home: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "coderl.db").write_bytes((log_home / "coderl.db").read_bytes())
    served = serve(home)
    try:
        lead, editor = served.token("read", "lead"), served.token("ingest", "ada")
        time.sleep(6)  # what the open server remembered of having no tokens
        looking = look(served.url)
        looking.open("silent?days=30")
        assert looking.page.url.endswith("/dashboard/sign-in?next=%2Fdashboard%2Fsilent%3Fdays%3D30")
        assert _faults(looking) == []
        _sign_in(looking, "coderl_0123456789abcdef_" + "x" * 43)
        assert "not known" in looking.page.get_by_role("alert").inner_text()
        looking.complaints.clear()  # Chromium notes the 401 itself
        _sign_in(looking, lead)
        assert looking.page.url.endswith("/dashboard/silent?days=30")
        looking.open("")
        assert looking.page.get_by_label("Whose").count() == 1
        cookie = looking.page.context.cookies()[0]
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/dashboard")
        looking.page.get_by_role("button", name="Sign out").click()
        assert looking.page.context.cookies() == []
        _sign_in(looking, editor)
        assert looking.page.get_by_label("Whose").count() == 0
        assert looking.open("health").status == 403
        assert "another role has it" in looking.page.locator("main").inner_text()
    finally:
        served.stop()


def test_my_rows_are_erased_after_the_words(tmp_path: Path, look: Callable[..., Look], log_home: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "coderl.db").write_bytes((log_home / "coderl.db").read_bytes())
    served = serve(home)
    try:
        looking = look(served.url)
        looking.open("my-data")
        with looking.page.expect_download() as download:
            looking.page.get_by_role("link", name="Export all of it").click()
        assert download.value.suggested_filename == "coderl-records.jsonl"
        looking.page.get_by_label("Type").fill("no")
        looking.page.get_by_role("button", name="Erase").click()
        assert "Nothing was erased" in looking.page.locator("main").inner_text()
        looking.open("my-data")
        looking.page.get_by_label("Type").fill("erase my data")
        looking.page.get_by_role("button", name="Erase").click()
        assert "rows were erased" in looking.page.get_by_role("status").inner_text()
    finally:
        served.stop()


def _sign_in(looking: Look, text: str) -> None:
    looking.page.get_by_label("Token").fill(text)
    looking.page.get_by_role("button", name="Sign in").click()


def _share(tile: Any) -> int:
    return int(tile.inner_text().removesuffix(" %"))


def _ground(looking: Look) -> str:
    return str(looking.page.evaluate("getComputedStyle(document.body).backgroundColor"))


def _faults(looking: Look) -> list[str]:
    """Serious faults of accessibility, by axe-core. It is run from outside, since the page lets no foreign script in."""
    axe = (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    looking.page.evaluate(axe)
    found = looking.page.evaluate("axe.run()")
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"] if one["impact"] in SERIOUS]
