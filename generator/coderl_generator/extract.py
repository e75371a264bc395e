"""From a stream of tokens to the text of a suggestion. Pure and strict: the trainer's rewards use the same code.

`Extractor` takes the whitespace off that only repeats the end of the prompt, applies the stop rules while tokens come (so that
decoding can stop early), and at the end trims what must not be shown: half lines of a block, what the filters of
`coderl_generator.postfilter` cut or drop, trailing blanks. The token ids and log-probs it gives back are those of the tokens
that make the final text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from coderl_generator.backend import FinishReason, Token
from coderl_generator.fim_templates import CONTROL_TEXTS
from coderl_generator.postfilter import Filtered, filtered, next_line, standing
from coderl_generator.prompt import Place, Prompt, Rematch
from coderl_generator.stop_rules import Block, Fence, FollowingLine, MaxChars, Reason, Repetition, SingleLine, StopRule, Texts


class Mode(StrEnum):
    """How much one suggestion may span."""

    SINGLE_LINE = "single_line"
    BLOCK = "block"
    BODY = "body"
    """A whole body with its paragraphs, ended by indentation alone. Nobody is shown so much: for judging functions."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a suggestion and the tokens it is made of.

    The concatenated texts of the tokens hold `text` and may be longer at both ends: a token that lies partly in the text
    belongs to it (its log-prob cannot be split). Where `rewritten`, they hold it but for the blanks at line beginnings: the ids
    are still those that the model wrote, less the tokens of which nothing is left, and `token_ends` are places in `text`.
    """

    text: str
    tokens: tuple[Token, ...]
    tokens_used: int
    """Tokens decoded for it, those that were trimmed included."""
    finish: FinishReason
    reason: Reason
    token_ends: tuple[int, ...] = ()
    """Where in `text` each token ends, in characters; the last may end where `text` does, though it is longer."""
    rewritten: bool = False
    """The blanks at line beginnings are not those that the model wrote."""
    leaked: str = ""
    """The control token that ended it, where one did."""
    given: int = 0
    """So many of the tokens, the first ones, the model was made to begin with (`Prompt.wanted`)."""

    end_tokens: int = 0
    """1 where the token decoded last is not in the text but shows that the text is whole there, else 0."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token.id for token in self.tokens)

    @property
    def logprobs(self) -> tuple[float, ...]:
        return tuple(token.logprob for token in self.tokens)

    @property
    def own_logprobs(self) -> tuple[float, ...]:
        """Those of the tokens that were the model's own choice."""
        return self.logprobs[self.given :]


_FINISH_REASONS = MappingProxyType(
    {
        FinishReason.END: Reason.END,
        FinishReason.LENGTH: Reason.LENGTH,
        FinishReason.STOP: Reason.STOP_TEXT,
        FinishReason.DEADLINE: Reason.DEADLINE,
    }
)
_HALF = (Reason.LENGTH, Reason.DEADLINE, Reason.MAX_CHARS)
"""Reasons that may leave a line half written."""


