"""A world in which length is all that matters: a deterministic double for what rewards do to the length of suggestions.

Every token of a suggestion is right with probability q, whatever it is; the programmer keeps a suggestion where all of its T
tokens are right and rejects it otherwise:

    P(kept) = q^T        seconds(T) = q^T · (t_write − t_edit) − t_verify        `coderl_gate.costs.utility_s`

So acceptance is best for T = 1, and seconds saved at a length in between. Suggestions come from a model; the world shows them
by a rule that knows q (with probability 1 where showing pays, else `explored`), draws the outcomes and writes the log as a
server would, as sessions of origin `simulated`. Same seed and samples, same log.

`write_length_model` makes the model: a llama of two layers with random weights over a dozen words, one of which, `;`, ends a
suggestion; so lengths are geometric to begin with.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from coderl_gate.costs import CostParameters, costs_of, expected_costs, tau, utility_s
from coderl_store.clock import VirtualClock, utc
from coderl_store.ids import IdSource
from coderl_store.records import (
    Action,
    Context,
    Decision,
    Evidence,
    Origin,
    Outcome,
    OutcomeKind,
    Reason,
    Record,
    Route,
    Session,
    Stage,
    Suggestion,
    Trigger,
)

from .length_guard import Shown
from .types import Sample

END: Final = ";"
WORDS: Final = tuple(f" {letter * 3}" for letter in "abcdefghijk")
"""Four characters each; what a prompt and a suggestion are made of."""
PROMPTS: Final = (" aaa bbb", " ccc ddd eee", " fff", " ggg hhh iii jjj")


@dataclass(frozen=True, slots=True)
class LengthWorld:
    """q, the programmers, and how much is explored."""

    right: float = 0.97
    """q, in (0, 1)."""
    explored: float = 0.3
    """Probability of showing what does not pay."""
    users: int = 20
    costs: CostParameters = field(default_factory=CostParameters)
    seed: int = 0

    def kept_probability(self, tokens: int) -> float:
        """q^T."""
        return float(self.right**tokens)

    def seconds(self, tokens: int, chars: int) -> float:
        """Seconds to expect of showing a suggestion."""
        return utility_s(self.kept_probability(tokens), costs_of(chars, 1, self.costs))

    def figures(self, samples: Sequence[Sample], texts: Sequence[str]) -> Mapping[str, float]:
        """Means over suggestions that are all shown: `tokens`, `chars`, `acceptance` and `seconds`, as expectations."""
        pairs = [(len(sample.tokens), len(text)) for sample, text in zip(samples, texts, strict=True)]
        count = len(pairs)
        return {
            "tokens": sum(tokens for tokens, _ in pairs) / count,
            "chars": sum(chars for _, chars in pairs) / count,
            "acceptance": sum(self.kept_probability(tokens) for tokens, _ in pairs) / count,
            "seconds": sum(self.seconds(tokens, chars) for tokens, chars in pairs) / count,
        }

    def shown(self, samples: Sequence[Sample], texts: Sequence[str]) -> list[Shown]:
        """The same suggestions for the guard, with expected outcomes."""
        out = []
        for sample, text in zip(samples, texts, strict=True):
            kept = self.kept_probability(len(sample.tokens))
            out.append(Shown(len(text), kept, kept * len(text)))
        return out

    def records(self, prompts_P: Sequence[str], samples_PG: Sequence[Sequence[Sample]], decode: Any) -> Iterator[Record]:
        """The log of suggestions that a model made for prompts. `decode`: ids to text."""
        rng, clock = random.Random(self.seed), VirtualClock()
        ids = IdSource(clock, random.Random(self.seed + 1))
        sessions = [self._session(ids, clock, number) for number in range(self.users)]
        yield from sessions
        flat = [(prompt, sample) for prompt, group in zip(prompts_P, samples_PG, strict=True) for sample in group]
        rng.shuffle(flat)
        p1 = sum(self.kept_probability(len(sample.tokens)) for _, sample in flat) / len(flat)
        mean_chars = sum(len(decode(sample.tokens)) for _, sample in flat) / len(flat)
        scribe = _Scribe(self, replace(self.costs, expected_chars=mean_chars), p1, ids, clock, rng)
        for prompt, sample in flat:
            yield from scribe.request(rng.choice(sessions), prompt, sample, decode(sample.tokens))

    def _session(self, ids: IdSource, clock: VirtualClock, number: int) -> Session:
        return Session(ids.new(), utc(clock.now_s()), Origin.SIMULATED, f"user-{number}", seed=self.seed)


@dataclass(frozen=True, slots=True)
class _Scribe:
    """What logging one request takes."""

    world: LengthWorld
    costs: CostParameters
    p1: float
    ids: IdSource
    clock: VirtualClock
    rng: random.Random

    def request(self, session: Session, prompt: str, sample: Sample, text: str) -> Iterator[Record]:
        """One request with its outcome, where it was shown."""
        self.clock.advance_to(self.clock.now_s() + 20.0)
        at, p2 = utc(self.clock.now_s()), self.world.kept_probability(len(sample.tokens))
        costs = costs_of(len(text), 1, self.costs)
        pays, shows = p2 > tau(costs), self.rng.random() < self.world.explored
        show = pays or shows
        context = Context(
            self.ids.new(), at, session.id, "plaintext", "length-world", 0, len(prompt), Trigger.AUTOMATIC,
            offset_chars=len(prompt), prefix=prompt, suffix="",
        )  # fmt: skip
        reason = Reason.WORTH_SHOWING if pays else Reason.EXPLORED if show else Reason.BELOW_THRESHOLD
        decision = Decision(
            id=context.id, at=at, session_id=session.id, context_id=context.id, route=Route.FULL, stage=Stage.AFTER,
            action=Action.SHOW if show else Action.WITHHOLD, reason=reason, p1=self.p1, entropy_bits=None, tau_before=None,
            p2=p2, tau=tau(costs), expected_costs=expected_costs(self.costs), costs=costs, epsilon_skip=0.0,
            epsilon_withhold=self.world.explored, coin_before=1.0, coin_after=0.0 if shows else 1.0,
            propensity=1.0 if pays else self.world.explored if show else 1.0 - self.world.explored,
            gate_id="length-world", generator_id="length-model",
        )  # fmt: skip
        suggestion = Suggestion(
            id=self.ids.new(), at=at, session_id=session.id, decision_id=decision.id, lineage_id=context.id,
            generator_id="length-model", chars=len(text), lines=1, tokens=len(sample.tokens), text=text,
            token_ids=sample.tokens, logprobs=sample.logprobs, temperature=1.0,
        )  # fmt: skip
        yield from (context, decision, suggestion)
        if show:
            kept = self.rng.random() < p2
            kind = OutcomeKind.ACCEPTED if kept else OutcomeKind.DISMISSED
            yield Outcome(
                self.ids.new(), at, session.id, suggestion.id, decision.id, kind, Evidence.COMMAND,
                visible_ms=1000 * costs.t_verify_s, accepted_chars=len(text) if kept else 0,
            )  # fmt: skip


def write_length_model(folder: Path, seed: int = 0) -> Path:
    """Write the model in Hugging Face's form, with its tokenizer, into `folder`. Needs coderl[train]."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()

    tools: Any = import_module("tokenizers")
    words = {word: number for number, word in enumerate((END, *WORDS))}
    tokenizer = tools.Tokenizer(tools.models.WordLevel(words, unk_token=END))
    tokenizer.pre_tokenizer = tools.pre_tokenizers.Split(tools.Regex(" [a-z]{3}|;"), "isolated")
    tokenizer.decoder = tools.decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END).save_pretrained(str(folder))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=None, eos_token_id=words[END], pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder
