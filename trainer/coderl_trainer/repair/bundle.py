"""A repository as one Python program that the judge can run: its modules, and the names of the one that is called. Pure.

The program brings an importer for its own modules, which goes before the standard library's as the repository's folder would.
So a repair may be spread over files. What tests see of it is what they would see of a submitted program: answers to calls.

Covered: every `.py` file but the protected ones. Not covered: files that are no Python (data that a module reads), compiled
extensions, and modules that look for their own path; a module that needs one fails its tests.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Final

from .trees import Tree

MOST_CHARS: Final = 1 << 20
"""Of all sources together; a repair is smaller."""

_PROGRAM: Final = '''\
import importlib, importlib.machinery, sys

_SOURCES = {sources!r}


class _Bundled:
    """Imports the modules of this program."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in _SOURCES:
            return None
        return importlib.machinery.ModuleSpec(name, _Bundled, origin=_SOURCES[name][0], is_package=_SOURCES[name][2])

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        path, source, _ = _SOURCES[module.__name__]
        module.__file__ = path
        exec(compile(source, path, "exec"), module.__dict__)


sys.meta_path.insert(0, _Bundled)
globals().update({{
    name: value for name, value in vars(importlib.import_module({module!r})).items() if not name.startswith("__")
}})
'''


def program_of(tree: Tree, module: str, protected: Collection[str] = ()) -> str | None:
    """The program whose names are those of `module`, a path; None where the sources are more than `MOST_CHARS`."""
    modules: dict[str, tuple[str, str, bool]] = {}
    for path, entry in tree.items():
        if path.endswith(".py") and path not in protected and not entry.is_link:
            modules[module_name(path)] = (path, entry.text, PurePosixPath(path).name == "__init__.py")
    for name in list(modules):
        for parent in _parents(name):  # a folder without `__init__.py` is a package too
            modules.setdefault(parent, (parent.replace(".", "/"), "", True))
    if sum(len(source) for _, source, _ in modules.values()) > MOST_CHARS:
        return None
    return _PROGRAM.format(sources=modules, module=module_name(module))


def module_name(path: str) -> str:
    """`a/b.py` → `a.b`, `a/__init__.py` → `a`."""
    parts = list(PurePosixPath(path).with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
