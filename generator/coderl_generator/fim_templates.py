"""How each model family wants fill-in-the-middle written, as data.

A family's special tokens mark the text before the place, the text after it and the place itself. Text of the user that spells
such a token is not sent (`neutralise`), and a token that leaks into the output ends the suggestion
(`coderl_generator.extract`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from coderl_generator.errors import GeneratorError


@dataclass(frozen=True, slots=True)
class FimTemplate:
    """One family: the prompt is `before + prefix + between + suffix + after`, or with prefix and suffix swapped."""

    before: str
    between: str
    after: str
    suffix_first: bool = False
    """The family was trained with the text after the place first."""
    specials: tuple[str, ...] = ()
    """Further control tokens that must not appear in the text nor in the output."""

    @property
    def control_texts(self) -> tuple[str, ...]:
        """Everything the family's tokenizer reads as control, stripped of blanks."""
        parts = tuple(part.strip() for part in (self.before, self.between, self.after))
        return tuple(dict.fromkeys(text for text in (*parts, *self.specials) if text))

    def fill(self, prefix: str, suffix: str) -> str:
        """The rendered prompt; control tokens spelled in the user's text are left out of it."""
        prefix, suffix = self.neutralise(prefix), self.neutralise(suffix)
        first, second = (suffix, prefix) if self.suffix_first else (prefix, suffix)
        return f"{self.before}{first}{self.between}{second}{self.after}"

    def neutralise(self, text: str) -> str:
        """`text` without the family's control tokens, until none is left (removing one may put another together)."""
        while True:
            cleaned = text
            for control in self.control_texts:
                cleaned = cleaned.replace(control, "")
            if cleaned == text:
                return text
            text = cleaned


FIM_TEMPLATES: Mapping[str, FimTemplate] = MappingProxyType(
    {
        # QwenLM/Qwen2.5-Coder, README "Fill in the middle": prefix, suffix, middle; file and repository separators.
        "qwen2.5-coder": FimTemplate(
            "<|fim_prefix|>",
            "<|fim_suffix|>",
            "<|fim_middle|>",
            specials=("<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|im_start|>", "<|im_end|>"),
        ),
        # bigcode/starcoder2 (Lozhkov et al. 2024, "StarCoder 2 and The Stack v2", section 5.3): the same order without bars.
        "starcoder2": FimTemplate(
            "<fim_prefix>",
            "<fim_suffix>",
            "<fim_middle>",
            specials=("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>", "<issue_start>"),
        ),
        # meta-llama/codellama `infilling_prompt_tokens` (Rozière et al. 2023, section 2.3), order prefix-suffix-middle.
        "codellama": FimTemplate("<PRE> ", " <SUF>", " <MID>", specials=("<EOT>", "</s>")),
        # deepseek-ai/DeepSeek-Coder, README "Code insertion"; the bars are the full-width ones of its tokenizer.
        "deepseek-coder": FimTemplate(
            "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", specials=("<｜end▁of▁sentence｜>", "<|EOT|>")
        ),
        # google/codegemma model card, "Fill-in-the-middle".
        "codegemma": FimTemplate(
            "<|fim_prefix|>",
            "<|fim_suffix|>",
            "<|fim_middle|>",
            specials=("<|file_separator|>", "<eos>", "<end_of_turn>", "<start_of_turn>"),
        ),
    }
)
"""Family name → template."""

CONTROL_TEXTS: tuple[str, ...] = tuple(
    dict.fromkeys(
        control
        for template in FIM_TEMPLATES.values()
        for control in template.control_texts
        # "</s>" and "<eos>" are ordinary text in HTML and XML; a server that stops at its end of sequence never sends them.
        if control not in ("</s>", "<eos>")
    )
)
"""Control tokens of all families: in generated text they are leaks."""


def fim_template(name: str) -> FimTemplate:
    """The template of a family. Raises `GeneratorError` naming the known ones."""
    try:
        return FIM_TEMPLATES[name]
    except KeyError:
        known = ", ".join(("plain", "suffix", *sorted(FIM_TEMPLATES)))
        raise GeneratorError(f"there is no prompt template `{name}`; known are {known}") from None
