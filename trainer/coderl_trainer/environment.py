"""The environment: what joins tasks, which are text, and samples, which are tokens. Pure but for the tokenizer handed in.

A prompt is rendered by `coderl_generator.complete.rendered` and a sample is read by `coderl_generator.extract.Extractor`, token
by token, as the language server does both: what a policy learns from is what a programmer would see.

Forced beginnings are off. The language server can make a backend begin with a begun word or a needed name; a sampled token
that was forced is not the policy's own choice, and a policy that never chose it does not learn to.

Covered: only tokens up to the one at which the language server would have stopped decoding are learned from; nothing is ever
tokenised again from text that was sampled. Not covered: the syntax tree by which the server ends some blocks, its snippets from
other files, and prompts longer than the model's context (the server cuts its window down; here the engine refuses).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coderl_generator.backend import FinishReason, Token, end_mark
from coderl_generator.complete import Budget, rendered
from coderl_generator.detokenizer import Detokenizer
from coderl_generator.errors import GeneratorError
from coderl_generator.extract import Extracted, Extractor, Mode
from coderl_generator.fim_templates import continues, leak_texts
from coderl_generator.prompt import Place, Prompt

from .errors import DatumError, TaskError
from .types import Datum, Sample, SamplingParameters, StopReason, Task, TaskKind

_FOLLOWING_CHARS = 200
"""So much of what stands behind a gap is looked at for the line break that ends the reference."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A task as a policy is asked it."""

    task: Task
    place: Place
    prompt: Prompt
    tokens: tuple[int, ...]
    """(P,) the prompt's token ids; never empty."""
    mode: Mode


