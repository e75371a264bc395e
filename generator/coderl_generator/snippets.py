"""Text from elsewhere that a prompt may carry before the place's own window, and how it is written. Pure.

Families with a form for several files get it (`coderl_generator.fim_templates.FileForm`). For all others the snippets become
comments of the place's language before the window, each under a line that says whence it is, and the place's own path last,
as in Copilot's prompts for models without file tokens (`# Compare this snippet from …`, `# Path: …`).

What is written before the window is the beginning of the prompt, so a backend reuses its cache only while it stays the same to
the letter: the order of `Place.snippets` is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from coderl_generator.fim_templates import CONTROL_TEXTS, FIM_TEMPLATES, FimTemplate, without

DEFAULT_CHARS = 1000
"""Budget under a template that has a form for other files."""


def budget_chars(wanted: int, template: str) -> int:
    """The budget of a context under a template: `wanted`; where that is negative, `DEFAULT_CHARS` for a template with a form
    for other files, and 0 where snippets would become comments (docs/generation.md, "Context", has the measurement)."""
    if wanted >= 0:
        return wanted
    family = FIM_TEMPLATES.get(template)
    return DEFAULT_CHARS if family is not None and family.files is not None else 0


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of another file, or of the same one outside the window."""

    path: str
    """As much of the path as the model may see."""
    text: str


def _styles() -> Mapping[str, tuple[str, str]]:
    styles = {
        (
            "//",
            "",
        ): "c cpp csharp java javascript javascriptreact typescript typescriptreact go rust kotlin scala swift php "
        "dart objective-c objective-cpp groovy zig solidity cuda-cpp jsonc scss less fsharp",
        ("--", ""): "sql lua haskell elm ada vhdl",
        ("%", ""): "latex tex matlab erlang prolog",
        (";", ""): "lisp clojure scheme racket ini asm",
        ("<!--", " -->"): "html xml markdown vue svelte svg",
        ("/*", " */"): "css",
    }
    return MappingProxyType({language: style for style, names in styles.items() for language in names.split()})


_STYLES = _styles()
_HASH = ("#", "")


def comment_style(language: str) -> tuple[str, str]:
    """How a comment of one line begins and ends in an editor's language id; `#` where the language is not known."""
    return _STYLES.get(language, _HASH)


@dataclass(frozen=True, slots=True)
class Written:
    """The context of one prompt as it is sent, neutral already."""

    outside: str = ""
    """Before the template's first token."""
    inside: str = ""
    """At the head of the text before the place."""

    @property
    def chars(self) -> int:
        return len(self.outside) + len(self.inside)


def write(snippets: Sequence[Snippet], path: str, language: str, template: str, max_chars: int) -> Written:
    """The context of a place in `path` under a template, at most `max_chars` characters with everything that is added.

    Where that is too little, snippets are left out from the front: those nearest to the window stay. Without snippets nothing
    is written. Control tokens are taken out of texts and paths: those of all families, and of the template.
    """
    family = FIM_TEMPLATES.get(template)
    controls = tuple(dict.fromkeys((*CONTROL_TEXTS, *(family.control_texts if family else ()))))
    path = without(_one_line(path), controls)
    clean = [Snippet(without(_one_line(one.path), controls), without(_unix(one.text), controls)) for one in snippets]
    clean = [one for one in clean if one.text.strip()]
    while clean:
        written = _write(clean, path, language, family)
        if written.chars <= max_chars:
            return written
        del clean[0]
    return Written()


def _write(snippets: Sequence[Snippet], path: str, language: str, family: FimTemplate | None) -> Written:
    if family is not None and family.files is not None:
        return Written(*family.files.write([(one.path, one.text.rstrip("\n")) for one in snippets], path))
    begin, end = comment_style(language)
    lines = [line for one in snippets for line in (f"From {one.path}:", *one.text.rstrip("\n").split("\n"))]
    lines.append(f"Path: {path}" if "." in path else f"Path: {path} ({language})")
    return Written(inside="".join(_comment(line, begin, end) + "\n" for line in lines))


def _comment(line: str, begin: str, end: str) -> str:
    closed = line.replace(end.strip(), "") if end else line
    return f"{begin} {closed}".rstrip() + end


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
