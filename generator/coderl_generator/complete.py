"""One suggestion from one place: render, stream, extract, stop decoding as soon as the suggestion is complete."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from coderl_generator.backend import Backend, FinishReason, GenerationRequest, Token, forces_beginning
from coderl_generator.errors import PromptTooLong
from coderl_generator.extract import Extracted, Extractor, Mode
from coderl_generator.fim_templates import leak_texts
from coderl_generator.prompt import Place, Prompt, render
from coderl_generator.stop_rules import Reason, StopRule

_MIN_PREFIX_CHARS = 400
"""A window below this is not worth a generation: `PromptTooLong` is then raised instead of halving again."""
LEAST_S = 0.05
"""A generation that is begun at all gets this long."""
LOOK_EVERY = 8
"""Tokens between two looks of a `Watch`."""

Watch = Callable[[Extracted], bool]
"""Looks at what is written so far, as it would be shown; True: it is not worth going on."""


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
    max_context_chars: int = 2000
    """Longest that a place's snippets may be in the prompt, with all that is written around them."""
    max_chars: int = 2000
    """Longest suggestion."""
    trim: bool = True
    """Boundary handling; off only to measure what it is worth."""
    heal_word: bool = True
    """Handling of a begun word, where the backend can force a beginning; off only to measure what it is worth."""
    need_name: bool = True
    """Beginning with the name that the text after the place needs, where the backend can force a beginning; off only to
    measure what it is worth."""
    filters: bool = True
    """The filters of `coderl_generator.postfilter`; off only to measure what they are worth."""

    alternatives: int = 0
    """So many of the likeliest tokens are asked for beside each token, where the backend branches."""
    candidates: int = 1
    """Completions to choose from (`coderl_generator.several`), the greedy one among them."""
    sure: float = -3.0
    """A first completion of at least this log-prob (the sum over its tokens) is answered without a second one; 0 = never."""
    offer_all: bool = False
    """All candidates are wanted, not just the best: none is left out because the first is sure or another is better already."""
    several_s: float = 1.0
    """Longest the further candidates may take together, the comparing included."""
    sample_temperature: float = 0.6
    """Of the further candidates where they are samples."""
    agreement_tokens: int = 1
    """Tokens of what follows by which candidates are compared, the first one free of cost; 0 = by their own log-probs alone."""
    agreement_weight: float = 1.0

    def later(self, spent_s: float) -> Budget:
        """The same for a generation that is begun so much later: its deadline is the nearer, but `LEAST_S` is left."""
        if self.deadline_s is None:
            return self
        return replace(self, deadline_s=max(LEAST_S, self.deadline_s - spent_s))


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
    rewritten: bool = False
    """Its indentation was repaired: `token_ids` are what the model wrote, not what `text` spells."""
    leaked: str = ""
    """The control token that ended it, where one did."""
    others: tuple[Completion, ...] = ()
    """Further candidates for the same place, the best first."""
    score: float | None = None
    """What it was ranked by among the candidates: natural log; None where it was the only one."""
    decoded: tuple[Token, ...] = ()
    """Every token that was decoded, those that are not in `text` too, behind those it was made to go on from; kept only where
    the budget asks for alternatives."""
    generator_id: str = ""
    """Of the weights that wrote it, also where the backend has changed its model since."""
    end_tokens: int = 0
    """1 where the token decoded last is not in the text but shows that the text is whole there, else 0."""
    given: int = 0
    """So many of its tokens, the first ones, it was made to begin with: their log-probs do not say how sure the model is."""

    @property
    def own_logprobs(self) -> tuple[float, ...]:
        """The log-probs of the tokens that were the model's own choice."""
        return self.logprobs[self.given :]

    def after(self, chars: int) -> Completion:
        """What is left of it behind its first `chars` characters, with the tokens that have a part there, and of the other
        candidates that begin the same."""
        left = [index for index, end in enumerate(self.token_ends) if end > chars]
        begun = self.text[:chars]
        return replace(
            self,
            text=self.text[chars:],
            others=tuple(one.after(chars) for one in self.others if one.text.startswith(begun) and one.text[chars:].strip()),
            token_ids=tuple(self.token_ids[index] for index in left),
            given=max(0, self.given - (len(self.token_ids) - len(left))),
            logprobs=tuple(self.logprobs[index] for index in left),
            token_ends=tuple(self.token_ends[index] - chars for index in left),
        )

    def taking(self, latency_ms: float) -> Completion:
        """The same for a request that waited so long for it and had nothing decoded."""
        return replace(self, first_token_ms=None, latency_ms=latency_ms, tokens_used=0, end_tokens=0)


def untold(_: str) -> None:
    """Nobody wants to know."""


def unwatched(_: Extracted) -> bool:
    """Nothing is given up."""
    return False


def rendered(place: Place, budget: Budget, *, forces: bool) -> Prompt:
    """The prompt of a place as a budget has it; `forces`: the backend can be made to begin with a begun word."""
    return render(
        place,
        budget.template,
        max_prefix_chars=budget.max_prefix_chars,
        max_suffix_chars=budget.max_suffix_chars,
        anchor_chars=budget.anchor_chars,
        max_context_chars=budget.max_context_chars,
        trim=budget.trim,
        heal_word=budget.heal_word and forces,
        need_name=budget.need_name and forces,
    )


