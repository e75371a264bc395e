"""Several candidates for one place: decoded, scored, ranked. The first to be decoded is always the greedy one.

Where the backend branches, the others fork off the greedy one: at the places where another token was likely, that token is
taken and decoding goes on greedily. Forks are taken by the log-prob of the path up to and including their first token, as in a
beam search that prunes once. What they share with the greedy one is in the KV cache, so a fork costs the rest of its decoding.
Backends that do not branch draw samples, all at once, so that a server can batch them.

A candidate is worth log P(candidate | text before) + w·log P(first tokens of what follows | text before, candidate): a model
that is shown no text after the place can still say how well that text follows. The first token of what follows is looked up
among the likeliest at the end of the candidate, which were decoded anyway; each further one costs one step of decoding.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from coderl_generator.backend import Alternative, Backend, GenerationRequest, Token, branches, forces_beginning
from coderl_generator.complete import Budget, Completion, Watch, complete, rendered, untold, unwatched
from coderl_generator.errors import GeneratorError
from coderl_generator.prompt import Place
from coderl_generator.stop_rules import Reason, StopRule

_ALTERNATIVES = 20
"""Tokens asked for beside each token: the forks come from them, and what follows is looked up in them."""
_AGREEMENT_RANGE = 4.0
"""Nats that agreement with what follows is let make good."""
_LEAST = 1e-9
"""Probabilities below are as good as none."""
_BLANKS = " \t\r\n\f\v"
_FOLLOWING_CHARS = 80
"""So much of what follows is looked at, at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One completion of a place, and how well what follows follows it."""

    completion: Completion
    agreement: float | None = None
    """Natural-log probability of the first tokens after the place behind this completion; None where it was not asked for."""

    @property
    def logprob(self) -> float:
        """Natural-log probability of the tokens that were the model's own choice, their sum."""
        return sum(self.completion.own_logprobs)

    def score(self, weight: float) -> float:
        """What it is worth, natural log."""
        return self.logprob + weight * (self.agreement or 0.0)


@dataclass(frozen=True, slots=True)
class Several:
    """The candidates of a place, the best first; never empty."""

    candidates: tuple[Candidate, ...]
    failure: GeneratorError | None = None
    """What kept further candidates from being made; those that are there stand."""

    @property
    def best(self) -> Completion:
        """The best completion, which knows the others. Each has the latency of them all: it was there when all were."""
        first, *others = (candidate.completion for candidate in self.candidates)
        return replace(first, others=tuple(others))

    @property
    def tokens_used(self) -> int:
        """Tokens decoded for the candidates that are here; what their agreement took is not counted."""
        return sum(candidate.completion.tokens_used for candidate in self.candidates)


def ranked(candidates: Sequence[Candidate], weight: float = 1.0) -> tuple[Candidate, ...]:
    """The best first: by log-prob and `weight` times agreement, which counts only where all that hold text have one.

    Of candidates with the same text the first one stays; empty ones go, unless there is no other. Ties keep their order.
    """
    different: dict[str, Candidate] = {}
    for candidate in candidates:
        different.setdefault(candidate.completion.text.rstrip(), candidate)
    worth = [candidate for text, candidate in different.items() if text.strip()] or list(candidates[:1])
    if any(candidate.agreement is None for candidate in worth):
        weight = 0.0
    return tuple(sorted(worth, key=lambda candidate: -candidate.score(weight)))


def forks(decoded: Sequence[Token], trimmed: str, most: int) -> list[tuple[Token, ...]]:
    """The `most` likeliest beginnings that leave what was decoded, each by its last token, the likeliest first.

    Left out are those that would come to the same text, or to none: another number of blank lines before the same indentation,
    another way to end the line, and a beginning that does not continue what was `trimmed` from the prompt.
    """
    found: list[tuple[float, int, Token]] = []
    path, text = 0.0, ""
    for at, token in enumerate(decoded):
        for other in token.alternatives:
            if other.id != token.id and other.id >= 0 and _differs(text, token.text, other.text, trimmed):
                found.append((path + other.logprob, at, Token(other.text, other.id, other.logprob)))
        path += token.logprob
        text += token.text
    found.sort(key=lambda fork: -fork[0])
    return [(*decoded[:at], token) for _, at, token in found[:most]]


