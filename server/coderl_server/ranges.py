"""Where in the line an inline completion is put, so that every client draws and accepts it rightly.

The protocol leaves it open; the clients do not:

- **Text follows the cursor on the line**: an empty range at the cursor. Neovim 0.12 draws an item with a non-empty range as an
  overlay, which hides the text behind the cursor (`runtime/lua/vim/lsp/inline_completion.lua`).
- **Nothing follows**: from the start of the token to the cursor, with the typed part repeated in the inserted text. Who types
  on in the 200 ms before Neovim refreshes and then accepts would else get characters twice (neovim#36529), and VS Code
  says in its API to prefer replacements over insertions.
- **One line**: VS Code refuses ranges over several lines; so does LSP 3.18.
- **`filterText` equal to the inserted text**: VS Code shows an item only where the text in its range is a prefix of it.

Not covered: snippets (never sent), and tokens other than letters, digits and `_` (the `$` of PHP stays outside of the range).
"""

from __future__ import annotations

from dataclasses import dataclass

from .documents import Place
from .positions import Encoding, to_points, to_units

MAX_TOKEN_CHARS = 200
"""A longer token is no name (base64, minified code): repeating it would only make messages long."""


@dataclass(frozen=True, slots=True)
class InlineEdit:
    """What to tell the editor: replace `start_units` to `end_units` of `line` by `insert_text`. Client units."""

    line: int
    start_units: int
    end_units: int
    insert_text: str
    filter_text: str
    repeated_chars: int
    """How many code points at the head of `insert_text` are typed already."""


def inline_edit(place: Place, text: str, encoding: Encoding) -> InlineEdit:
    """The edit that puts `text` at `place`; `encoding` must be the one the place was captured with."""
    token = "" if place.line_suffix else _token(place.line_prefix)
    end = place.character_units
    start = end - to_units(token, len(token), encoding)
    return InlineEdit(place.line, start, end, token + text, token + text, len(token))


def accepted_chars(edit: InlineEdit, accepted_units: int, encoding: Encoding = Encoding.UTF16) -> int:
    """How many code points of the suggestion itself a cumulative `acceptedLength` stands for.

    Copilot's `didPartiallyAcceptCompletion` counts from the start of `insertText` in UTF-16 units, whatever was negotiated
    (copilot-language-server README), so what was only repeated is taken off.
    """
    return max(0, to_points(edit.insert_text, accepted_units, encoding) - edit.repeated_chars)


def _token(line_prefix: str) -> str:
    start = len(line_prefix)
    while start > 0 and (line_prefix[start - 1].isalnum() or line_prefix[start - 1] == "_"):
        start -= 1
    token = line_prefix[start:]
    return token if len(token) <= MAX_TOKEN_CHARS else ""
