"""The rules of the house (docs/architecture.md) as tests: who imports whom, how large things grow, what importing does."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
HOMES = {
    "coderl_store": "store",
    "coderl_gate": "gate",
    "coderl_generator": "generator",
    "coderl_trainer": "trainer",
    "coderl_server": "server",
    "coderl_migrations": "migrations",
}
MAY_IMPORT = {
    "coderl_store": {"coderl_migrations"},
    "coderl_generator": set(),
    "coderl_gate": {"coderl_store"},
    "coderl_trainer": {"coderl_store", "coderl_gate", "coderl_generator"},
    "coderl_server": {"coderl_store", "coderl_gate", "coderl_generator", "coderl_trainer"},
    "coderl_migrations": {"coderl_store"},
}
FILE_LINES, FUNCTION_LINES = 400, 60
LONGER = "Longer than 400 lines because"
HEAVY = (
    "torch",
    "transformers",
    "sklearn",
    "lightgbm",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "fastapi",
    "pydantic",
    "sqlalchemy",
)


def package_files() -> list[Path]:
    return sorted(path for package, home in HOMES.items() for path in (ROOT / home / package).rglob("*.py"))


def measured_files() -> list[Path]:
    return package_files() + sorted((ROOT / "benchmarks").rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


MODULES = {module_of(path): path for path in package_files()}


# -- imports ----------------------------------------------------------------------------------------------------------------


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that can run, those inside functions too; what stands under TYPE_CHECKING cannot."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and is_type_checking(child):
            for other in child.orelse:
                yield from import_statements(other)
        else:
            yield from import_statements(child)


def imported_names(path: Path) -> Iterator[str]:
    """Absolute dotted names; of `from a import b` both `a` and `a.b`, since b may be a module."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for statement in import_statements(parse(path)):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
            continue
        base = statement.module or ""
        if statement.level:
            parents = package.split(".")
            parents = parents[: len(parents) - statement.level + 1]
            base = ".".join([*parents, base] if base else parents)
        submodules = [f"{base}.{alias.name}" for alias in statement.names if f"{base}.{alias.name}" in MODULES]
        yield from submodules
        if len(submodules) < len(statement.names):
            yield base


@pytest.mark.parametrize("package", HOMES)
def test_imports_go_one_way(package: str) -> None:
    wrong = [
        f"{named(path)} imports {name}"
        for path in package_files()
        if module_of(path).split(".")[0] == package
        for name in imported_names(path)
        if name.split(".")[0] in HOMES.keys() - MAY_IMPORT[package] - {package}
    ]
    assert not wrong, "\n".join(["", *wrong])


def test_import_linter_holds_the_same_contracts() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert set(settings["root_packages"]) == set(HOMES)
    forbidden: set[tuple[str, str]] = set()
    for contract in settings["contracts"]:
        if contract["type"] == "forbidden":
            forbidden |= {(source, target) for source in contract["source_modules"] for target in contract["forbidden_modules"]}
        elif contract["type"] == "independence":
            forbidden |= {(a, b) for a in contract["modules"] for b in contract["modules"] if a != b}
    wanted = {
        (source, target)
        for source, allowed in MAY_IMPORT.items()
        for target in set(HOMES) - allowed - {source, "coderl_migrations"}
        if source != "coderl_migrations" or target in {"coderl_server", "coderl_trainer"}
    }
    assert wanted <= forbidden


def test_no_module_imports_itself_through_others() -> None:
    graph = {module: {name for name in imported_names(path) if name in MODULES} - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, "Import cycle: " + " → ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        for other in sorted(graph[module]):
            walk(other, (*trail, module))
        done.add(module)

    for module in sorted(graph):
        walk(module, ())


# -- what runs on import ----------------------------------------------------------------------------------------------------


def fresh_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)


@pytest.mark.parametrize("module", ["coderl_server.lsp", "coderl_server.cli", "coderl_server.intervene", "coderl_gate.gate"])
def test_the_language_server_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    run = fresh_python(code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""


def message(method: str, identity: int | None = None, **params: Any) -> bytes:
    body = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if identity is None else {"id": identity})
    text = json.dumps(body).encode()
    return b"Content-Length: %d\r\n\r\n%s" % (len(text), text)


