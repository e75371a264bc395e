"""One suggestion from one place: render, stream, extract, stop decoding as soon as the suggestion is complete."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from coderl_generator.backend import Backend, FinishReason, GenerationRequest, forces_beginning
from coderl_generator.errors import PromptTooLong
from coderl_generator.extract import Extractor, Mode
from coderl_generator.prompt import Place, Prompt, render
from coderl_generator.stop_rules import Reason

_MIN_PREFIX_CHARS = 400
"""A window below this is not worth a generation: `PromptTooLong` is then raised instead of halving again."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one suggestion may cost, and how it is sampled."""

    max_tokens: int = 48
    mode: Mode = Mode.SINGLE_LINE
    deadline_s: float | None = None
    """Longest the generation may take; what was decoded until then stands."""
    timeout_s: float = 10.0
    """Longest wait for the first token and between two tokens."""
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    template: str = "plain"
    """See `coderl_generator.prompt.render`."""
    max_prefix_chars: int = 3000
    max_suffix_chars: int = 1000
    anchor_chars: int = 1000
    max_chars: int = 2000
    """Longest suggestion."""
    trim: bool = True
    """Boundary handling; off only to measure what it is worth."""
    heal_word: bool = True
    """Handling of a begun word, where the backend can force a beginning; off only to measure what it is worth."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A suggestion with what it took. `text` may be empty: then `reason` says why."""

    text: str
    token_ids: tuple[int, ...]
    """Ids of the tokens that make `text`."""
    logprobs: tuple[float, ...]
    """Their natural-log probabilities, aligned with `token_ids`."""
    first_token_ms: float | None
    """From the request to the first decoded token; None where none was decoded."""
    latency_ms: float
    finish: FinishReason
    reason: Reason
    tokens_used: int
    """Tokens decoded, those that were trimmed included."""
    prompt_chars: int
    trimmed: str
    """What was held back from the end of the prompt: whitespace, and a begun word where it is healed."""
    token_ends: tuple[int, ...] = ()
    """Where in `text` each token ends, in characters."""

    def after(self, chars: int) -> Completion:
        """What is left of it behind its first `chars` characters, with the tokens that have a part there."""
        left = [index for index, end in enumerate(self.token_ends) if end > chars]
        return replace(
            self,
            text=self.text[chars:],
            token_ids=tuple(self.token_ids[index] for index in left),
            logprobs=tuple(self.logprobs[index] for index in left),
            token_ends=tuple(self.token_ends[index] - chars for index in left),
        )

    def taking(self, latency_ms: float) -> Completion:
        """The same for a request that waited so long for it and had nothing decoded."""
        return replace(self, first_token_ms=None, latency_ms=latency_ms, tokens_used=0)


def _unwatched(_: str) -> None:
    """Nobody wants to know."""


async def complete(
    backend: Backend, place: Place, budget: Budget, now: Callable[[], float], wrote: Callable[[str], None] = _unwatched
) -> Completion:
    """Generate one suggestion for a place. `now` reads a clock in seconds; it only measures, the backend keeps the deadline.
    `wrote` is told what is written so far, after each token; the end of it may still be cut.

    Cancelling the awaiting task stops the decoding. A prompt with more tokens than the model's context is rendered again with
    half the window. Raises the errors of `coderl_generator.errors` that the backend raises, and `GeneratorError` for an unknown
    template.
    """
    started_s = now()
    while True:
        prompt = render(
            place,
            budget.template,
            max_prefix_chars=budget.max_prefix_chars,
            max_suffix_chars=budget.max_suffix_chars,
            anchor_chars=budget.anchor_chars,
            trim=budget.trim,
            heal_word=budget.heal_word and forces_beginning(backend),
        )
        try:
            return await _stream(backend, place, prompt, budget, now, started_s, wrote)
        except PromptTooLong:
            halved = min(budget.max_prefix_chars, len(place.prefix)) // 2
            if halved < _MIN_PREFIX_CHARS:
                raise
            budget = replace(
                budget,
                max_prefix_chars=halved,
                max_suffix_chars=budget.max_suffix_chars // 2,
                anchor_chars=min(budget.anchor_chars, halved // 2),
            )


async def _stream(
    backend: Backend,
    place: Place,
    prompt: Prompt,
    budget: Budget,
    now: Callable[[], float],
    started_s: float,
    wrote: Callable[[str], None],
) -> Completion:
    request = GenerationRequest(
        prompt=prompt.text,
        suffix=prompt.suffix,
        max_tokens=budget.max_tokens,
        temperature=budget.temperature,
        top_p=budget.top_p,
        seed=budget.seed,
        begins_with=prompt.trimmed if prompt.forced else "",
        timeout_s=budget.timeout_s,
        deadline_s=budget.deadline_s,
        document=place.path,
    )
    extractor = Extractor(place, prompt, budget.mode, max_chars=budget.max_chars)
    first_token_s: float | None = None
    async with aclosing(backend.stream(request)) as tokens:
        async for token in tokens:
            if first_token_s is None and not token.is_end_mark:
                first_token_s = now()
            if extractor.push(token):
                break
            wrote(extractor.written)
    extracted = extractor.result()
    return Completion(
        text=extracted.text,
        token_ids=extracted.token_ids,
        logprobs=extracted.logprobs,
        first_token_ms=None if first_token_s is None else (first_token_s - started_s) * 1000.0,
        latency_ms=(now() - started_s) * 1000.0,
        finish=extracted.finish,
        reason=extracted.reason,
        tokens_used=extracted.tokens_used,
        prompt_chars=len(prompt.text) + len(prompt.suffix or ""),
        trimmed=prompt.trimmed,
        token_ends=extracted.token_ends,
    )