class Extractor:
    """Follows one generation. Push tokens until `push` answers True or the stream ends, then ask for the `result`."""

    def __init__(
        self,
        place: Place,
        prompt: Prompt,
        mode: Mode = Mode.SINGLE_LINE,
        *,
        max_chars: int = 2000,
        markers: Sequence[str] = (),
        rules: Sequence[StopRule] = (),
        filters: bool = True,
    ) -> None:
        """`rules`: more of them, from whoever knows more than the generator (a syntax tree). `filters` are switched off only
        to measure what they are worth."""
        self._place = place
        self._mode = mode
        self._wanted = prompt.wanted
        self._rematch = _rematch(place, prompt, mode)
        self._filters = None if filters else ()
        following = FollowingLine(place.line_before, next_line(place))
        self._markers = (*CONTROL_TEXTS, *markers)
        self._rules = [*_rules(place, mode, max_chars, self._markers), following, *rules]
        self._pieces: list[tuple[Token, int]] = []
        """Decoded tokens with the end of each in `_text`."""
        self._text = ""
        self._cut: tuple[int, Reason] | None = None
        self._finish: FinishReason | None = None

    def push(self, token: Token) -> bool:
        """Take one token; True once the suggestion is complete and decoding should stop."""
        if not token.is_end_mark:
            self._text += self._rematch.push(token.text)
            self._pieces.append((token, len(self._text)))
            self._apply_rules()
        if token.finish is not None and self._finish is None:
            self._finish = token.finish
        return self._cut is not None or self._finish is not None

    def result(self) -> Extracted:
        """The suggestion as it stands; empty where nothing is worth showing. May be asked at any time."""
        at, reason = self._cut or self._last_line_cut() or (len(self._text), self._open_reason())
        text = self._text[:at]
        if self._mode is not Mode.SINGLE_LINE and reason in _HALF and "\n" in text:
            text = text[: text.rindex("\n")]
        elif reason is Reason.DEADLINE:
            text = standing(text, self._place)
        left = filtered(text, self._place, self._filters)
        text, reason = left.text, left.reason or reason
        if reason in (Reason.LINE, Reason.BLOCK, Reason.SYNTAX) or not text.strip() or not self._place.line_after.strip():
            # Blanks at the end of a line are noise; before text that follows on the line they separate.
            text = text.rstrip()
        finish = FinishReason.STOP if self._cut else self._finish or FinishReason.STOP
        made_of = self._tokens_of(replace(left, text=text))
        tokens, ends = tuple(token for token, _ in made_of), tuple(end for _, end in made_of)
        rewritten = bool(text and left.rewrites)
        given = sum(start < len(self._wanted) for start in (0, *ends)[:-1]) if text.startswith(self._wanted) else 0
        ended = int(bool(tokens) and reason not in _HALF and self._pieces[-1][0] is not tokens[-1])
        return Extracted(text, tokens, len(self._pieces), finish, reason, ends, rewritten, self._leaked(), given, ended)

    def give_up(self, reason: Reason) -> None:
        """End the suggestion here: it is not worth going on."""
        self._cut = len(self._text), reason

    @property
    def written(self) -> str:
        """The text so far, uncut."""
        return self._text

    def _leaked(self) -> str:
        if self._cut is None or self._cut[1] is not Reason.MARKER:
            return ""
        at = self._cut[0]
        return max((marker for marker in self._markers if self._text.startswith(marker, at)), key=len, default="").strip()

    def _open_reason(self) -> Reason:
        return _FINISH_REASONS[self._finish] if self._finish else Reason.STOP_TEXT

    def _last_line_cut(self) -> tuple[int, Reason] | None:
        """What the rules say once the last line is known to be complete: some wait for its end."""
        if self._finish is not FinishReason.END:
            return None
        cut = self._first_cut(self._text + "\n")
        return cut if cut and cut[0] < len(self._text) else None

    def _apply_rules(self) -> None:
        if self._rematch.mismatch:
            self._cut = (0, Reason.MISMATCH)
            return
        self._cut = self._first_cut(self._text)

    def _first_cut(self, text: str) -> tuple[int, Reason] | None:
        cuts = [(at, rule.reason) for rule in self._rules if (at := rule.cut(text)) is not None]
        return min(cuts, key=lambda cut: cut[0], default=None)

    def _tokens_of(self, left: Filtered) -> list[tuple[Token, int]]:
        """Tokens with a character in what is left, and those without text that lead up to one of them; each with the end of
        its text there."""
        out: list[tuple[Token, int]] = []
        parts: list[Token] = []
        start = 0
        for token, written in self._pieces:
            if start >= len(left.text):
                break
            end = left.end_of(written)
            if end > start:
                out += [(part, end) for part in (*parts, token)]
                parts = []
            elif not token.text:
                parts.append(token)
            start = end
        return out


def _rematch(place: Place, prompt: Prompt, mode: Mode) -> Rematch:
    """In single-line mode, blank lines before the first line with text are dropped where the place's own line is blank."""
    lines = mode is not Mode.SINGLE_LINE
    if lines or prompt.trimmed or place.line_before.strip() or "\n" not in prompt.text:
        return Rematch(prompt.trimmed, kept=prompt.kept, keep_blank_lines=lines)
    # Nothing was held back: it is as if the model had already written the place's line again.
    indent = "\n" + place.line_before
    rematch = Rematch(indent, keep_blank_lines=False)
    rematch.push(indent)
    return rematch


def _rules(place: Place, mode: Mode, max_chars: int, markers: Sequence[str]) -> list[StopRule]:
    rules: list[StopRule] = [Texts(markers), MaxChars(max_chars)]
    if place.language != "markdown":
        rules.append(Fence(at_line_start=not place.line_before.strip()))
    if mode is Mode.SINGLE_LINE:
        return [SingleLine(), *rules]
    return [*rules, Repetition(), Block(place.line_before, place.language, thought_ends=mode is Mode.BLOCK)]
