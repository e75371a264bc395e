"""How each model family wants fill-in-the-middle written, as data.

A family's special tokens mark the text before the place, the text after it and the place itself; some families also mark where
another file begins. Text of the user that spells such a token is not sent (`neutralise`), and a token that leaks into the
output ends the suggestion (`coderl_generator.extract`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from coderl_generator.errors import GeneratorError

REPOSITORY = "project"
"""Stands where a family wants the repository's name, which the server does not know (llama.cpp's `/infill` writes a constant
too, `tools/server/server-common.cpp`)."""


@dataclass(frozen=True, slots=True)
class FileForm:
    """How a family writes other files before the place's own. `{path}` stands for a path."""

    file: str
    """Before the text of each file."""
    end: str
    """After the text of each file."""
    repository: str = ""
    """Once, before the first file."""
    own: str = ""
    """Before the place's own file, outside of the fill-in-the-middle tokens."""
    own_inside: str = ""
    """The same, at the head of the text before the place."""
    inside: bool = False
    """The files stand at the head of the text before the place, not before the first token."""
    tokens: tuple[str, ...] = ()
    """Those parts of it that are control tokens."""
    stop: str = ""
    """Text at which a model that goes on with another file is stopped, where no token says so."""

    def write(self, files: Sequence[tuple[str, str]], path: str) -> tuple[str, str]:
        """(Text before the family's first token, text at the head of the prefix) for files of (path, text)."""
        written = self.repository + "".join(self.file.replace("{path}", name) + text + self.end for name, text in files)
        own, own_inside = self.own.replace("{path}", path), self.own_inside.replace("{path}", path)
        return ("", written + own_inside) if self.inside else (written + own, own_inside)


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
    continues: bool = False
    """The text before the place stands last and is held back as `plain` holds it back, since the model was trained on gaps cut
    out of lines so and not at random characters (`coderl_generator.prompt`)."""
    files: FileForm | None = None
    """None: the family has no form for other files; they are written as comments (`coderl_generator.snippets`)."""

    @property
    def fim_texts(self) -> tuple[str, ...]:
        """The tokens that make it fill-in-the-middle."""
        parts = (self.before.strip(), self.between.strip(), self.after.strip())
        return tuple(dict.fromkeys(text for text in parts if text))

    @property
    def needed(self) -> tuple[str, ...]:
        """The control tokens that a model's vocabulary must hold for this template."""
        return tuple(dict.fromkeys((*self.fim_texts, *(self.files.tokens if self.files else ()))))

    @property
    def control_texts(self) -> tuple[str, ...]:
        """Everything the family's tokenizer reads as control, stripped of blanks."""
        return tuple(dict.fromkeys((*self.needed, *self.specials)))

    def fill(self, prefix: str, suffix: str, outside: str = "") -> str:
        """The rendered prompt; control tokens spelled in the user's text are left out of it. `outside`: what stands before
        the first token, from `FileForm.write`, sent as it is."""
        return self.assemble(self.neutralise(prefix), self.neutralise(suffix), outside)

    def assemble(self, prefix: str, suffix: str, outside: str = "") -> str:
        """The same for texts that are neutral already."""
        first, second = (suffix, prefix) if self.suffix_first else (prefix, suffix)
        return f"{outside}{self.before}{first}{self.between}{second}{self.after}"

    def neutralise(self, text: str) -> str:
        """`text` without the family's control tokens, until none is left."""
        return without(text, self.control_texts)


def without(text: str, controls: Sequence[str]) -> str:
    """`text` without any of `controls`, until none is left (removing one may put another together)."""
    while True:
        cleaned = text
        for control in controls:
            cleaned = cleaned.replace(control, "")
        if cleaned == text:
            return text
        text = cleaned