def test_a_whole_session_of_the_language_server_loads_nothing_heavy(tmp_path: Path) -> None:
    """Imports that wait inside functions count too: Python itself lists what a served request really loaded."""
    document = {"uri": "file:///tmp/a.py", "languageId": "python", "version": 1, "text": "def add(a, b):\n    return "}
    place = {"textDocument": {"uri": document["uri"]}, "position": {"line": 1, "character": 11}}
    script = tmp_path / "script.json"
    script.write_text('{"default": {"text": " a + b"}}')
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "coderl_server",
        "lsp",
        "--backend",
        "scripted",
        "--script",
        str(script),
    ]
    opening = message("initialize", 1, processId=None, rootUri=None, capabilities={}) + message("initialized")
    opening += message("textDocument/didOpen", textDocument=document)
    opening += message("textDocument/inlineCompletion", 2, **place, context={"triggerKind": 1})
    with (
        (tmp_path / "stderr").open("wb") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=tmp_path) as server,
    ):
        assert server.stdin is not None
        assert isinstance(server.stdout, io.BufferedReader)
        watchdog = threading.Timer(60, server.kill)
        watchdog.start()
        server.stdin.write(opening)
        server.stdin.flush()
        output = b""
        while b'"id": 2' not in output and (data := server.stdout.read1()):
            output += data
        server.communicate(message("coderl/flush", 3) + message("shutdown", 4) + message("exit"))
        watchdog.cancel()
    loaded = {line.rpartition("|")[2].strip() for line in (tmp_path / "stderr").read_text().splitlines() if "|" in line}
    assert b"a + b" in output, (tmp_path / "stderr").read_text()[-2000:]
    assert {"coderl_gate.gate", "coderl_generator.oracle", "coderl_store.repository"} <= loaded
    # By first name: what importlib.import_module loads is not listed itself, but what it imports in turn is.
    # SQLAlchemy may be there: the log's writer thread loads it.
    assert not {name.partition(".")[0] for name in loaded} & (set(HEAVY) - {"sqlalchemy"})
    # The command line knows the trainer's errors; the language server needs nothing else of it.
    assert {name for name in loaded if name.startswith("coderl_trainer.")} <= {"coderl_trainer.errors"}


def test_nothing_is_printed_on_import() -> None:
    names = [module for module in MODULES if not module.endswith("__main__") and not module.startswith("coderl_migrations.")]
    code = "import importlib, warnings\nwarnings.simplefilter('ignore')\n"
    code += f"for name in {names!r}: importlib.import_module(name)\n"
    run = fresh_python(code)
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""
    assert run.stderr == ""


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    if isinstance(value, ast.Call):
        called = ast.unparse(value.func).rpartition(".")[2]
        return called in {"list", "dict", "set", "bytearray", "defaultdict", "OrderedDict", "Counter", "deque"}
    return False


def test_modules_hold_no_state() -> None:
    """A list, dict or set at module level is state that anyone may change: freeze it (tuple, frozenset, MappingProxyType)."""
    wrong = []
    for path in package_files():
        for statement in parse(path).body:
            if isinstance(statement, ast.Assign):
                targets, value = statement.targets, statement.value
            elif isinstance(statement, ast.AnnAssign):
                targets, value = [statement.target], statement.value
            else:
                continue
            names = [ast.unparse(target) for target in targets]
            if is_mutable(value) and names != ["__all__"]:
                wrong.append(f"{named(path)}:{statement.lineno} {', '.join(names)}")
        wrong += [f"{named(path)}:{node.lineno} global" for node in ast.walk(parse(path)) if isinstance(node, ast.Global)]
    assert not wrong, "\n".join(["", *wrong])


# -- shape ------------------------------------------------------------------------------------------------------------------


def test_files_are_short() -> None:
    wrong = []
    for path in measured_files():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES and LONGER not in (ast.get_docstring(parse(path)) or ""):
            wrong.append(f"{named(path)} has {lines} lines")
    assert not wrong, "\n".join(["", *wrong])


