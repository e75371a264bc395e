"""stub, to be replaced by the helper's"""

from dataclasses import dataclass
from coderl_generator.prompt import Place, Prompt, render
from coderl_generator.extract import Extractor, Extracted, Mode
from coderl_generator.backend import Token, FinishReason, end_mark
from .types import *


@dataclass(frozen=True)
class Asked:
    task: Task
    place: Place
    prompt: Prompt
    tokens: tuple
    one_line: bool


class Environment:
    def __init__(self, encode, decode, *, template="plain", max_prefix_chars=1500):
        self.encode, self.decode, self.template, self.m = encode, decode, template, max_prefix_chars

    def ask(self, task):
        place = Place(task.prompt, task.suffix or "", task.language)
        p = render(place, self.template, max_prefix_chars=self.m, anchor_chars=self.m // 3)
        one = task.kind is TaskKind.INFILL and "\n" not in (task.reference or "").strip("\n")
        return Asked(task, place, p, tuple(self.encode(p.text)), one)

    def _follow(self, asked, sample):
        x = Extractor(asked.place, asked.prompt, Mode.SINGLE_LINE if asked.one_line else Mode.BLOCK)
        seen = ""
        n = len(sample.tokens)
        for k in range(n):
            cur = self.decode(sample.tokens[: k + 1])
            if x.push(Token(cur[len(seen) :], sample.tokens[k], sample.logprobs[k])):
                return x, k + 1
            seen = cur
        x.push(end_mark(FinishReason.LENGTH if sample.stop_reason is StopReason.LENGTH else FinishReason.END))
        return x, n

    def read(self, asked, sample):
        return self._follow(asked, sample)[0].result()

    def datum(self, asked, sample, advantage):
        k = self._follow(asked, sample)[1]
        s = sample.tokens[:k]
        p = asked.tokens
        n = len(p) - 1
        seq = p + s
        return Datum(
            seq[:-1], seq[1:], (0.0,) * n + sample.logprobs[:k], (0.0,) * n + (advantage,) * k, (0.0,) * n + (1.0,) * k
        )
