"""What is answered where nothing can be generated. The sentences are written here: a backend's own may quote a prompt."""

from __future__ import annotations

import asyncio

from coderl_generator.errors import (
    BackendRefused,
    BackendUnavailable,
    GenerationTimedOut,
    ModelDamaged,
    ModelMissing,
    PromptTooLong,
)

from .generation import Generation
from .parts import TeamParts
from .problems import RETRY_S, Problem, unavailable
from .turns import Busy, TooManyAtOnce

LEAVING = Problem(
    503, "leaving", "The server is about to leave: ask again in some seconds.", headers={"Retry-After": str(RETRY_S)}
)


def serving(parts: TeamParts) -> Generation:
    """The model of this worker. Raises `Problem` 503 where there is none, or the server is about to leave."""
    if parts.drain.begun:
        raise LEAVING
    if parts.generation is None:
        raise Problem(
            503, "no_generator", "No model is served here: start `coderl serve` with --backend, such as --backend llamacpp."
        )
    return parts.generation


async def grace(parts: TeamParts) -> None:
    """Return when what is in progress has to end because the server leaves: with some of the drain's time left."""
    await parts.drain.wait()
    await asyncio.sleep(0.75 * parts.settings.limits.drain_s)


def problem_of(error: Exception) -> Problem:
    """The answer for an error of a backend, or of the line before it."""
    if isinstance(error, Busy):
        headers = {"Retry-After": str(error.wait_s)}
        if isinstance(error, TooManyAtOnce):
            return Problem(429, "too_many_at_once", "This caller has too many generations at once.", headers=headers)
        return Problem(503, "busy", "Too many wait for the model: ask again as Retry-After says.", headers=headers)
    if isinstance(error, PromptTooLong):
        return Problem(400, "prompt_too_long", "The prompt exceeds the context length of the model: send a shorter one.")
    if isinstance(error, (GenerationTimedOut, TimeoutError)):
        return Problem(504, "generator_timeout", "The model gave no token in time.")
    if isinstance(error, (ModelMissing, ModelDamaged)):
        return Problem(503, "no_generator", "The model cannot be loaded: the server's log says why.")
    if isinstance(error, BackendUnavailable):
        return unavailable("The model cannot be reached now.")
    if isinstance(error, BackendRefused):
        return Problem(502, "generator_refused", "The model's server refuses the request.")
    return Problem(502, "generator_failed", "The model failed.")