def test_functions_are_short() -> None:
    wrong = []
    for path in measured_files():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES:
                    wrong.append(f"{named(path)}:{node.lineno} {node.name} has {lines} lines")
    assert not wrong, "\n".join(["", *wrong])


def test_top_level_folders_hold_packages_not_modules() -> None:
    for package, home in HOMES.items():
        assert not list((ROOT / home).glob("*.py")), f"{home}/ holds a stray module"
        folders = {path.parent.name for path in (ROOT / home).glob("*/__init__.py")}
        assert folders == {package}, f"{home}/ should hold the package {package} and no other"


def test_every_package_says_what_it_raises_and_is_typed() -> None:
    for package, home in HOMES.items():
        assert (ROOT / home / package / "py.typed").is_file(), package
        if package != "coderl_migrations":
            errors = parse(ROOT / home / package / "errors.py")
            classes = [node.name for node in errors.body if isinstance(node, ast.ClassDef)]
            drawn = ast.get_docstring(errors) or ""
            assert classes, f"{package}.errors defines no exception"
            assert not [name for name in classes if name not in drawn], (
                f"the tree at the head of {package}.errors is not complete"
            )


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    forbidden = {"utils", "util", "helpers", "helper", "common", "misc"}
    python = [*measured_files(), *(ROOT / "tests").rglob("*.py")]
    assert not [named(path) for path in python if forbidden & {path.stem, *path.relative_to(ROOT).parts[:-1]}]


def test_package_fronts_only_re_export() -> None:
    wrong = []
    for path in package_files():
        if path.name != "__init__.py":
            continue
        for index, statement in enumerate(parse(path).body):
            docstring = index == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            exported = isinstance(statement, ast.Assign) and [ast.unparse(target) for target in statement.targets] == [
                "__all__"
            ]
            if not (docstring or exported or isinstance(statement, ast.Import | ast.ImportFrom)):
                wrong.append(f"{named(path)}:{statement.lineno}")
    assert not wrong, "\n".join(["", *wrong])


def test_exported_names_exist_and_are_listed_once() -> None:
    for module, path in MODULES.items():
        if path.name != "__init__.py":
            continue
        tree = parse(path)
        imported = [
            alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
        ]
        listed = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
        public = [name for name in imported if name != "annotations"]
        assert sorted(public) == sorted(listed[0] if listed else []), f"{module}: __all__ and the imports differ"


# -- texts that must not be committed ---------------------------------------------------------------------------------------


def tracked_texts() -> Iterator[tuple[Path, str]]:
    run = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of committed files")
    for name in filter(None, run.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 2_000_000:
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def assert_nowhere(pattern: str, why: str, exempt: frozenset[str] = frozenset()) -> None:
    compiled = re.compile(pattern)
    wrong = [
        f"{named(path)}:{text.count(chr(10), 0, found.start()) + 1} {found.group()}"
        for path, text in tracked_texts()
        if named(path) not in exempt
        for found in compiled.finditer(text)
    ]
    assert not wrong, "\n".join([why, *wrong])


def test_no_download_addresses() -> None:
    # Written in pieces, so that this file does not hold what it looks for.
    hosts = (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("huggingface", "co"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("pytorch", "org/whl"),
    )
    pattern = "|".join(rf"\b{name}\.{ending}\b" for name, ending in hosts)
    assert_nowhere(pattern, "Where packages come from is the business of each machine's own configuration.")


def test_no_paths_of_one_machine() -> None:
    folders = "|".join(("ro" + "ot", "wo" + "rk"))
    assert_nowhere(rf"(?<![\w./<>)\]}}-])/(?:{folders})(?![\w-])", "Absolute folders of the machine it was written on.")


def test_no_notes_to_oneself() -> None:
    assert_nowhere(rf"\b(?:{'|'.join(('TO' + 'DO', 'FIX' + 'ME', 'X' * 3))})\b", "Do it, or write an issue.")