async def complete(
    backend: Backend,
    place: Place,
    budget: Budget,
    now: Callable[[], float],
    wrote: Callable[[str], None] = untold,
    watch: Watch = unwatched,
    rules: Sequence[StopRule] = (),
    head: tuple[Token, ...] = (),
    least: float = -math.inf,
) -> Completion:
    """Generate one suggestion for a place. `now` reads a clock in seconds; it only measures, the backend keeps the deadline.
    `wrote` is told what is written so far, after each token; the end of it may still be cut. `watch` looks at it every
    `LOOK_EVERY` tokens; where it gives up, decoding stops and the completion ends there, with `Reason.UNPROMISING`. `rules`:
    ways to end that only the caller knows, besides those of the mode; they must follow from the place and the mode. `head`:
    tokens the suggestion begins with, which are not decoded; only for backends that branch. `least`: decoding stops
    (`Reason.UNLIKELY`) when the log-probs of what is written, the head's too, come to less.

    Cancelling the awaiting task stops the decoding. A prompt with more tokens than the model's context is rendered again, first
    without the snippets, then with half the window. Raises the errors of `coderl_generator.errors` that the backend raises, and
    `GeneratorError` for an unknown template.
    """
    started_s, guide = now(), _Guide(wrote, watch, rules, head, least)
    while True:
        prompt = rendered(place, budget, forces=forces_beginning(backend))
        try:
            return await _stream(backend, place, prompt, budget, now, started_s, guide)
        except PromptTooLong:
            if place.snippets and budget.max_context_chars:
                budget = replace(budget, max_context_chars=0)
                continue
            halved = min(budget.max_prefix_chars, len(place.prefix)) // 2
            if halved < _MIN_PREFIX_CHARS:
                raise
            budget = replace(
                budget,
                max_prefix_chars=halved,
                max_suffix_chars=budget.max_suffix_chars // 2,
                anchor_chars=min(budget.anchor_chars, halved // 2),
            )


@dataclass(frozen=True, slots=True)
class _Guide:
    """What the caller of `complete` has to say while it runs."""

    wrote: Callable[[str], None]
    watch: Watch
    rules: Sequence[StopRule]
    head: tuple[Token, ...]
    least: float


async def _stream(
    backend: Backend,
    place: Place,
    prompt: Prompt,
    budget: Budget,
    now: Callable[[], float],
    started_s: float,
    guide: _Guide,
) -> Completion:
    extractor = Extractor(
        place,
        prompt,
        budget.mode,
        max_chars=budget.max_chars,
        markers=leak_texts(budget.template),
        rules=guide.rules,
        filters=budget.filters,
    )
    decoded = list(guide.head)
    first_token_s: float | None = None
    ended = False
    for token in guide.head:
        ended = extractor.push(token) or ended
    generator_id = backend.generator_id  # nothing is awaited between this and the beginning of the stream
    if not ended:
        async with aclosing(backend.stream(_request(place, prompt, budget, guide.head))) as tokens:
            async for token in tokens:
                if not token.is_end_mark:
                    first_token_s = now() if first_token_s is None else first_token_s
                    decoded.append(token)
                if extractor.push(token) or _gives_up(extractor, decoded, guide):
                    break
                guide.wrote(extractor.written)
    extracted = extractor.result()
    return Completion(
        text=extracted.text,
        token_ids=extracted.token_ids,
        logprobs=extracted.logprobs,
        first_token_ms=None if first_token_s is None else (first_token_s - started_s) * 1000.0,
        latency_ms=(now() - started_s) * 1000.0,
        finish=extracted.finish,
        reason=extracted.reason,
        tokens_used=extracted.tokens_used - len(guide.head),
        prompt_chars=len(prompt.text) + len(prompt.suffix or ""),
        trimmed=prompt.trimmed,
        end_tokens=min(extracted.end_tokens, extracted.tokens_used - len(guide.head)),
        given=extracted.given,
        token_ends=extracted.token_ends,
        rewritten=extracted.rewritten,
        leaked=extracted.leaked,
        decoded=tuple(decoded) if budget.alternatives else (),
        generator_id=generator_id,
    )


def _request(place: Place, prompt: Prompt, budget: Budget, head: Sequence[Token]) -> GenerationRequest:
    return GenerationRequest(
        prompt=prompt.text,
        suffix=prompt.suffix,
        max_tokens=budget.max_tokens,
        temperature=budget.temperature,
        top_p=budget.top_p,
        seed=budget.seed,
        begins_with=prompt.trimmed + prompt.wanted if (prompt.forced or prompt.wanted) and not head else "",
        timeout_s=budget.timeout_s,
        deadline_s=budget.deadline_s,
        document=place.document,
        alternatives=budget.alternatives,
        one_line=budget.mode is Mode.SINGLE_LINE,
        head=tuple(token.id for token in head),
    )


def _gives_up(extractor: Extractor, decoded: Sequence[Token], guide: _Guide) -> bool:
    """Whether it is not worth going on; then the suggestion ends here."""
    if sum(token.logprob for token in decoded) < guide.least:
        extractor.give_up(Reason.UNLIKELY)
    elif len(decoded) % LOOK_EVERY == 0 and guide.watch(extractor.result()):
        extractor.give_up(Reason.UNPROMISING)
    else:
        return False
    return True
