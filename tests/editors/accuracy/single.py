"""One client of the outcome accuracy, in a process of its own: a bare LSP client, or Neovim with and without our plugin.

Run it as `python -m tests.editors.accuracy.single NAME [--count N] [--seed N] [--json FILE]`. Exits 1 where the accuracy is
below what is asked, 3 where there is no such client here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from ..neovim_driver import neovims
from . import bare, neovim
from .plan import BARE, BARE_PARTS, NEOVIM, NEOVIM_PLUGIN, Client, plan
from .score import Report, row

CLIENTS: Mapping[str, Client] = MappingProxyType(
    {"neovim-plugin": NEOVIM_PLUGIN, "neovim": NEOVIM, "bare": BARE, "bare-parts": BARE_PARTS}
)


def measured(client: Client, seed: int, count: int, folder: Path) -> Report:
    """Drive a client through a plan. `folder` is new and empty; CODERL_HOME must name its `home`."""
    interactions = plan(seed, count, client)
    if client.name in (BARE.name, BARE_PARTS.name):
        return bare.run(client, interactions, folder, folder / "home", seed)
    with neovims(folder) as start:
        return neovim.run(client, interactions, start, folder, folder / "home")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.editors.accuracy.single", description=__doc__)
    parser.add_argument("name", choices=tuple(CLIENTS))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the report goes")
    asked = parser.parse_args(arguments)
    for name in [name for name in os.environ if name.startswith("CODERL_") and name not in ("CODERL_EDITORS", "CODERL_NVIM")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        os.environ["CODERL_HOME"] = str(Path(folder) / "home")
        try:
            report = measured(CLIENTS[asked.name], asked.seed, asked.count, Path(folder))
        except pytest.skip.Exception as reason:
            print(reason, file=sys.stderr)
            return 3
    if asked.json:
        asked.json.write_text(json.dumps(report.to_json(), indent=1, ensure_ascii=False), encoding="utf-8")
    print(row(report))
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
