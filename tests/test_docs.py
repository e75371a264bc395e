"""Pages that drift are wrong pages. `make docs` (WRITE_DOCS=1) writes what is generated; without it these tests compare."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main

from coderl_gate.catalogue import CONTEXT_FEATURES, COSTS, FEATURE_VERSION, P1, SUGGESTION_FEATURES, Cost
from coderl_generator.agent.loop import Status
from coderl_generator.agent.permissions import Kind
from coderl_generator.agent.scaffolds import Scaffold, tools_of
from coderl_server.cli import app
from coderl_server.settings import Settings, wire_name
from coderl_server.simplecoder import app as simplecoder
from coderl_store.records import Action, Evidence, OutcomeKind, Reason

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md"), *(ROOT / "editors").glob("*/README.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


# -- generated: docs/settings.md and the reasons of docs/protocol.md ----------------------------------------------------------


def shown(value: object) -> str:
    """A default as it is written on the wire."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | int):
        return str(int(value)) if value == int(value) else str(value)
    if isinstance(value, tuple | Mapping):
        return "below" if value else "none"
    return f"`{value}`"


def bounds(field: dataclasses.Field[Any]) -> str:
    if field.metadata["choices"]:
        return ", ".join(f"`{choice}`" for choice in field.metadata["choices"])
    low, high = field.metadata["low"], field.metadata["high"]
    return "" if low is None else f"{shown(low)} to {shown(high)}"


SETTINGS_HEAD = """\
# Settings

What the programmer may set, in the editor: with `initialize` under `initializationOptions.coderl`, live under
`settings.coderl` of `workspace/didChangeConfiguration`. All are optional. A key that is unknown or out of range is named in
one message; its default stays and the rest applies. Where the log goes is set by environment variables
([operations.md](operations.md)).

This page is written by `make docs` from `coderl_server/settings.py`.

| setting | default | unit | allowed | meaning |
| --- | --- | --- | --- | --- |
"""


def settings_page() -> str:
    defaults = Settings()
    lines = SETTINGS_HEAD.splitlines()
    long: list[tuple[str, object]] = []
    for field in dataclasses.fields(Settings):
        name, value = wire_name(field.name), getattr(defaults, field.name)
        lines.append(f"| `{name}` | {shown(value)} | {field.metadata['unit']} | {bounds(field)} | {field.metadata['doc']} |")
        if isinstance(value, tuple | Mapping) and value:
            long.append((name, value))
    for name, value in long:
        items = [f"{key}: {shown(one)}" for key, one in value.items()] if isinstance(value, Mapping) else list(value)  # type: ignore[call-overload]  # a tuple
        lines += ["", f"## Default of `{name}`", "", *wrapped([f"`{item}`" for item in items])]
    return "\n".join(lines) + "\n"


def wrapped(items: list[str], width: int = 120) -> list[str]:
    lines = [""]
    for index, item in enumerate(items):
        piece = item + ("," if index < len(items) - 1 else "")
        if len(lines[-1]) + len(piece) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {piece}".strip()
    return lines


def reasons_table() -> str:
    lines = [
        "| reason | said to the programmer |",
        "| --- | --- |",
        *(f"| `{reason.value}` | {reason.sentence} |" for reason in Reason),
    ]
    return "\n".join(lines)


def protocol_page() -> str:
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    head, start, rest = text.partition("<!-- reasons: written by `make docs` -->\n")
    _, end, tail = rest.partition("<!-- /reasons -->")
    assert start, "docs/protocol.md has no place for the reasons"
    assert end, "docs/protocol.md has no end of the reasons"
    return f"{head}{start}\n{reasons_table()}\n\n{end}{tail}"


FEATURES_HEAD = """\
# Features

What the two models see, feature version {version}. Before generation: the context features. After it: those, the suggestion
features, and stage 1's estimate `p1`. A feature that cannot be computed is *missing*, never 0. Counts, lengths and times enter
as ln(1 + x) where their unit says so. *Sign*: the direction in which the estimate may only move with the feature (trees only).

The idea of each comes from its *source*: Copilot 2022 = the contextual filter of GitHub Copilot's editor client; Amazon =
aws/language-servers; Cody = sourcegraph/cody; Continue = continuedev/continue; NES = microsoft/vscode-copilot-chat; Tabby =
TabbyML/tabby; CUPS and CDHF = Mozannar et al.; JetBrains, Google = what these say of their own filters; ours = new here.

This page is written by `make docs` from `coderl_gate/catalogue.py`.

## Cost

| cost | what it takes |
| --- | --- |
"""


