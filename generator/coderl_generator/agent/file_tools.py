"""The tools that read and change files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from coderl_generator.errors import PathRefused, ToolFailed

from .calls import Parameter, ToolSpec
from .edits import FilePatch, decoded, lines_of, parsed_patch, patched, replaced
from .permissions import Kind
from .toolbox import Prepared
from .workspace import Change, Workspace

MOST_LINES: Final = 400
"""That one reading gives."""
_MOST_LISTED: Final = 400
_MOST_HITS: Final = 60
_MOST_LINE_CHARS: Final = 300
_PATH = Parameter("path", "string", "Path relative to the workspace.")


class ReadFile:
    """Lines of a file, numbered."""

    spec = ToolSpec(
        "read_file",
        f"Read lines of a text file, numbered; at most {MOST_LINES} at a time.",
        (
            _PATH,
            Parameter("start", "integer", "First line, from 1. Default: 1.", required=False),
            Parameter("end", "integer", "Last line, included. Default: as far as possible.", required=False),
        ),
    )

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        path = self._workspace.resolve(arguments["path"])
        start, end = int(arguments.get("start", 1)), arguments.get("end")

        def act() -> str:
            lines = lines_of(decoded(self._workspace.read(path), str(path)))
            first = max(1, start)
            last = min(len(lines), first + MOST_LINES - 1, len(lines) if end is None else int(end))
            if not lines:
                return f"{path} is empty."
            if first > len(lines) or last < first:
                raise ToolFailed(f"{path} has {len(lines)} lines; {start} to {end or 'its end'} is no range of them")
            shown = "\n".join(f"{number}\t{_cut(lines[number - 1])}" for number in range(first, last + 1))
            return f"{path}:{first}-{last} of {len(lines)} lines\n{shown}"

        return Prepared(Kind.READ, (str(path),), act)


class ListFiles:
    """The files of a folder."""

    spec = ToolSpec(
        "list_files",
        f"List the files below a folder, at most {_MOST_LISTED}; ignored files and secrets are left out.",
        (Parameter("path", "string", "Folder relative to the workspace. Default: all of it.", required=False),),
    )

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        top = self._workspace.resolve(arguments.get("path") or ".")

        def act() -> str:
            files = [str(path) for path in self._workspace.files(top)]
            if not files:
                raise ToolFailed(f"there is no folder {top}, or no file in it that may be read")
            more = f"\n[… {len(files) - _MOST_LISTED} more]" if len(files) > _MOST_LISTED else ""
            return "\n".join(files[:_MOST_LISTED]) + more

        return Prepared(Kind.READ, (str(top),), act)


class SearchInFiles:
    """A text in all files. No regular expressions: one of a model can take for ever, and the shell has grep."""

    spec = ToolSpec(
        "search_in_files",
        f"Find the lines that hold a text, letter by letter, in all files below a folder; at most {_MOST_HITS} lines.",
        (
            Parameter("text", "string", "What to find; one line, no regular expression."),
            Parameter("path", "string", "Folder or file. Default: the whole workspace.", required=False),
            Parameter("ignore_case", "boolean", "Default: false.", required=False),
        ),
    )

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        wanted, fold = arguments["text"], bool(arguments.get("ignore_case"))
        if not wanted.strip() or "\n" in wanted:
            raise ToolFailed("the text to find has to be one line that is not blank")
        top = self._workspace.resolve(arguments.get("path") or ".")

        def act() -> str:
            hits = self._hits(top, wanted, fold)
            if not hits:
                return f"No line holds {wanted!r}."
            more = (
                f"\n[… more than {_MOST_HITS}: search for something longer, or in a folder]" if len(hits) > _MOST_HITS else ""
            )
            return "\n".join(hits[:_MOST_HITS]) + more

        return Prepared(Kind.READ, (str(top),), act)

    def _hits(self, top: PurePosixPath, wanted: str, fold: bool) -> list[str]:
        sought = wanted.casefold() if fold else wanted
        hits: list[str] = []
        for path in self._workspace.files(top):
            try:
                text = decoded(self._workspace.read(path), str(path))
            except (ToolFailed, PathRefused):
                continue  # binary, too large, or gone meanwhile
            if sought not in (text.casefold() if fold else text):
                continue
            for number, line in enumerate(lines_of(text), 1):
                if sought in (line.casefold() if fold else line):
                    hits.append(f"{path}:{number}: {_cut(line.strip())}")
                    if len(hits) > _MOST_HITS:
                        return hits
        return hits


class WriteFile:
    """A whole file."""

    spec = ToolSpec(
        "write_file",
        "Make a file, or replace all of one. To change a part, use edit_file.",
        (_PATH, Parameter("content", "string", "All of the file's text.")),
    )

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        path = self._workspace.resolve(arguments["path"], to_write=True)
        before = self._workspace.read_if_there(path)
        after = encoded(arguments["content"])
        if before == after:
            raise ToolFailed(f"{path} holds exactly this already")
        said = f"{path} was {'made' if before is None else 'replaced'}: {len(lines_of(arguments['content']))} lines."
        return Prepared(Kind.WRITE, (str(path),), lambda: said, (Change(path, before, after),))


class EditFile:
    """One place of a file."""

    spec = ToolSpec(
        "edit_file",
        "Replace a text that stands exactly once in a file.",
        (
            _PATH,
            Parameter("old", "string", "The text to replace, copied exactly, without line numbers."),
            Parameter("new", "string", "The text in its place."),
        ),
    )

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        path = self._workspace.resolve(arguments["path"], to_write=True)
        before = self._workspace.read(path)
        after = encoded(replaced(decoded(before, str(path)), arguments["old"], arguments["new"], str(path)))
        return Prepared(Kind.WRITE, (str(path),), lambda: f"{path} was changed.", (Change(path, before, after),))


class ApplyPatch:
    """Several files at once; all of it or nothing."""

    spec = ToolSpec(
        "apply_patch",
        "Apply a unified diff (--- a/PATH, +++ b/PATH, @@ hunks; /dev/null makes or removes a file). All of it or nothing. "
        "The old lines have to stand in the file exactly; line numbers only choose between several places.",
        (Parameter("patch", "string", "The diff."),),
    )

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def prepare(self, arguments: Mapping[str, Any]) -> Prepared:
        """See `Tool`."""
        changes: dict[PurePosixPath, Change] = {}
        for patch in parsed_patch(arguments["patch"]):
            change = self._change_of(patch)
            if change.path in changes:
                raise ToolFailed(f"the patch names {change.path} twice: put its hunks together")
            changes[change.path] = change
        subjects = tuple(str(path) for path in changes)
        return Prepared(Kind.WRITE, subjects, lambda: f"Applied to {', '.join(subjects)}.", tuple(changes.values()))

    def _change_of(self, patch: FilePatch) -> Change:
        name = patch.new or patch.old
        if name is None or (patch.old and patch.new and patch.old != patch.new):
            raise ToolFailed("a patch does not rename files: remove the old one and make the new one")
        path = self._workspace.resolve(name, to_write=True)
        before = self._workspace.read_if_there(path)
        if patch.old is None and before is not None:
            raise ToolFailed(f"{path} is there already: patch it instead of making it")
        if patch.old is not None and before is None:
            raise ToolFailed(f"there is no file {path}")
        if patch.new is None:
            return Change(path, before, None)
        if patch.old is None:
            lines = [line[1:] for _, body in patch.hunks for line in body if line[0] != "-"]
            return Change(path, None, encoded("".join(f"{line}\n" for line in lines)))
        after = encoded(patched(decoded(before or b"", str(path)), patch, str(path)))
        if after == before:
            raise ToolFailed(f"the patch changes nothing in {path}")
        return Change(path, before, after)


def encoded(text: str) -> bytes:
    """As a file holds it. Raises `ToolFailed` for lone surrogates, which no UTF-8 file can hold."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ToolFailed(f"character {error.start} of the text cannot be written as UTF-8") from error


def _cut(line: str) -> str:
    return line if len(line) <= _MOST_LINE_CHARS else f"{line[:_MOST_LINE_CHARS]}… [{len(line)} characters]"
