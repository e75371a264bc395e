"""From a place in a document to the text a model continues. Pure: no clock, no model, no I/O.

Boundary handling (template `plain`). Byte-pair tokenizers split text into pieces that *begin* with their blank: in a line
break, four blanks and `return`, the break and three blanks are one piece, ` return` is the next. A prompt that ends in
whitespace ends inside such a piece, in a state the model hardly saw in training. So the whitespace at the end of the prompt
is trimmed, the model writes it again with what follows, and `Rematch` takes it off again. What is *not* handled: a cursor
inside a word (`retu|`); a word's beginning is a legal token of its own that code models see less often. What that costs is
in docs/generation.md.

FIM templates are not trimmed: those models were trained on middles cut out at random characters.
"""

from __future__ import annotations

from dataclasses import dataclass

from coderl_generator.fim_templates import fim_template

_BLANKS = " \t\r\n\f\v"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a document: the whole text before and after it."""

    prefix: str
    suffix: str = ""
    language: str = "plaintext"
    """The editor's language id, for example `python`."""
    path: str = ""

    @property
    def line_before(self) -> str:
        """The text of the line from its beginning to the place."""
        return self.prefix[_line_start(self.prefix) :]

    @property
    def line_after(self) -> str:
        """The text of the line from the place to its end, without the line break."""
        return self.suffix.split("\n", 1)[0].rstrip("\r")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent, and what was held back."""

    text: str
    suffix: str | None
    """Set only for the template `suffix`: the backend takes the text after the place as a field of its own."""
    trimmed: str
    """The whitespace between the end of `text` and the place; the model is expected to write it again."""


def render(
    place: Place,
    template: str = "plain",
    *,
    max_prefix_chars: int = 3000,
    max_suffix_chars: int = 1000,
    anchor_chars: int = 1000,
    trim: bool = True,
) -> Prompt:
    """Render a place as a prompt.

    `template`: `plain` (prefix only), `suffix` (prefix, and the suffix as a field of its own) or a family of
    `coderl_generator.fim_templates`. The prefix window has at most `max_prefix_chars` characters and at least that less
    `anchor_chars` (if the document has them); it begins at a line start and moves in steps of `anchor_chars`, so that
    consecutive requests while typing share their beginning and a backend can keep its KV cache. An edit above the window
    shifts it and costs one cold prompt. Line breaks are sent as `\\n`. `trim=False` switches boundary handling off (for
    comparison).

    Raises `GeneratorError` for an unknown template, `ValueError` where 0 < anchor_chars < max_prefix_chars does not hold.
    """
    if not 0 < anchor_chars < max_prefix_chars:
        raise ValueError("render needs 0 < anchor_chars < max_prefix_chars")
    prefix = _unix(_window(place.prefix, max_prefix_chars, anchor_chars))
    suffix = _unix(place.suffix[:max_suffix_chars])
    if template not in ("plain", "suffix"):
        return Prompt(fim_template(template).fill(prefix, suffix), None, "")
    if template == "suffix":
        return Prompt(prefix, suffix, "")
    text = prefix.rstrip(_BLANKS) if trim else prefix
    if not text:
        # A document of blanks only: there is nothing the model could continue but the blanks themselves.
        return Prompt(prefix, None, "")
    return Prompt(text, None, prefix[len(text) :])


def _window(prefix: str, max_chars: int, anchor_chars: int) -> str:
    if len(prefix) <= max_chars:
        return prefix
    steps = -(-(len(prefix) - max_chars) // anchor_chars)
    start = steps * anchor_chars
    line = prefix.find("\n", start - 1) + 1
    # No line starts in the window (one enormous line): cut inside it.
    return prefix[line if 0 < line < len(prefix) else start :]


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line_start(text: str) -> int:
    return max(text.rfind("\n"), text.rfind("\r")) + 1


class Rematch:
    """Takes the trimmed whitespace off the beginning of generated text, piece by piece.

    With T the trimmed whitespace and W the whitespace the model begins with:

    1. W begins with T: exactly T is dropped, so prefix + result is letter by letter what the model wrote.
    2. Both hold a line break and W's last line is indented at least as T's, with the same characters: the model goes on at
       this line but counts blank lines or line-end blanks differently. Everything up to T's indentation is dropped.
    3. Anything else (the model wants less indentation, tabs for spaces, or no whitespace at all): no text after the place
       continues the prefix as the model meant it. That is a `mismatch`, and the result is empty.

    `keep_blank_lines=False` prefers rule 2 to rule 1: blank lines the model puts before its first line are dropped too,
    which is what a single-line suggestion on an empty line needs.
    """

    def __init__(self, trimmed: str, *, keep_blank_lines: bool = True) -> None:
        self._trimmed = trimmed
        self._indent = trimmed[trimmed.rfind("\n") + 1 :] if "\n" in trimmed else None
        self._keep = keep_blank_lines or self._indent is None
        self._blanks = ""
        self._open = bool(trimmed)
        self.mismatch = False
        """Whether the model's text does not continue the prefix (rule 3)."""

    @property
    def decided(self) -> bool:
        """Whether the trimmed whitespace has been found (or missed); until then `push` returns nothing."""
        return not self._open

    def push(self, text: str) -> str:
        """The part of `text` that comes after the place."""
        if self.mismatch:
            return ""
        if not self._open:
            return text
        rest = text.lstrip(_BLANKS)
        self._blanks += text[: len(text) - len(rest)]
        if self._keep and self._blanks.startswith(self._trimmed):
            self._open = False
            return self._blanks[len(self._trimmed) :] + rest
        if not rest:
            return ""
        self._open = False
        return self._by_indent(rest)

    def _by_indent(self, rest: str) -> str:
        line = self._blanks[self._blanks.rfind("\n") + 1 :]
        if self._indent is None or "\n" not in self._blanks or not line.startswith(self._indent):
            self.mismatch = True
            return ""
        return line[len(self._indent) :] + rest
