"""A backend written by somebody else, with bad manners."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

from coderl_generator.backend import FinishReason, GenerationRequest, Token, end_mark


class Loud:
    """Prints, by Python and by the file descriptor, wherever it can."""

    generator_id = "loud"

    def __init__(self, model: str) -> None:
        print("I print things")

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Token, None]:
        os.write(1, b"I print things\n")
        yield Token("values)", 1, -0.1)
        yield end_mark(FinishReason.END)

    async def aclose(self) -> None:
        pass
