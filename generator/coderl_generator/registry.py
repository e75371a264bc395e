"""Backends by name, imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from coderl_generator.backend import Backend
from coderl_generator.errors import UnknownBackend

KNOWN = MappingProxyType(
    {
        "llamacpp": "coderl_generator.llamacpp.LlamaCppBackend",
        "openai": "coderl_generator.openai_http.OpenAiBackend",
        "scripted": "coderl_generator.scripted.ScriptedBackend",
        "transformers": "coderl_generator.transformers_torch.TransformersBackend",
        "vllm": "coderl_generator.vllm_engine.VllmBackend",
    }
)
"""Short name → dotted path of the class."""


def backend(name_or_dotted: str, **options: Any) -> Backend:
    """Build a backend by short name or by the dotted path of a class; `options` go to its constructor.

    Raises `UnknownBackend` where the name is not known, or the class cannot be imported, is no backend, or does not take an
    option.
    """
    factory = factory_of(name_or_dotted)
    try:
        built = factory(**options)
    except TypeError as error:
        raise UnknownBackend(f"the backend `{name_or_dotted}` cannot be built with these options: {error}") from error
    if not isinstance(built, Backend):
        raise UnknownBackend(f"`{name_or_dotted}` is no backend: it lacks generator_id, stream or aclose")
    return built


def factory_of(name_or_dotted: str) -> Callable[..., Any]:
    """The class behind a short name or a dotted path, imported and not built. Raises `UnknownBackend`."""
    dotted = KNOWN.get(name_or_dotted, name_or_dotted)
    module_name, _, attribute = dotted.rpartition(".")
    if not module_name:
        raise UnknownBackend(
            f"there is no backend `{name_or_dotted}`; known are {', '.join(sorted(KNOWN))}, or the dotted path of a class"
        )
    try:
        factory: Callable[..., Any] = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownBackend(
            f"the backend `{name_or_dotted}` cannot be imported ({error}); known are {', '.join(sorted(KNOWN))}"
        ) from error
    return factory
