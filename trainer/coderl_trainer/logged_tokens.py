"""The tokens of a logged suggestion and of the prompt they continue.

The log holds the ids and log-probs of the tokens that a suggestion is made of, and the text around its place; it does not
hold the ids of the prompt. They are made again: the window of `coderl_generator.prompt.render` over the logged text, cut into
tokens.

A suggestion's tokens may begin before its place (the model writes held-back whitespace and begun words again) and end behind
it. With D the text that the ids decode to, D = lead + text + rest: the lead must be what stands before the place, and the
prompt is the text before the lead. So it does not matter how the prompt was held back, or whether the suggestion is the rest of
one that was typed into. Whitespace between the prompt and the first token is cut into tokens by itself: the model wrote it.
Tokens that the model was made to begin with (a name that is needed, a begun word) are `given`.

Covered: ids of another tokenizer, suggestions whose text was changed after decoding, and whitespace that the model counted
differently; such rows are told apart and left out. Not covered: text from other files in the prompt (it is not in the log, and
the prompt is made without it), a window that was halved for a small context, keys and values of an earlier window that the
backend moved instead of reading the prompt anew, and tokens that the tokenizer would cut otherwise at the seam.
`coderl_trainer.logged.agreeing` compares log-probs and leaves out rows where any of this matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from coderl_generator.fim_templates import continues
from coderl_generator.needed import beginning
from coderl_generator.prompt import Place, render, window_start
from coderl_store.records import Context, Suggestion

from .errors import TaskError


class Codec(Protocol):
    """Text to token ids and back, as the generator's own tokenizer does it."""

    def encode(self, text: str, *, begins: bool = True) -> Sequence[int]:
        """The ids of a prompt, with what the tokenizer puts in front of one; without it where the text only goes on."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special ones included, nothing tidied."""
        ...


@dataclass(frozen=True, slots=True)
class TokenizerCodec:
    """A tokenizer of transformers as a codec, such as `Engine.tokenizer`."""

    tokenizer: Any

    def encode(self, text: str, *, begins: bool = True) -> list[int]:
        """See `Codec.encode`."""
        return list(map(int, self.tokenizer(text, add_special_tokens=begins)["input_ids"])) if text else []

    def decode(self, ids: Sequence[int]) -> str:
        """See `Codec.decode`."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


@dataclass(frozen=True, slots=True)
class PromptShape:
    """How the generator that wrote the log renders a place; the fields and their values are those of
    `coderl_generator.complete.Budget`. Raises `TaskError` for the template `suffix`, whose text after the place is no part of
    the tokens."""

    template: str = "plain"
    max_prefix_chars: int = 3000
    max_suffix_chars: int = 1000
    anchor_chars: int = 1000
    need_name: bool = True
    """Whether the backend may have made the model begin with a name that the text after the place needs."""

    def __post_init__(self) -> None:
        if self.template == "suffix":
            raise TaskError("Prompts of the template `suffix` cannot be made again as tokens: the server made them.")


@dataclass(frozen=True, slots=True)
class LoggedTokens:
    """One suggestion as a model sees it."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    """(T,) as logged."""
    logprobs: tuple[float, ...]
    """(T,) natural-log probabilities as logged: of the model at temperature 1, before top-p."""
    given: int = 0
    """So many of them, the first ones, may not have been the model's own choice: no gradient goes through them."""


class NotUsed(StrEnum):
    """Why a logged request is no row; each is counted under the first that holds."""

    NOT_REAL = "not_real"
    """Simulated, imported or replayed, and not asked for."""
    NOT_SHOWN = "not_shown"
    NO_OUTCOME = "no_outcome"
    NOT_SEEN = "not_seen"
    """Nobody can have judged it; never a negative."""
    OTHER_GENERATOR = "other_generator"
    """Written by a model that was not asked for."""
    BAD_PROPENSITY = "bad_propensity"
    """Not in (0, 1]."""
    NO_TEXT = "no_text"
    """No code in the row (privacy level `metrics`), or only blanks."""
    NO_TOKENS = "no_tokens"
    """No token ids, or log-probs that do not belong to them."""
    TEXT_DIFFERS = "text_differs"
    """The ids do not decode to the text: it was changed after decoding, or they are another tokenizer's."""
    BOUNDARY = "boundary"
    """What the first token holds before the place is not what stands there."""
    GIVEN = "given"
    """None of its tokens was the model's own choice."""
    NOT_NEEDED = "not_needed"
    """More rows were there than were asked for (`logged.thinned`)."""
    DISAGREES = "disagrees"
    """The model gives the tokens other log-probs than the log (`agreeing`)."""


