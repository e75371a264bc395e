"""Whether a prompt template seems to fit the model, judged by what leaks. Pure.

A model that meets a template it was trained on answers with text and ends. One that meets another family's tokens reads them as
text and writes such tokens itself. The marks by which a model ends (`<|endoftext|>`, `<file_sep>` and the like, of the
template's own family) say nothing: some servers pass them on as text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from coderl_generator.fim_templates import FIM_TEMPLATES

RECENT = 20
"""Generations looked back on."""
MOST_LEAKS = 4
"""So many leaks among them, and the template does not seem to fit: by a single odd file two or three may come (our choice)."""


@dataclass(frozen=True, slots=True)
class TemplateFit:
    """The last generations of one generator under one template."""

    template: str
    generator_id: str
    leaks: tuple[str, ...] = ()
    """For each of the last generations the token that leaked; empty where none did."""

    def after(self, leaked: str) -> TemplateFit:
        """With one more generation, which the control token `leaked` ended (empty: none did)."""
        return replace(self, leaks=(*self.leaks, "" if leaked in self._own_ends else leaked)[-RECENT:])

    @property
    def doubt(self) -> str:
        """One sentence for the programmer; empty while the template seems to fit. It does not change as leaks go on."""
        if sum(bool(leak) for leak in self.leaks) < MOST_LEAKS:
            return ""
        return (
            f"The prompt template `{self.template}` does not seem to fit the model {self.generator_id}: it writes control "
            "tokens into its text. Name the right one by `coderl lsp --template`, or `plain`."
        )

    @property
    def _own_ends(self) -> frozenset[str]:
        template = FIM_TEMPLATES.get(self.template)
        if template is None:
            return frozenset(("<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<file_sep>"))
        stop = (template.files.stop.strip(),) if template.files else ()
        return frozenset((*template.control_texts, *stop)) - frozenset(template.fim_texts)
