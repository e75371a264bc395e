"""From a place in a document to the text a model continues. Pure: no clock, no model, no I/O.

Boundary handling (template `plain`). Byte-pair tokenizers split text into pieces that *begin* with their blank: in a line
break, four blanks and `return`, the break and three blanks are one piece, ` return` is the next. A prompt that ends in
whitespace ends inside such a piece, in a state the model hardly saw in training. So the last blank of the prompt is trimmed,
the model writes it again with what follows, and `Rematch` takes it off again. Blanks before a break at the very end are one
piece with it and are trimmed too.

A place inside a word (`retu|`) is the same trouble: whether the word goes on is not known. With `heal_word` the begun word is
trimmed too, with the blank before it, and the backend has to begin with exactly that ("token healing"); unless the word is one
of those around the place, and none of them is longer. Only for backends that can force a beginning; docs/generation.md says
what it is worth, and what a begun word costs without it.

A model that reads only what is before the place cannot know which name the text after it needs. Where reading finds one
(`coderl_generator.needed`), the backend has to begin the line with it, if it can.

FIM templates are not trimmed: those models were trained on middles cut out at random characters. But for the one that this
project teaches itself (`FimTemplate.continues`), whose prompts end as those of `plain`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from coderl_generator.fim_templates import PREFIX_ONLY, continues, fim_template
from coderl_generator.needed import beginning
from coderl_generator.snippets import Snippet, write

_BLANKS = " \t\r\n\f\v"
_BEGUN_WORD = re.compile(r"(?<![^\W\d_])[A-Za-z]{1,40}\Z")
"""ASCII letters at the place: tokenizers of this kind cut before and behind digits and underscores anyway. Longer ones are no
words; scripts without blanks have none to go back to."""
_NAME = re.compile(r"(?<!\w)[A-Za-z_]\w*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a document: the whole text before and after it."""

    prefix: str
    suffix: str = ""
    language: str = "plaintext"
    """The editor's language id, for example `python`."""
    path: str = ""
    """Its name, where the generator may be shown it."""
    snippets: tuple[Snippet, ...] = ()
    """Text from elsewhere, in the order in which it is written; it stands before the window."""
    key: str = ""
    """What tells its document from others, so that a backend may keep something per document; the path where it is empty."""

    @property
    def document(self) -> str:
        """What a backend may keep something under that belongs to the document."""
        return self.key or self.path

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
    """What lies between the end of `text` and the place; the model is expected to write it again."""
    forced: bool = False
    """Whether the model must be made to begin with `trimmed`, because it holds more than whitespace."""
    wanted: str = ""
    """What the text behind the place must begin with, because the text after it needs a name (`coderl_generator.needed`)."""

    @property
    def kept(self) -> str:
        """The whitespace at the end of `text` that belongs together with what was held back."""
        return self.text[len(self.text.rstrip(_BLANKS)) :] if self.trimmed else ""


def render(
    place: Place,
    template: str = "plain",
    *,
    max_prefix_chars: int = 3000,
    max_suffix_chars: int = 1000,
    anchor_chars: int = 1000,
    max_context_chars: int = 2000,
    trim: bool = True,
    heal_word: bool = False,
    need_name: bool = False,
) -> Prompt:
    """Render a place as a prompt.

    `template`: `plain` (prefix only), `suffix` (prefix, and the suffix as a field of its own) or a family of
    `coderl_generator.fim_templates`. The prefix window has at most `max_prefix_chars` characters and at least that less
    `anchor_chars` (if the document has them); it begins with a line break and moves in steps of `anchor_chars`, so that
    consecutive requests while typing share their beginning and a backend can keep its KV cache. The break is there so that the
    first line is cut into the same tokens as it was in the middle of a window: a backend that can shift its cache finds it
    again when the window has moved on. An edit above the window shifts it and costs one cold prompt. Line breaks are sent as
    `\\n`. `trim=False` switches boundary handling off (for comparison). `heal_word`, `need_name`: see the module.

    Raises `GeneratorError` for an unknown template, `ValueError` where 0 < anchor_chars < max_prefix_chars does not hold.
    """
    if not 0 < anchor_chars < max_prefix_chars:
        raise ValueError("render needs 0 < anchor_chars < max_prefix_chars")
    prefix = _unix(place.prefix[window_start(place.prefix, max_prefix_chars, anchor_chars) :])
    suffix = _unix(place.suffix[:max_suffix_chars])
    family = None if template in PREFIX_ONLY else fim_template(template)
    context = write(place.snippets, place.path, place.language, template, max_context_chars)
    written: Callable[[str], str] = str
    if family is not None:
        prefix, suffix = family.neutralise(prefix), family.neutralise(suffix)
        written = partial(family.assemble, suffix=suffix, outside=context.outside)
    prefix = context.inside + prefix
    if template == "suffix":
        return Prompt(prefix, suffix, "")
    if not trim or not continues(template):
        return Prompt(written(prefix), None, "")
    wanted = beginning(_unix(place.prefix), _unix(place.suffix)) if need_name and place.language == "python" else ""
    begun = _BEGUN_WORD.search(prefix) if heal_word and not _whole_word(prefix, suffix) else None
    if begun is not None and (text := _before_last_blank(prefix[: begun.start()])):
        return Prompt(written(text), None, prefix[len(text) :], forced=True, wanted=wanted)
    if text := _before_last_blank(prefix):
        return Prompt(written(text), None, prefix[len(text) :], wanted=wanted)
    # A document of blanks only: there is nothing the model could continue but the blanks themselves.
    return Prompt(written(prefix), None, "")