def features_page() -> str:
    lines = FEATURES_HEAD.format(version=FEATURE_VERSION).splitlines()
    lines += [f"| {cost.value} | {COSTS[cost]} |" for cost in Cost]
    for title, features in (("Before generation", CONTEXT_FEATURES), ("After generation", (*SUGGESTION_FEATURES, P1))):
        lines += ["", f"## {title}", "", "| feature | unit | meaning | cost | sign | source |", "| --- " * 6 + "|"]
        for feature in features:
            cells = (feature.unit, feature.doc, feature.cost.value, " +−"[feature.monotone], feature.source)
            lines.append(f"| `{feature.name}` | {' | '.join(cell.strip() for cell in cells)} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "page"), [("settings.md", settings_page), ("protocol.md", protocol_page), ("features.md", features_page)]
)
def test_generated_pages_are_up_to_date(name: str, page: Any) -> None:
    path, wanted = DOCS / name, page()
    if os.environ.get("WRITE_DOCS"):
        path.write_text(wanted, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == wanted, f"docs/{name} is out of date: run `make docs`"


VSCODE = ROOT / "editors" / "vscode" / "package.json"

VSCODE_OWN: dict[str, dict[str, Any]] = {
    "path": {
        "type": "string",
        "default": "",
        "scope": "machine-overridable",
        "description": "The program `coderl`. Empty: that of the active Python environment, else of the environment that this"
        " extension keeps, else of the PATH.",
    },
    "arguments": {
        "type": "array",
        "items": {"type": "string"},
        "default": [],
        "scope": "machine-overridable",
        "description": "Further arguments of `coderl lsp`, such as another generator.",
    },
    "showStatus": {"type": "boolean", "default": True, "scope": "window", "description": "Show the item in the status bar."},
    "installSource": {
        "type": "string",
        "default": "",
        "scope": "machine-overridable",
        "description": "What pip installs for this extension: a folder with a checkout, a wheel, a name. Empty: you are asked.",
    },
}
"""Settings of the extension itself; the server never sees them."""


def vscode_setting(field: dataclasses.Field[Any], default: object) -> dict[str, Any]:
    """One setting of the server as VS Code declares it (JSON schema)."""
    wire: object = getattr(default, "value", default)
    unit, low, high = (field.metadata[key] for key in ("unit", "low", "high"))
    schema: dict[str, Any]
    if isinstance(wire, bool):
        schema = {"type": "boolean", "default": wire}
    elif isinstance(wire, int | float):
        plain = int(wire) if wire == int(wire) else wire
        schema = {"type": "integer" if isinstance(wire, int) else "number", "default": plain, "minimum": low, "maximum": high}
    elif isinstance(wire, Mapping):
        schema = {"type": "object", "additionalProperties": {"type": "boolean"}, "default": dict(wire)}
    elif isinstance(wire, tuple):
        schema = {"type": "array", "items": {"type": "string"}, "default": list(wire)}
    else:
        schema = {"type": "string", "enum": list(field.metadata["choices"]), "default": wire}
    return {**schema, "scope": "window", "description": field.metadata["doc"] + (f" In {unit}." if unit else "")}


def vscode_manifest() -> str:
    """package.json of the extension, its settings written anew."""
    manifest = json.loads(VSCODE.read_text(encoding="utf-8"))
    defaults = Settings()
    settings = VSCODE_OWN | {
        wire_name(field.name): vscode_setting(field, getattr(defaults, field.name)) for field in dataclasses.fields(Settings)
    }
    manifest["contributes"]["configuration"]["properties"] = {
        f"coderl.{name}": {**schema, "order": order} for order, (name, schema) in enumerate(settings.items())
    }
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def test_generated_settings_of_vscode_are_those_of_the_server() -> None:
    wanted = vscode_manifest()
    if os.environ.get("WRITE_DOCS"):
        VSCODE.write_text(wanted, encoding="utf-8")
    assert VSCODE.read_text(encoding="utf-8") == wanted, "editors/vscode/package.json is out of date: run `make docs`"


def test_the_own_settings_of_vscode_are_kept_from_the_server() -> None:
    source = (VSCODE.parent / "src" / "settings.ts").read_text(encoding="utf-8")
    own = re.search(r"const OWN: readonly string\[\] = \[(.*?)\]", source)
    assert own is not None
    assert set(re.findall(r'"(\w+)"', own[1])) == set(VSCODE_OWN)
    assert not set(VSCODE_OWN) & {wire_name(field.name) for field in dataclasses.fields(Settings)}


def test_the_lock_file_of_vscode_holds_no_address() -> None:
    assert "://" not in (VSCODE.parent / "package-lock.json").read_text(encoding="utf-8"), "run `npm run lock`"


# -- written by hand ----------------------------------------------------------------------------------------------------------


def test_every_word_of_the_log_is_explained() -> None:
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    words = [*Reason, *OutcomeKind, *Evidence]
    assert not [word.value for word in words if f"| `{word.value}` |" not in text]
    assert all(f"`{action.value}`" in (DOCS / "architecture.md").read_text(encoding="utf-8") for action in Action)


def test_every_method_of_the_server_is_documented() -> None:
    server = ROOT / "server" / "coderl_server"
    source = "".join((server / name).read_text(encoding="utf-8") for name in ("lsp.py", "protocol.py"))
    spoken = set(re.findall(r'"((?:coderl|textDocument)/\w+|didChangeStatus)"', source))
    text = (DOCS / "protocol.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`((?:coderl|textDocument)/\w+|didChangeStatus)`", text))
    assert {method for method in spoken if method.startswith("coderl/")} == {
        method for method in documented if method.startswith("coderl/")
    }
    assert spoken <= documented


