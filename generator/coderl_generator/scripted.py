"""The deterministic double: a backend that says what a script says, on any clock.

It keeps the whole contract of `Backend` (deadlines, time-outs, cancellation, log-probs), so tests, the simulator and the
protocol replay run the real code above it. The same script, requests and clock give the same tokens, letter by letter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from coderl_generator.backend import Alternative, FinishReason, GenerationRequest, Patience, Sleeper, Token, end_mark
from coderl_generator.errors import BackendRefused, BackendUnavailable, GenerationTimedOut, GeneratorError, PromptTooLong
from coderl_generator.oracle import Oracle, Piece
from coderl_generator.stop_texts import StopTexts

_PIECES = re.compile(r"\n[ \t]*| ?\w{1,6}|[ \t]+|[^\w\s]{1,2}|\s", re.UNICODE)
"""Word pieces in the manner of a byte-pair vocabulary: a word with its blank, a line break with its indentation, marks."""


_FORCED_LOGPROB = -5.0
"""Of a token the script would not have said."""


class Failure(StrEnum):
    """How a scripted answer fails, after the tokens of its text."""

    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    """No further token: `GenerationTimedOut` after the request's time-out, or its deadline."""
    HANG = "hang"
    """No further token, and neither time-out nor deadline is kept: a broken backend. Only cancelling ends it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What to answer to the prompts whose end matches."""

    text: str = ""
    pattern: str = ""
    """A regular expression searched in the last 2,000 characters of the prompt; `\\Z` anchors it at the end."""
    logprob: float = -0.1
    """Log-prob of every token, unless `logprobs` gives one per token (the last one then holds for the rest)."""
    logprobs: tuple[float, ...] = ()
    first_delay_ms: float = 0.0
    delay_ms: float = 0.0
    """Between two tokens."""
    failure: Failure | None = None
    finish: FinishReason = FinishReason.END
    others: tuple[str, ...] = ()
    """What else it might say, the likeliest first: forks of a backend that branches, and samples by their seed."""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise GeneratorError(f"the script's pattern {self.pattern!r} is no regular expression: {error}") from error
        if any(logprob > 0 for logprob in (self.logprob, *self.logprobs)):
            raise GeneratorError("a log-prob of the script is above 0")