def _differs(before: str, taken: str, other: str, trimmed: str) -> bool:
    """Whether `other` instead of `taken`, behind what was decoded `before`, can lead to another text."""
    if not other:
        return False
    if before.strip():
        return not (taken.lstrip(" \t").startswith("\n") and other.lstrip(" \t").startswith("\n"))
    forked = before + other
    blank = forked[: len(forked) - len(forked.lstrip(_BLANKS))]
    if "\n" in trimmed and "\n" not in blank:
        return False
    return bool(other.strip()) or _indent(forked) != _indent(before + taken)


def _indent(text: str) -> str:
    return text[text.rfind("\n") + 1 :]


def following(place: Place) -> str:
    """The beginning of the lines that follow the place's, blank ones left out; empty where none do, or where text follows on
    the place's own line."""
    first, _, rest = place.suffix[:2000].replace("\r\n", "\n").partition("\n")
    lines = [line for line in rest.split("\n") if line.strip()]
    return "" if first.strip() or not lines else ("\n" + "\n".join(lines))[:_FOLLOWING_CHARS]


async def complete_several(
    backend: Backend,
    place: Place,
    budget: Budget,
    now: Callable[[], float],
    wrote: Callable[[str], None] = untold,
    watch: Watch = unwatched,
    rules: Sequence[StopRule] = (),
) -> Several:
    """`budget.candidates` completions of a place, ranked; fewer where time runs out, where they say the same, or where the
    first is sure (`budget.sure`) or was given up. `now`, `wrote`, `watch` and `rules` as for `complete`; `wrote` and `watch`
    hear of the first one only.

    Cancelling the awaiting task stops the decoding. Raises what `complete` raises, but only for the first: a failure of the
    others is told by `Several.failure`.
    """
    started_s = now()
    branching = branches(backend) and budget.candidates > 1
    asked = replace(budget, alternatives=_ALTERNATIVES) if branching else budget
    first = await complete(backend, place, asked, now, wrote, watch, rules)
    made = [Candidate(first)]
    ended = first.reason in (Reason.DEADLINE, Reason.UNPROMISING)
    sure = not budget.offer_all and first.text.strip() and sum(first.own_logprobs) >= budget.sure
    if budget.candidates < 2 or ended or sure:
        return Several((Candidate(replace(first, decoded=())),))
    until_s = now() + budget.several_s
    if budget.deadline_s is not None:
        until_s = min(until_s, started_s + budget.deadline_s)
    failure: GeneratorError | None = None
    try:
        if branching:
            await _fork(backend, place, budget, now, until_s, rules, made)
            made = await _agreeing(backend, place, budget, now, until_s, made)
        else:
            await _sample(backend, place, budget, now, until_s, rules, made)
    except GeneratorError as error:
        failure = error
    order = ranked(made, budget.agreement_weight)
    weight = 0.0 if any(one.agreement is None for one in order) else budget.agreement_weight
    latency_ms = (now() - started_s) * 1000.0
    scores = [one.score(weight) if len(order) > 1 else None for one in order]
    return Several(tuple(_settled(one, score, latency_ms) for one, score in zip(order, scores, strict=True)), failure)


def _settled(candidate: Candidate, score: float | None, latency_ms: float) -> Candidate:
    """With its score, without what only the choosing needed; it was there when all were."""
    done = replace(candidate.completion, score=score, latency_ms=latency_ms, decoded=())
    return replace(candidate, completion=done)


async def _fork(
    backend: Backend,
    place: Place,
    budget: Budget,
    now: Callable[[], float],
    until_s: float,
    rules: Sequence[StopRule],
    made: list[Candidate],
) -> None:
    """Add the forks of the first candidate, one after another: they share its beginning in the KV cache. One that gets less
    likely than the best so far by more than what follows can make good is stopped, unless all are wanted."""
    first = made[0].completion
    for head in forks(first.decoded, first.trimmed, budget.candidates - 1):
        left_s = until_s - now()
        if left_s <= 0:
            return
        best = max((one.logprob for one in made if one.completion.text.strip()), default=-math.inf)
        least = -math.inf if budget.offer_all or first.given else best - budget.agreement_weight * _AGREEMENT_RANGE
        limited = replace(budget, deadline_s=left_s, alternatives=_ALTERNATIVES)
        done = await complete(backend, place, limited, now, rules=rules, head=head, least=least)
        if done.reason not in (Reason.DEADLINE, Reason.UNLIKELY):
            made.append(Candidate(done))


