"""Which template fits a model, by what the model says of itself. Pure.

What `coderl train` taught a model and `coderl export` wrote into its file decides, then a name that is known, else the
fill-in-the-middle tokens that a GGUF file declares, else its architecture. Whatever is chosen, the vocabulary has the last word
where it is known: a template whose control tokens it does not hold is never chosen. A model that merely has such tokens in its
vocabulary gets none: Qwen2.5 carries those of its coder and was not trained on them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coderl_generator.fim_templates import FIM_TEMPLATES, FimTemplate, fim_template

PLAIN = "plain"

_WORD_MARK = "▁"
"""SentencePiece writes a blank so; CodeLlama's tokens begin with one (`▁<PRE>`)."""

_NAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        # CodeLlama's Python variants and its 34B and 70B models were not trained to infill (Meta's page on prompt formats).
        (r"code-?llama.*(?:python|34b|70b)", PLAIN),
        (r"code-?llama", "codellama"),
        (r"codestral-mamba|mamba-codestral", PLAIN),
        (r"codestral", "codestral"),
        (r"qwen-?(?:2[.-]?5|3).*coder", "qwen2.5-coder"),
        (r"starcoder-?2", "starcoder2"),
        (r"deepseek-coder", "deepseek-coder"),
        (r"codegemma", "codegemma"),
        (r"granite.*code", "granite-code"),
        (r"granite-?(?:3[.-]?3|4)", "granite"),
        (r"smollm", PLAIN),
    )
)
"""The first that is found in a name decides. Names are lower case with `-` for blanks and the like."""
_ARCHITECTURES = (("starcoder2", "starcoder2"),)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a model says of itself."""

    names: tuple[str, ...]
    """The surest first."""
    architecture: str = ""
    vocabulary: frozenset[str] | None = None
    """None = not known, as with a model behind a server."""
    fim_tokens: tuple[str, ...] = ()
    """Prefix, suffix and middle token as the file declares them; empty where it does not."""
    template: str = ""
    """The one that it was trained with here, as `coderl export` writes it; empty = the file does not say."""


def family_of(model: ModelMetadata) -> str:
    """The template for a model; `plain` where none is known to fit."""
    for family in _candidates(model):
        if family == PLAIN or not lacking(family, model.vocabulary):
            return family
    return PLAIN


def lacking(template: str, vocabulary: frozenset[str] | None) -> tuple[str, ...]:
    """The control tokens of a template that a vocabulary does not hold; none for a vocabulary that is not known.

    Raises `GeneratorError` for an unknown family.
    """
    if vocabulary is None:
        return ()
    return tuple(text for text in fim_template(template).needed if not {text, _WORD_MARK + text} & vocabulary)


def _candidates(model: ModelMetadata) -> list[str]:
    if model.template in FIM_TEMPLATES:
        return [model.template]
    for name in model.names:
        normal = re.sub(r"[\s_/:]+", "-", name.lower())
        for pattern, family in _NAMES:
            if pattern.search(normal):
                return [family]
    declared = tuple(text.removeprefix(_WORD_MARK) for text in model.fim_tokens)
    by_tokens = [name for name, template in FIM_TEMPLATES.items() if declared and _in_order(template) == declared]
    return by_tokens or [family for architecture, family in _ARCHITECTURES if architecture == model.architecture]


def _in_order(template: FimTemplate) -> tuple[str, ...]:
    return (template.before.strip(), template.between.strip(), template.after.strip())