def _whole_word(prefix: str, suffix: str) -> bool:
    """Whether the name at the end of a text is known as it is: it stands elsewhere too, and no name there goes on from it."""
    name = _NAME.search(prefix)
    if name is None:
        return False
    around = f"{prefix[: name.start()]}\n{suffix}"
    begins = [found.group() for found in re.finditer(rf"(?<!\w){name.group()}\w*", around)]
    return bool(begins) and all(found == name.group() for found in begins)


def _before_last_blank(prefix: str) -> str:
    """Where a prompt may end: the text up to there. Empty where all is whitespace."""
    bare = prefix.rstrip(_BLANKS)
    blank = prefix[len(bare) :]
    if not bare or (blank.endswith("\n") and not blank[:-1].endswith("\n")):
        return bare
    return bare + blank[:-1]


def window_start(prefix: str, max_chars: int, anchor_chars: int) -> int:
    """Where the window of `render` begins in `prefix`."""
    if len(prefix) <= max_chars:
        return 0
    steps = -(-(len(prefix) - max_chars) // anchor_chars)
    start = steps * anchor_chars
    line = prefix.find("\n", start)
    # No line starts in the window (one enormous line): cut inside it.
    return line if 0 <= line < len(prefix) - 1 else start


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line_start(text: str) -> int:
    return max(text.rfind("\n"), text.rfind("\r")) + 1


class Rematch:
    """Takes the whitespace at the end of the prefix off the beginning of generated text, piece by piece.

    With T that whitespace and W what the model has of it, `kept` (what the prompt ends in) and the whitespace it begins with:

    1. W begins with T: exactly T is dropped, so prefix + result is letter by letter what the model wrote.
    2. Both hold a line break and W's last line is indented at least as T's, with the same characters: the model goes on at
       this line but counts blank lines or line-end blanks differently. Everything up to T's indentation is dropped.
    3. Anything else (the model wants less indentation, tabs for spaces, or no whitespace at all): no text after the place
       continues the prefix as the model meant it. That is a `mismatch`, and the result is empty.

    Where T holds more than whitespace (a begun word), only rule 1 applies, to the letter.

    `keep_blank_lines=False` prefers rule 2 to rule 1: blank lines the model puts before its first line are dropped too,
    which is what a single-line suggestion on an empty line needs.
    """

    def __init__(self, trimmed: str, *, kept: str = "", keep_blank_lines: bool = True) -> None:
        """`trimmed` and `kept`: of the prompt."""
        self._literal = bool(trimmed.strip(_BLANKS))
        kept = "" if self._literal else kept
        self._trimmed = trimmed = kept + trimmed
        self._indent = trimmed[trimmed.rfind("\n") + 1 :] if "\n" in trimmed else None
        self._keep = keep_blank_lines or self._indent is None
        self._seen = kept
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
        if self._literal:
            return self._by_letter(text)
        rest = text.lstrip(_BLANKS)
        self._seen += text[: len(text) - len(rest)]
        if self._keep and self._seen.startswith(self._trimmed):
            self._open = False
            return self._seen[len(self._trimmed) :] + rest
        if not rest:
            return ""
        self._open = False
        return self._by_indent(rest)

    def _by_letter(self, text: str) -> str:
        self._seen += text
        if self._seen.startswith(self._trimmed):
            self._open = False
            return self._seen[len(self._trimmed) :]
        self.mismatch = not self._trimmed.startswith(self._seen)
        return ""

    def _by_indent(self, rest: str) -> str:
        line = self._seen[self._seen.rfind("\n") + 1 :]
        if self._indent is None or "\n" not in self._seen or not line.startswith(self._indent):
            self.mismatch = True
            return ""
        return line[len(self._indent) :] + rest