@dataclass(frozen=True, slots=True)
class Script:
    """Rules in order, the first that matches answers; then the oracle, if any; then the default."""

    rules: tuple[Rule, ...] = ()
    default: Rule = field(default_factory=Rule)
    oracle: Oracle | None = None

    @classmethod
    def from_json(cls, path: Path) -> Script:
        """Read `{"rules": [{"pattern", "text", …}], "default": {…}, "oracle": {"texts", "error_rate", "seed"}}`.

        The keys of a rule are the fields of `Rule`. Raises `GeneratorError` naming the file and what is wrong in it.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            oracle = data.get("oracle")
            return cls(
                rules=tuple(_rule_of(rule) for rule in data.get("rules", ())),
                default=_rule_of(data.get("default", {})),
                oracle=Oracle(**{**oracle, "texts": tuple(oracle["texts"])}) if oracle else None,
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise GeneratorError(f"the script {path} cannot be used: {error}") from error


def _rule_of(data: dict[str, Any]) -> Rule:
    known = dict(data)
    if known.get("failure") is not None:
        known["failure"] = Failure(known["failure"])
    if "finish" in known:
        known["finish"] = FinishReason(known["finish"])
    known["logprobs"] = tuple(known.get("logprobs", ()))
    known["others"] = tuple(known.get("others", ()))
    return Rule(**known)


class ScriptedBackend:
    """Answers from a script. Delays pass on the clock, so a virtual clock makes them exact and free."""

    def __init__(
        self,
        clock: Sleeper,
        script: Script | Path | None = None,
        *,
        generator_id: str = "scripted",
        max_prompt_chars: int | None = None,
        forces_beginning: bool = False,
        branches: bool = False,
    ) -> None:
        """`script`: a `Script`, or the path of a JSON file (`Script.from_json`); without one, every answer is empty.

        `max_prompt_chars` plays a model's context: a longer prompt raises `PromptTooLong`. `forces_beginning` plays a
        backend that keeps `begins_with`: an answer that does not begin with it gets it put in front. `branches` plays one that
        keeps `alternatives` and `head`: they are those of the rule's `others`.
        """
        self._clock = clock
        self._script = Script.from_json(script) if isinstance(script, Path) else script or Script()
        self._max_prompt_chars = max_prompt_chars
        self.forces_beginning = forces_beginning
        self.branches = branches
        self._id = generator_id
        self._closed = False
        self.decoded_tokens = 0
        """Tokens produced so far, over all streams."""
        self.requests: list[GenerationRequest] = []
        """Every request that was started, in order."""

    @property
    def generator_id(self) -> str:
        return self._id

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        """See `Backend.stream`."""
        if self._closed:
            raise BackendUnavailable("the scripted backend was shut down")
        self.requests.append(request)
        if self._max_prompt_chars is not None and len(request.prompt) > self._max_prompt_chars:
            raise PromptTooLong(f"the prompt has {len(request.prompt)} characters, the context {self._max_prompt_chars}")
        rule, answer = self._answer(request)
        tellings = [
            self._begun(request, answer),
            *([Piece(text, rule.logprob) for text in split(other)] for other in rule.others),
        ]
        head = request.head if self.branches else ()
        pieces = _telling(request, tellings, head)
        patience = Patience(request, self._clock.now_s())
        stops = StopTexts(request.stop)
        for index, piece in enumerate(pieces[: request.max_tokens]):
            delay_ms = rule.delay_ms if index else rule.first_delay_ms
            if not await self._wait(delay_ms / 1000.0, request, patience):
                for token in stops.flush():
                    yield token
                yield end_mark(FinishReason.DEADLINE)
                return
            self.decoded_tokens += 1
            others = _alternatives(request, tellings, head, pieces, index) if self.branches else ()
            for token in stops.push(Token(piece.text, token_id(piece.text), piece.logprob, alternatives=others)):
                yield token
            if stops.hit:
                yield end_mark(FinishReason.STOP)
                return
        if len(pieces) > request.max_tokens:
            finish = FinishReason.LENGTH
        else:
            if rule.failure is not None and await self._fail(rule.failure, request, patience):
                finish = FinishReason.DEADLINE
            else:
                finish = rule.finish
        for token in stops.flush():
            yield token
        yield end_mark(finish)

    async def aclose(self) -> None:
        """Idempotent; streams that are open end with `BackendUnavailable` at their next token."""
        self._closed = True

    def _answer(self, request: GenerationRequest) -> tuple[Rule, Sequence[Piece]]:
        tail = request.prompt[-2000:]
        for rule in self._script.rules:
            if re.search(rule.pattern, tail):
                return rule, _pieces_of(rule)
        default = self._script.default
        if self._script.oracle is not None:
            return default, self._script.oracle.pieces(request.prompt, split)
        return default, _pieces_of(default)

    def _begun(self, request: GenerationRequest, pieces: Sequence[Piece]) -> Sequence[Piece]:
        begins_with = request.begins_with if self.forces_beginning else ""
        if "".join(piece.text for piece in pieces).startswith(begins_with):
            return pieces
        return [*(Piece(text, _FORCED_LOGPROB) for text in split(begins_with)), *pieces]

    async def _wait(self, seconds: float, request: GenerationRequest, patience: Patience) -> bool:
        """Wait for the next token; False where the deadline came first."""
        longest_s = patience.wait_s(self._clock.now_s())
        await self._clock.sleep(min(seconds, longest_s))
        if self._closed:
            raise BackendUnavailable("the scripted backend was shut down")
        if patience.over(self._clock.now_s()):
            return False
        if seconds > longest_s:
            raise GenerationTimedOut(f"the scripted backend gave no token in {request.timeout_s:g} s")
        return True

    async def _fail(self, failure: Failure, request: GenerationRequest, patience: Patience) -> bool:
        """Fail as scripted; True where the deadline came first."""
        if failure is Failure.UNAVAILABLE:
            raise BackendUnavailable("the scripted backend died")
        if failure is Failure.REFUSED:
            raise BackendRefused("the scripted backend refused the request")
        if failure is Failure.HANG:
            while not self._closed:
                await self._clock.sleep(3600.0)
        return not await self._wait(float("inf"), request, patience)


def _ids(pieces: Sequence[Piece]) -> tuple[int, ...]:
    return tuple(token_id(piece.text) for piece in pieces)


def _telling(request: GenerationRequest, tellings: Sequence[Sequence[Piece]], head: tuple[int, ...]) -> Sequence[Piece]:
    """What is said: the answer, a sample by its seed, or what is left of the telling that begins with the head."""
    if head:
        return next((told[len(head) :] for told in tellings if _ids(told[: len(head)]) == head), [])
    return tellings[(request.seed or 0) % len(tellings)] if request.temperature > 0 else tellings[0]


def _alternatives(
    request: GenerationRequest, tellings: Sequence[Sequence[Piece]], head: tuple[int, ...], pieces: Sequence[Piece], index: int
) -> tuple[Alternative, ...]:
    """The piece itself, and what other tellings that began the same say in its place, each less likely than the one before."""
    said = (*head, *_ids(pieces[:index]))
    found = {pieces[index].text: pieces[index].logprob}
    for rank, told in enumerate(tellings):
        if len(told) > len(said) and _ids(told[: len(said)]) == said:
            piece = told[len(said)]
            found.setdefault(piece.text, piece.logprob - rank)
    most = list(found.items())[: request.alternatives]
    return tuple(Alternative(text, token_id(text), logprob) for text, logprob in most)


def split(text: str) -> list[str]:
    """Word pieces whose concatenation is `text`."""
    pieces: list[str] = []
    at = 0
    for match in _PIECES.finditer(text):
        if match.start() > at:
            pieces.append(text[at : match.start()])
        pieces.append(match.group())
        at = match.end()
    return pieces if at == len(text) else [*pieces, text[at:]]


def token_id(text: str) -> int:
    """A stable id in [0, 50000) for a piece."""
    return int.from_bytes(hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big") % 50_000


def _pieces_of(rule: Rule) -> list[Piece]:
    texts = split(rule.text)
    if not rule.logprobs:
        return [Piece(text, rule.logprob) for text in texts]
    last = len(rule.logprobs) - 1
    return [Piece(text, rule.logprobs[min(index, last)]) for index, text in enumerate(texts)]