FIM_TEMPLATES: Mapping[str, FimTemplate] = MappingProxyType(
    {
        # QwenLM/Qwen2.5-Coder, README "Fill in the middle": prefix, suffix, middle. Files: the technical report (Hui et al.
        # 2024, arXiv 2409.12186), "repo-level FIM", as llama.cpp's `/infill` writes them.
        "qwen2.5-coder": FimTemplate(
            "<|fim_prefix|>",
            "<|fim_suffix|>",
            "<|fim_middle|>",
            specials=("<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|im_start|>", "<|im_end|>"),
            files=FileForm(
                repository=f"<|repo_name|>{REPOSITORY}\n",
                file="<|file_sep|>{path}\n",
                end="\n",
                own="<|file_sep|>{path}\n",
                tokens=("<|repo_name|>", "<|file_sep|>"),
            ),
        ),
        # bigcode/starcoder2 (Lozhkov et al. 2024, arXiv 2402.19173, section 5.1): the same order without bars. The path of the
        # own file stands behind the prefix token, and no line break but the one behind a path is added.
        "starcoder2": FimTemplate(
            "<fim_prefix>",
            "<fim_suffix>",
            "<fim_middle>",
            specials=("<|endoftext|>", "<fim_pad>", "<file_sep>", "<repo_name>", "<issue_start>"),
            files=FileForm(
                repository=f"<repo_name>{REPOSITORY}",
                file="<file_sep>{path}\n",
                end="",
                own="<file_sep>",
                own_inside="{path}\n",
                tokens=("<repo_name>", "<file_sep>"),
            ),
        ),
        # meta-llama/codellama `infilling_prompt_tokens` (Rozière et al. 2023, section 2.3), order prefix-suffix-middle.
        "codellama": FimTemplate("<PRE> ", " <SUF>", " <MID>", specials=("<EOT>", "</s>")),
        # deepseek-ai/DeepSeek-Coder, README "Code insertion"; the bars are the full-width ones of its tokenizer. Files: README
        # "Repository level code completion", a `#` and the path before each, whatever the language.
        "deepseek-coder": FimTemplate(
            "<｜fim▁begin｜>",
            "<｜fim▁hole｜>",
            "<｜fim▁end｜>",
            specials=("<｜end▁of▁sentence｜>", "<|EOT|>"),
            files=FileForm(file="#{path}\n", end="\n", own_inside="#{path}\n", inside=True),
        ),
        # google/codegemma model card, "Fill-in-the-middle"; "use the file separator token for multi-file contexts" (Gemma's
        # documentation, "CodeGemma formatting"), which does not say where a path stands: here on the first line.
        "codegemma": FimTemplate(
            "<|fim_prefix|>",
            "<|fim_suffix|>",
            "<|fim_middle|>",
            specials=("<|file_separator|>", "<eos>", "<end_of_turn>", "<start_of_turn>"),
            files=FileForm(file="{path}\n", end="\n<|file_separator|>", tokens=("<|file_separator|>",)),
        ),
        # mistralai/mistral-common, `encode_fim`: the suffix first, no token behind the prefix. Files: a line of five plus signs
        # and the path, as continuedev/continue writes them (`AutocompleteTemplate.ts`, codestral, several files).
        "codestral": FimTemplate(
            "[SUFFIX]",
            "[PREFIX]",
            "",
            suffix_first=True,
            specials=("[MIDDLE]",),
            files=FileForm(file="+++++ {path}\n", end="\n\n", own_inside="+++++ {path}\n", inside=True, stop="\n+++++ "),
        ),
        # ibm-granite 3.3 and 4: StarCoder's scheme with bars (special tokens of its tokenizer). How it wants several files is
        # not documented; the form is StarCoder's (bigcode/starcoder playground, "Model formats", without the stars).
        "granite": FimTemplate(
            "<|fim_prefix|>",
            "<|fim_suffix|>",
            "<|fim_middle|>",
            specials=("<|end_of_text|>", "<|fim_pad|>", "<|reponame|>", "<|filename|>", "<|start_of_role|>", "<|end_of_role|>"),
            files=FileForm(
                repository=f"<|reponame|>{REPOSITORY}\n",
                file="<|filename|>{path}\n",
                end="\n",
                own="<|filename|>{path}\n",
                tokens=("<|reponame|>", "<|filename|>"),
            ),
        ),
        # ibm-granite/granite-*-code (Mishra et al. 2024): the tokenizer of the first StarCoder, and its form of files.
        "granite-code": FimTemplate(
            "<fim_prefix>",
            "<fim_suffix>",
            "<fim_middle>",
            specials=("<|endoftext|>", "<fim_pad>", "<reponame>", "<filename>", "<gh_stars>"),
            files=FileForm(
                repository=f"<reponame>{REPOSITORY}",
                file="<filename>{path}\n",
                end="\n",
                own="<filename>{path}\n",
                tokens=("<reponame>", "<filename>"),
            ),
        ),
        # This project's own, for models that `coderl train` teaches to read the text after the place (docs/training.md): the
        # suffix first, then the prefix (Bavarian et al. 2022, section 3, "SPM"), between two tokens that SmolLM2 has anyway.
        "smollm2-spm": FimTemplate(
            "<jupyter_text>",
            "<jupyter_code>",
            "",
            suffix_first=True,
            specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
            continues=True,
        ),
    }
)
"""Family name → template."""

PREFIX_ONLY: tuple[str, ...] = ("plain", "suffix")
"""Templates without control tokens: the prefix alone, and the prefix with the suffix as a field of its own."""

TEMPLATES: tuple[str, ...] = (*PREFIX_ONLY, *sorted(FIM_TEMPLATES))

_ORDINARY = ("</s>", "<eos>")
"""Ordinary text in HTML and XML; a server that stops at its end of sequence never sends them."""

CONTROL_TEXTS: tuple[str, ...] = tuple(
    dict.fromkeys(
        control
        for template in FIM_TEMPLATES.values()
        for control in template.control_texts
        # "<filename>" and its like stand in usage messages.
        if control not in (*_ORDINARY, "<filename>", "<reponame>", "[PREFIX]", "[SUFFIX]", "[MIDDLE]")
    )
)
"""Control tokens of all families that are never ordinary text: in generated text they are leaks, whatever the template."""


def fim_template(name: str) -> FimTemplate:
    """The template of a family. Raises `GeneratorError` naming the known ones."""
    try:
        return FIM_TEMPLATES[name]
    except KeyError:
        raise GeneratorError(f"there is no prompt template `{name}`; known are {', '.join(TEMPLATES)}") from None


def continues(name: str) -> bool:
    """Whether a prompt of this template ends as `plain` ends it: a model goes on with the text before the place."""
    return name == "plain" or (name in FIM_TEMPLATES and FIM_TEMPLATES[name].continues)


def leak_texts(name: str) -> tuple[str, ...]:
    """Texts that end a suggestion made under a template: the common control tokens, and the template's own."""
    if name not in FIM_TEMPLATES:
        return CONTROL_TEXTS
    template = FIM_TEMPLATES[name]
    stop = (template.files.stop,) if template.files and template.files.stop else ()
    own = tuple(text for text in (*template.control_texts, *stop) if text not in _ORDINARY)
    return tuple(dict.fromkeys((*CONTROL_TEXTS, *own)))
