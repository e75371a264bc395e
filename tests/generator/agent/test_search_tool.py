from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.generator.agent.conftest import Bench

from coderl_generator.agent.calls import Call
from coderl_generator.agent.file_tools import ApplyPatch, EditFile, WriteFile
from coderl_generator.agent.permissions import Kind, Permissions, Rule
from coderl_generator.agent.search_tool import SearchCode, ShownHits
from coderl_generator.agent.toolbox import Toolbox
from coderl_generator.agent.workspace import Workspace

Calling = Callable[..., dict[str, Any]]


def test_hits_are_cited_and_secrets_and_ignored_files_are_no_hits(bench: Bench, calling: Calling) -> None:
    bench.write(
        {
            "shop/prices.py": "def discount(price):\n    return price * 0.9\n",
            "readme.md": "about nothing\n",
            ".env": "discount price secret\n",
            ".gitignore": "old/\n",
            "old/prices.py": "def discount(price):\n    return price\n",
        }
    )
    ran = bench.run([calling("search_code", query="discount of a price"), "shop/prices.py:1-2"], use_rag=True)
    (observation,) = ran.heard.observations
    assert observation.text.startswith("shop/prices.py:1-2\ndef discount(price):")
    assert "secret" not in observation.text
    assert "old/" not in observation.text
    assert not ran.session.bad_citations(ran.ended)


def test_an_edit_does_not_rely_on_a_hit_that_is_out_of_date(tmp_path: Path) -> None:
    place = tmp_path / "a.py"
    place.write_text("def discount(price):\n    return price * 0.9\n")
    workspace = Workspace(tmp_path)
    shown = ShownHits(workspace.root)
    tools = (SearchCode(workspace, shown, lambda: None), EditFile(workspace), WriteFile(workspace), ApplyPatch(workspace))
    box = Toolbox(tools, workspace, Permissions((Rule(Kind.WRITE),)), shown)

    def edit(old: str, new: str) -> str:
        return str(box.run(Call("1", "edit_file", {"path": "a.py", "old": old, "new": new})).outcome)

    box.run(Call("1", "search_code", {"query": "discount"}))
    assert edit("0.9", "0.8") == "done"
    assert edit("0.8", "0.7") == "done"  # its own change makes no hit untrue
    box.run(Call("1", "search_code", {"query": "discount"}))
    place.write_text("def discount(price, share):\n    return price * 0.7\n")
    refused = box.run(Call("1", "edit_file", {"path": "a.py", "old": "0.7", "new": "0.6"}))
    assert refused.outcome == "failed"
    assert "a.py:1-2 is not what search_code showed any more" in refused.text
    assert edit("0.7", "0.6") == "done"  # it was told; once is enough


def test_the_index_follows_the_files(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    search = SearchCode(workspace, ShownHits(workspace.root), lambda: None)
    assert search.prepare({"query": "needle"}).act() == "Nothing in the workspace speaks for any place."
    (tmp_path / "new.txt").write_text("a needle in it\n")
    assert "new.txt:1-1" in search.prepare({"query": "needle"}).act()