class NoTokens(Exception):
    """Why a suggestion has none; never leaves this package."""

    def __init__(self, reason: NotUsed) -> None:
        super().__init__(reason.value)
        self.reason = reason


def logged_tokens(context: Context, suggestion: Suggestion, codec: Codec, shape: PromptShape) -> LoggedTokens:
    """The tokens of a logged suggestion. Raises `NoTokens`."""
    if context.prefix is None or not suggestion.text or not suggestion.text.strip():
        raise NoTokens(NotUsed.NO_TEXT)
    ids, logprobs = suggestion.token_ids, suggestion.logprobs
    if not ids or len(ids) != len(logprobs) or not all(value <= 0.0 for value in logprobs):
        raise NoTokens(NotUsed.NO_TOKENS)
    ends = _ends(ids, codec)
    before = _unix(context.prefix)
    at = _lead(ends[-1][1], _unix(suggestion.text), before)
    window = before[window_start(before, shape.max_prefix_chars, shape.anchor_chars) :]
    if not window.endswith(ends[-1][1][:at]) or len(window) <= at:
        raise NoTokens(NotUsed.BOUNDARY)
    prompt, gap = _prompt(window, len(window) - at, context, shape)
    encoded = tuple(codec.encode(prompt))
    if not encoded:
        raise NoTokens(NotUsed.BOUNDARY)
    forced = at + len(_wanted(context, suggestion.text, shape))
    if forced == at and not ends[-1][1][:at].strip():
        forced = 0
    given = sum(start < forced for start, _ in _spans(ends))
    if given == len(ids):
        raise NoTokens(NotUsed.GIVEN)
    return LoggedTokens((*encoded, *codec.encode(gap, begins=False)), ids, logprobs, given)


def _prompt(window: str, end: int, context: Context, shape: PromptShape) -> tuple[str, str]:
    """The prompt of a place whose tokens begin at `end` of the window before it, and what the model wrote up to there."""

    def rendered(prefix: str, trim: bool, template: str = shape.template) -> str:
        place = Place(prefix, _unix(context.suffix or ""), context.language)
        whole = max(len(prefix), 1) + 1
        return render(
            place,
            template,
            max_prefix_chars=whole,
            max_suffix_chars=shape.max_suffix_chars,
            anchor_chars=1,
            trim=trim,
        ).text

    if continues(shape.template) and (kept := len(rendered(window, trim=True, template="plain"))) < end:
        return rendered(window, trim=True), window[kept:end]
    return rendered(window[:end], trim=False), ""


def _ends(ids: Sequence[int], codec: Codec) -> list[tuple[int, str]]:
    """(characters, text) of what the first 1 … T tokens decode to. One id stands in front of them, because some tokenizers
    drop the blank of a text's first token."""
    front = len(codec.decode(ids[:1]))
    out = []
    for count in range(1, len(ids) + 1):
        text = codec.decode((ids[0], *ids[:count]))[front:]
        out.append((len(text), text))
    return out


def _spans(ends: Sequence[tuple[int, str]]) -> list[tuple[int, int]]:
    starts = [0, *(end for end, _ in ends[:-1])]
    return [(start, end) for start, (end, _) in zip(starts, ends, strict=True)]


def _lead(decoded: str, text: str, before: str) -> int:
    """Where in the decoded text the suggestion begins. Raises `NoTokens`."""
    at = decoded.find(text)
    if at < 0:
        raise NoTokens(NotUsed.TEXT_DIFFERS)
    while at >= 0:
        if before.endswith(decoded[:at]):
            return at
        at = decoded.find(text, at + 1)
    raise NoTokens(NotUsed.BOUNDARY)


def _wanted(context: Context, text: str, shape: PromptShape) -> str:
    if not (shape.need_name and continues(shape.template) and context.language == "python"):
        return ""
    wanted = beginning(_unix(context.prefix or ""), _unix(context.suffix or ""))
    return wanted if wanted and text.startswith(wanted) else ""


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