def documented_commands() -> list[tuple[str, list[str]]]:
    """Every `coderl …`, `simplecoder …` and `gate-calibrate …` of the README: those in code blocks and those in backticks."""
    blocks = re.findall(r"```(?:sh|console)?\n(.*?)```", README, re.DOTALL)
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
    found = [line.partition(" #")[0] for line in lines if re.match(r"(coderl|simplecoder|gate-calibrate)( |$)", line)]
    return [(line, shlex.split(line.replace("…", ""))) for line in found]


def test_the_readme_shows_commands() -> None:
    assert {"lsp", "demo", "simulate", "replay", "doctor"} <= {words[1] for _, words in documented_commands() if len(words) > 1}


@pytest.mark.parametrize(("line", "words"), documented_commands())
def test_commands_of_the_readme_exist(line: str, words: list[str]) -> None:
    if words[0] == "gate-calibrate":
        run = subprocess.run(
            [sys.executable, "-c", "from coderl_gate.cli import main; main()", "--help"],
            capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        known = set(re.findall(r"--[a-z][a-z-]*", run.stdout))
    else:
        command: Any = typer.main.get_command(simplecoder if words[0] == "simplecoder" else app)
        for word in words[1:]:
            if not hasattr(command, "commands") or word.startswith("-"):
                break
            assert word in command.commands, f"`{line}`: there is no command {word}"
            command = command.commands[word]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    options = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]
    assert not [option for option in options if option not in known], f"`{line}` has an option that does not exist"


def test_the_page_of_the_agent_names_its_tools_and_options_that_exist() -> None:
    text = (DOCS / "agent.md").read_text(encoding="utf-8")
    command: Any = typer.main.get_command(simplecoder)
    known = {option for parameter in command.params for option in parameter.opts}
    own, _, training = text.partition("## Training it")
    assert not sorted(set(re.findall(r"--[a-z][a-z-]+", own)) - known)
    assert not sorted(set(re.findall(r"--[a-z][a-z-]+", training)) - known - training_options())
    tools = tools_of(Scaffold.FULL, *(None,) * 2, "") + tools_of(Scaffold.NANO, *(None,) * 2, "")  # type: ignore[arg-type]
    assert not [tool.spec.name for tool in tools if f"`{tool.spec.name}`" not in text]
    assert not [status for status in Status if f"| `{status}` |" not in text]
    assert not [kind for kind in Kind if f"`{kind}" not in text]


def training_options() -> set[str]:
    """Those of the commands that train and measure agents, and vLLM's own."""
    coderl: Any = typer.main.get_command(app)
    commands = [coderl.commands["train"], coderl.commands["eval"], coderl.commands["tasks"].commands["repairs"]]
    options = {option for command in commands for parameter in command.params for option in parameter.opts}
    return options | {"--enable-lora", "--enable-auto-tool-choice"}


def test_every_command_is_in_the_readme() -> None:
    command: Any = typer.main.get_command(app)
    assert not [name for name in command.commands if f"coderl {name}" not in README]


def test_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert json.loads(VSCODE.read_text(encoding="utf-8"))["version"] == version
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
    run = subprocess.run(
        [sys.executable, "-m", "coderl_server", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout.split() == ["coderl", version], run.stderr


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{target} does not exist"
        assert path.is_relative_to(ROOT), f"{target} leaves the repository"
        assert not anchor or anchor in anchors(path), f"{target}: no such heading"


def test_the_lines_for_neovim_are_the_same_on_both_pages() -> None:
    pages = [README, (ROOT / "editors" / "nvim" / "README.md").read_text(encoding="utf-8")]
    blocks = [re.search(r"```lua\n(.*?)```", page, re.DOTALL) for page in pages]
    assert blocks[0] is not None
    assert blocks[1] is not None
    assert blocks[0][1] == blocks[1][1]


def test_the_tree_of_the_readme_is_the_real_one() -> None:
    block = re.search(r"```text\n(.*?)```", README, re.DOTALL)
    assert block is not None, "the README has no tree"
    named = [line.split()[0] for line in block[1].splitlines() if line and not line.startswith(" ")]
    assert not [name for name in named if not (ROOT / name).exists()]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of folders")
    folders = {name.split("/")[0] for name in listed.stdout.splitlines() if "/" in name and not name.startswith(".")}
    assert folders <= {name.split("/")[0] for name in named}
