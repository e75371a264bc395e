"""Edits as texts: search and replace with exactly one match, unified diffs, what to say where they do not fit. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from coderl_generator.errors import ToolFailed

_MOST_NEAR_LINES = 12
"""Of the nearest text in an error."""
_MOST_COMPARED = 4_000
"""Lines of a file in which the nearest text is looked for."""
_MOST_LINE_CHARS = 300
_MOST_NAMED = 5
_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")


def decoded(data: bytes, name: str) -> str:
    """The text of a file. Raises `ToolFailed` where it is none."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ToolFailed(f"{name} is not UTF-8 text") from error
    if "\0" in text:
        raise ToolFailed(f"{name} is a binary file")
    return text


def lines_of(text: str) -> list[str]:
    """The lines of a text, without their ends. Lines end at a line feed and nowhere else (`str.splitlines` knows ten more
    ends), as they do for editors and Git."""
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]


def replaced(text: str, old: str, new: str, name: str) -> str:
    """`text` with its one `old` as `new`. Line ends follow the file where it has one kind only.

    Raises `ToolFailed`: with the nearest text where there is no match, with the lines where there are several.
    """
    if not old:
        raise ToolFailed("the text to replace is empty: give the lines that are to change; a new file is made by write_file")
    if "\r\n" in text and "\n" not in text.replace("\r\n", ""):
        old, new = (part.replace("\r\n", "\n").replace("\n", "\r\n") for part in (old, new))
    if old == new:
        raise ToolFailed("the old and the new text are the same: nothing would change")
    count = text.count(old)
    if count == 1:
        return text.replace(old, new)
    if count > 1:
        lines = [str(text.count("\n", 0, at) + 1) for at in _places(text, old)]
        raise ToolFailed(f"this text stands {count} times in {name}, at lines {', '.join(lines)}: add lines around it")
    raise ToolFailed(f"this text does not stand in {name}. {nearest(text, old)}")


def nearest(text: str, wanted: str) -> str:
    """A sentence with the lines that are most like a text, to be shown where it was not found."""
    lines = [line[:_MOST_LINE_CHARS] for line in lines_of(text)[:_MOST_COMPARED]]
    sought = [line[:_MOST_LINE_CHARS] for line in lines_of(wanted.strip("\r\n"))]
    if not any(line.strip() for line in lines):
        return "The file is empty."
    height = max(1, min(len(sought), _MOST_NEAR_LINES))
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2("\n".join(line.strip() for line in sought[:height]))
    best, best_at = 0.0, 0
    for at in range(max(1, len(lines) - height + 1)):
        matcher.set_seq1("\n".join(line.strip() for line in lines[at : at + height]))
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best:
            ratio = matcher.ratio()
            if ratio > best:
                best, best_at = ratio, at
    found = lines[best_at : best_at + height]
    same = [line.strip() for line in found] == [line.strip() for line in sought]
    hint = " Only the blanks differ:" if same else ""
    return f"The nearest is lines {best_at + 1}-{best_at + len(found)}, to be copied exactly:{hint}\n" + "\n".join(found)


def diff_of(before: str, after: str, name: str) -> str:
    """A unified diff; empty where nothing changes."""
    lines: list[str] = []
    for line in difflib.unified_diff(_kept(before), _kept(after), f"a/{name}", f"b/{name}"):
        lines.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
    return "".join(lines)


@dataclass(frozen=True, slots=True)
class FilePatch:
    """What a patch says of one file."""

    old: str | None
    """Its path before; None = it is made."""
    new: str | None
    """Its path after; None = it is removed."""
    hunks: tuple[tuple[int, tuple[str, ...]], ...]
    """Line number of the old text, and lines with their marks (` `, `-`, `+`)."""


