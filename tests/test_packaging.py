"""What an installation holds and what it pulls in."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TOO_HEAVY = re.compile(r"^(torch|nvidia-.*|triton|transformers|vllm|tensorflow.*|jax.*)$")


def closure(requirements: list[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """Canonical names of everything these requirements pull in on this machine, as installed."""
    environment = [{"extra": extra} for extra in extras] or [{"extra": ""}]
    found: set[str] = set()
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not any(requirement.marker.evaluate(item) for item in environment):
            continue
        name = canonicalize_name(requirement.name)
        found.add(name)
        distribution = importlib.metadata.distribution(name)
        key = (name, frozenset(requirement.extras))
        if key not in _walked:
            _walked[key] = set()  # a cycle between distributions ends here
            _walked[key] = closure(distribution.requires or [], frozenset(requirement.extras))
        found |= _walked[key]
    return found


_walked: dict[tuple[str, frozenset[str]], set[str]] = {}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "constraints.txt holds name==version lines only"
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_core_pulls_in_no_training_stack() -> None:
    pulled = closure(PROJECT["dependencies"])
    assert {"pygls", "scikit-learn", "numpy", "pydantic-core"} <= pulled, "the walk does not reach what it should"
    assert not [name for name in pulled if TOO_HEAVY.match(name)]


def test_everything_needed_is_pinned() -> None:
    needed = closure([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
    assert not sorted(needed - pins().keys())


def test_the_pins_satisfy_the_requirements() -> None:
    pinned = pins()
    everything = [*PROJECT["dependencies"], *(text for texts in PROJECT["optional-dependencies"].values() for text in texts)]
    for requirement in map(Requirement, everything):
        version = pinned.get(canonicalize_name(requirement.name))
        if requirement.name == "vllm":
            continue  # left open, as constraints.txt says
        assert version is not None, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(version), f"{requirement.name}=={version} does not satisfy {requirement}"


def test_nothing_is_imported_that_is_not_declared() -> None:
    """A library that came with another one may leave with it."""
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    extras = {
        canonicalize_name(Requirement(text).name) for texts in PROJECT["optional-dependencies"].values() for text in texts
    }
    by_module = importlib.metadata.packages_distributions()
    wrong = set()
    for home in ("store", "gate", "generator", "trainer", "server", "migrations"):
        for path in (ROOT / home).rglob("*.py"):
            for module in re.findall(r"^\s*(?:from|import)\s+([A-Za-z_]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE):
                names = {canonicalize_name(name) for name in by_module.get(module, ())}
                if names and "coderl" not in names and not names & (declared | extras):
                    wrong.add(f"{path.relative_to(ROOT)} imports {module}, which is not declared")
    assert not wrong


@pytest.mark.slow
def test_the_wheel_holds_what_the_packages_need(tmp_path: Path) -> None:
    build = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {
        "coderl_store", "coderl_gate", "coderl_generator", "coderl_trainer", "coderl_server", "coderl_migrations",
    }  # fmt: skip
    committed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if committed.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of committed files")
    for name in committed.stdout.splitlines():
        home, _, inside = name.partition("/")
        if home in {"store", "gate", "generator", "trainer", "server", "migrations"} and (ROOT / name).is_file():
            assert inside in names, f"{name} is missing from the wheel"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_commands_point_at_functions() -> None:
    for name, target in PROJECT["scripts"].items():
        module, _, function = target.partition(":")
        found = importlib.import_module(module)
        assert callable(getattr(found, function)), name
