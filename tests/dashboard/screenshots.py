"""Pictures of the dashboard from a made-up log: `python -m tests.dashboard.screenshots docs/pictures [page …]`.

Pages are taken in light and in dark. Without pages, the two that the documentation shows. Look at them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.dashboard_server import serve
from benchmarks.team_log import generate
from playwright.sync_api import sync_playwright

SHOWN = (("", "light"), ("what-if", "dark"))
DECISIONS, USERS, DAYS = 60_000, 40, 60
SUMS_S = 600.0


def main(folder: Path, pages: list[str]) -> None:
    """Write the pictures into `folder`."""
    wanted = [(page, scheme) for page in pages for scheme in ("light", "dark")] or list(SHOWN)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as driver:
        generate(Path(home) / "coderl.db", DECISIONS, USERS, DAYS)
        served = serve(Path(home))
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        try:
            served.wait_for_sums(SUMS_S)
            for page, scheme in wanted:
                view = browser.new_page(viewport={"width": 1000, "height": 760}, color_scheme=scheme)
                view.goto(f"{served.url}/dashboard/{page}")
                view.screenshot(path=folder / f"dashboard-{page or 'worth'}-{scheme}.png")
                view.close()
        finally:
            browser.close()
            served.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