@dataclass(frozen=True, slots=True)
class Environment:
    """How tasks are asked and answers are read. Raises `TaskError` for a template that token prompts cannot carry."""

    encode: Callable[[str], Sequence[int]]
    """Text to token ids, with what the model's tokenizer puts before a text, where it does."""
    decode: Callable[[list[int]], str]
    """Token ids to text, special tokens as their names (`coderl_generator.detokenizer`)."""
    ends: Sequence[int]
    """Token ids that end a sequence; the first of them ends references that no line break ends."""
    budget: Budget = field(default_factory=Budget)
    """Template, windows and limits, as the language server has them; its mode and sampling are not used."""

    def __post_init__(self) -> None:
        try:
            rendered(Place("x"), self.budget, forces=False)
        except (GeneratorError, ValueError) as error:
            raise TaskError(f"Prompts cannot be rendered: {error}.") from error
        if self.budget.template == "suffix":
            raise TaskError("The template `suffix` sends the text behind the place beside the prompt; tokens cannot say that.")
        if not self.ends:
            raise TaskError("The environment needs the token that ends a sequence.")

    def ask(self, task: Task) -> Asked:
        """The task's prompt. Raises `TaskError` where it has no token."""
        place = Place(task.prompt, task.suffix or "", task.language, task.path)
        prompt = rendered(place, self.budget, forces=False)
        tokens = tuple(self.encode(prompt.text))
        if not tokens:
            raise TaskError(f"The prompt of task {task.id} is empty: there is nothing to go on from.")
        return Asked(task, place, prompt, tokens, mode_of(task))

    def parameters(self, mode: Mode, *, temperature: float = 1.0, seed: int | None = None) -> SamplingParameters:
        """How to sample answers of one mode; prompts of one call share them."""
        return SamplingParameters(self.budget.max_tokens, temperature, one_line=mode is Mode.SINGLE_LINE, seed=seed)

    def read(self, asked: Asked, sample: Sample) -> Extracted:
        """The text of a sample, as the language server would show it.

        `finish` is `FinishReason.LENGTH` exactly where the sample ran into its token budget before the text was complete: such
        rows are cut off and may be masked.
        """
        return self._follow(asked, sample)[0]

    def datum(self, asked: Asked, sample: Sample, advantage: float) -> Datum:
        """The row to learn from: the prompt with mask 0, and the sampled tokens, up to where reading stopped, with mask 1.

        Each of these has the advantage of the whole. Raises `DatumError` for a sample without a token.
        """
        used = self._follow(asked, sample)[1]
        if not used:
            raise DatumError(f"The sample of task {asked.task.id} holds no token: there is nothing to learn from.")
        return _row(asked.tokens, sample.tokens[:used], sample.logprobs[:used], advantage)

    def sft_datum(self, task: Task) -> Datum:
        """The row of the task's reference, for cross entropy: mask 1 on its tokens and on the one that ends it.

        What ends it: for a prompt that ends with the prefix as `plain` does, the first line break behind it. That break is
        taken as the file has it, with what its token holds besides: models know `\\n` and three blanks as one token. Text that
        follows the gap on its line stands before the break and is learned too; reading takes it off again (`postfilter`).
        Without a break, and for other templates, the token that ends a sequence. Blanks held back from the prompt come first.

        Raises `TaskError` without a reference, and where the tokenizer cannot write it behind the prompt.
        """
        asked = self.ask(task)
        tokens = self._target(asked)
        return _row(asked.tokens, tokens, (0.0,) * len(tokens), 1.0)

    def _target(self, asked: Asked) -> tuple[int, ...]:
        """Tokens of the reference, with the one that ends it."""
        task = asked.task
        if task.reference is None:
            raise TaskError(f"Task {task.id} has no reference to learn from.")
        answer = asked.prompt.trimmed + _unix(task.reference)
        as_plain = continues(self.budget.template)
        following = _unix(task.suffix or "")[:_FOLLOWING_CHARS] if as_plain else ""
        break_at = (answer + following).find("\n", len(answer.rstrip("\n")))
        if break_at < 0 or not as_plain:
            return (*self._continuation(asked, answer), self.ends[0])
        return self._until(asked, self._continuation(asked, answer + following), break_at)

    def readable(self, task: Task) -> bool:
        """Whether the reference, written by a policy, is read as itself (blanks at its end apart).

        Where not, the language server would never show the right answer, and learning from the task would teach to avoid it:
        leave it out. The rules of a block end it where a thought ends, so functions of several paragraphs are not readable.
        Raises `TaskError` as `sft_datum` does.
        """
        tokens = self._target(asked := self.ask(task))
        read = self.read(asked, Sample(tokens, (0.0,) * len(tokens), StopReason.STOP, 0))
        return read.text.rstrip() == _unix(task.reference or "").rstrip()

    def fits(self, task: Task) -> bool:
        """Whether the reference, with what ends it, is within the token budget of a sample. Raises `TaskError` as `sft_datum`
        does."""
        return len(self._target(self.ask(task))) <= self.budget.max_tokens

    def _follow(self, asked: Asked, sample: Sample) -> tuple[Extracted, int]:
        """What is read, and how many tokens of the sample that took."""
        extractor = Extractor(
            asked.place,
            asked.prompt,
            asked.mode,
            max_chars=self.budget.max_chars,
            markers=leak_texts(self.budget.template),
            filters=self.budget.filters,
        )
        pieces = Detokenizer(self.decode, asked.tokens)
        for number, (token, logprob) in enumerate(zip(sample.tokens, sample.logprobs, strict=True), 1):
            read = end_mark(FinishReason.END) if token in self.ends else Token(pieces.push(token), token, logprob)
            if extractor.push(read):
                return extractor.result(), number
        cut_off = sample.stop_reason is StopReason.LENGTH
        extractor.push(end_mark(FinishReason.LENGTH if cut_off else FinishReason.STOP))
        return extractor.result(), len(sample.tokens)

    def _continuation(self, asked: Asked, text: str) -> tuple[int, ...]:
        """Tokens of what follows the prompt: those of the whole text; its own where the prompt ends inside one of them."""
        before = len(asked.tokens)
        whole = tuple(self.encode(asked.prompt.text + text))
        if whole[:before] == asked.tokens:
            return whole[before:]
        own = tuple(self.encode(text))
        if self.decode([*asked.tokens, *own]) != self.decode(list(whole)):
            raise TaskError(f"The tokenizer cannot write the answer of task {asked.task.id} behind its prompt.")
        return own

    def _until(self, asked: Asked, tokens: Sequence[int], at: int) -> tuple[int, ...]:
        """The first tokens, up to the one that holds character `at` of their text."""
        pieces = Detokenizer(self.decode, asked.tokens)
        written = 0
        for number, token in enumerate(tokens, 1):
            written += len(pieces.push(token))
            if written > at:
                return tuple(tokens[:number])
        raise TaskError(f"The tokens of the reference of task {asked.task.id} do not spell it.")


def mode_of(task: Task) -> Mode:
    """One line for a gap whose right answer is one line, else a block."""
    one_line = task.kind is TaskKind.INFILL and task.reference is not None and "\n" not in task.reference.rstrip()
    return Mode.SINGLE_LINE if one_line else Mode.BLOCK


def _row(prompt: Sequence[int], tokens: Sequence[int], logprobs: Sequence[float], advantage: float) -> Datum:
    whole = (*prompt, *tokens)
    before = len(prompt) - 1
    return Datum(
        input_tokens=whole[:-1],
        target_tokens=whole[1:],
        behaviour_logprobs=(*(0.0,) * before, *logprobs),
        advantages=(*(0.0,) * before, *(advantage,) * len(tokens)),
        mask=(*(0.0,) * before, *(1.0,) * len(tokens)),
    )


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
