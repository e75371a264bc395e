"""Text to token ids and back, for engines with a tokenizer of transformers, and where a sample's text says that it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .types import SamplingParameters


class Spelling:
    """A base of engines: whoever inherits sets `tokenizer`."""

    tokenizer: Any

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, control tokens spelled out."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def close(self) -> None:
        """See `Engine.close`: nobody holds anything for an engine in this process."""

    def ended(self, tokens: Sequence[int], parameters: SamplingParameters) -> bool:
        """Whether the text of a sample's tokens so far ends it: a stop text, or a whole line where one is asked for."""
        return parameters.ends_by_text and parameters.complete(self.decode(tokens))