async def _sample(
    backend: Backend,
    place: Place,
    budget: Budget,
    now: Callable[[], float],
    until_s: float,
    rules: Sequence[StopRule],
    made: list[Candidate],
) -> None:
    """Add samples, all decoded at once where the backend can."""
    left_s = until_s - now()
    if left_s <= 0:
        return
    drawn = [
        replace(budget, temperature=budget.sample_temperature, seed=(budget.seed or 0) + number, deadline_s=left_s)
        for number in range(1, budget.candidates)
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_or_failure(complete(backend, place, one, now, rules=rules))) for one in drawn]
    done = [task.result() for task in tasks]
    made += [Candidate(one) for one in done if isinstance(one, Completion) and one.reason is not Reason.DEADLINE]
    for one in done:
        if isinstance(one, GeneratorError):
            raise one


async def _agreeing(
    backend: Backend, place: Place, budget: Budget, now: Callable[[], float], until_s: float, made: list[Candidate]
) -> list[Candidate]:
    """The same with their agreement, as far as time allows."""
    follows = following(place) if budget.template == "plain" else ""
    if not follows or len(made) < 2:
        return made
    out: list[Candidate] = []
    for candidate in made:
        in_time = now() < until_s and candidate.completion.text.strip()
        logprobs = await agreement(backend, place, candidate.completion, follows, budget) if in_time else None
        out.append(replace(candidate, agreement=None if logprobs is None else sum(logprobs)))
    return out


async def agreement(
    backend: Backend, place: Place, completion: Completion, follows: str, budget: Budget
) -> tuple[float, ...] | None:
    """Log-probs of the first `budget.agreement_tokens` tokens of `follows` behind the completion, fewer where it is shorter.

    Of the likeliest tokens those count that `follows` begins with, all of them, and the likeliest of these is gone on from (the
    longest would not do: an indentation is one blank shorter than it looks, the next word brings the last one). Where none
    fits, what such a token can have at most stands for it, and for every token after it. None where the completion's end was
    not decoded.
    """
    line, end = _line_of(completion)
    if end is None:
        return None
    logprobs: list[float] = []
    at: Token | None = end
    while follows and at is not None and len(logprobs) < budget.agreement_tokens:
        fits = [other for other in at.alternatives if other.text and follows.startswith(other.text)]
        if not fits:
            return (*logprobs, *[_at_most(at.alternatives)] * (budget.agreement_tokens - len(logprobs)))
        found = max(fits, key=lambda other: other.logprob)
        logprobs.append(min(0.0, math.log(max(_LEAST, sum(math.exp(other.logprob) for other in fits)))))
        follows = follows[len(found.text) :]
        line = (*line, found.id)
        at = await _next(backend, place, line, budget) if len(logprobs) < budget.agreement_tokens else None
    return tuple(logprobs)


def _at_most(alternatives: Sequence[Alternative]) -> float:
    """The log-prob that a token which is not among the likeliest has at most."""
    least = min((other.logprob for other in alternatives), default=0.0)
    left = 1.0 - sum(math.exp(other.logprob) for other in alternatives)
    return min(least, math.log(max(left, _LEAST)))


def _line_of(completion: Completion) -> tuple[tuple[int, ...], Token | None]:
    """The ids of the tokens before the one that ends the line, and that one; None where the line's end was not decoded, or
    where one token holds text and line end."""
    text = ""
    ids: list[int] = []
    for token in completion.decoded:
        if text.strip() and "\n" in token.text:
            return tuple(ids), token if not token.text.strip() else None
        text += token.text
        ids.append(token.id)
    return tuple(ids), None


async def _next(backend: Backend, place: Place, head: tuple[int, ...], budget: Budget) -> Token | None:
    """The token that the model would write behind the prompt and `head`, with the likeliest beside it."""
    prompt = rendered(place, budget, forces=forces_beginning(backend))
    request = GenerationRequest(
        prompt=prompt.text,
        max_tokens=1,
        timeout_s=budget.timeout_s,
        document=place.document,
        alternatives=_ALTERNATIVES,
        head=head,
    )
    async with aclosing(backend.stream(request)) as tokens:
        async for token in tokens:
            return None if token.is_end_mark else token
    return None


async def _or_failure(work: Awaitable[Completion]) -> Completion | GeneratorError:
    try:
        return await work
    except GeneratorError as error:
        return error