def parsed_patch(patch: str) -> list[FilePatch]:
    """The files of a unified diff. Line counts are not trusted (models count badly). Raises `ToolFailed`."""
    files: list[FilePatch] = []
    lines = lines_of(patch)
    at = 0
    while at < len(lines):
        if not (lines[at].startswith("--- ") and at + 1 < len(lines) and lines[at + 1].startswith("+++ ")):
            if lines[at].startswith("@@"):
                raise ToolFailed("a hunk has no file: write the lines `--- a/PATH` and `+++ b/PATH` before it")
            at += 1
            continue
        old, new = _path_of(lines[at]), _path_of(lines[at + 1])
        at += 2
        hunks: list[tuple[int, tuple[str, ...]]] = []
        while at < len(lines) and lines[at].startswith("@@"):
            header = _HUNK.match(lines[at])
            at += 1
            body: list[str] = []
            while at < len(lines) and not lines[at].startswith(("@@", "--- ", "diff ")):
                if lines[at].startswith("\\"):
                    at += 1
                    continue
                if lines[at] and lines[at][0] not in " +-":
                    raise ToolFailed(f"the line {lines[at][:60]!r} of the patch begins with none of a blank, + and -")
                body.append(lines[at] or " ")
                at += 1
            hunks.append((int(header[1]) if header else 0, tuple(body)))
        if not hunks and old is not None and new is not None:
            raise ToolFailed(f"the patch of {new} has no hunk: write `@@ -LINE,COUNT +LINE,COUNT @@` and the lines")
        files.append(FilePatch(old, new, tuple(hunks)))
    if not files:
        raise ToolFailed("this is no unified diff: it has to hold the lines `--- a/PATH` and `+++ b/PATH`, then hunks")
    return files


def patched(text: str, patch: FilePatch, name: str) -> str:
    """`text` after the hunks of a patch, each at the one place where its old lines stand; of several, at the line it names.

    Raises `ToolFailed` where the old lines stand nowhere, or the place is not clear.
    """
    ending = "\r\n" if "\r\n" in text else "\n"
    lines = text.split(ending)
    searched_from = 0
    for number, (line_number, body) in enumerate(patch.hunks, 1):
        old = _trimmed([line[1:] for line in body if line[0] != "+"], lines, searched_from)
        new = [line[1:] for line in body if line[0] != "-"]
        cut = sum(line[0] != "+" for line in body) - len(old)
        new = new[: len(new) - cut] if cut else new
        place = _place_of(old, lines, searched_from, line_number, f"hunk {number} of {name}")
        lines[place : place + len(old)] = new
        searched_from = place + len(new)
    return ending.join(lines)


def _trimmed(old: list[str], lines: Sequence[str], start: int) -> list[str]:
    """Without blank lines at the end that the file does not have there: models end a patch with one."""
    while old and not old[-1].strip() and not _matches(old, lines, start):
        old = old[:-1]
    return old


def _place_of(old: Sequence[str], lines: Sequence[str], start: int, line_number: int, name: str) -> int:
    if not old:
        # A pure insertion without context: at the line it names, in an empty file at its beginning.
        if lines in ([""], []):
            return 0
        raise ToolFailed(f"{name} has no line of the file around what it adds: give some, so that its place is clear")
    places = _matches(old, lines, start)
    if len(places) == 1:
        return places[0]
    if places:
        if line_number - 1 in places:
            return line_number - 1
        raise ToolFailed(f"the old lines of {name} stand at {len(places)} places: give more lines around the change")
    raise ToolFailed(f"the old lines of {name} do not stand in the file. " + nearest("\n".join(lines), "\n".join(old)))


def _matches(old: Sequence[str], lines: Sequence[str], start: int) -> list[int]:
    wanted = list(old)
    return [at for at in range(start, len(lines) - len(wanted) + 1) if list(lines[at : at + len(wanted)]) == wanted]


def _path_of(line: str) -> str | None:
    path = line[4:].split("\t")[0].strip()
    if path == "/dev/null":
        return None
    return path[2:] if path.startswith(("a/", "b/")) else path


def _kept(text: str) -> list[str]:
    """The lines with their ends."""
    *lines, last = text.split("\n")
    return [*(f"{line}\n" for line in lines), *([last] if last else [])]


def _places(text: str, part: str) -> list[int]:
    places: list[int] = []
    at = text.find(part)
    while at >= 0 and len(places) < _MOST_NAMED:
        places.append(at)
        at = text.find(part, at + len(part))
    return places
