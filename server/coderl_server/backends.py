"""Which generator a command line names, and the backend made of it: for the language server and for the team server."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coderl_generator.backend import Backend
from coderl_generator.errors import BackendUnavailable, GeneratorError, ModelDamaged, ModelMissing
from coderl_generator.promotion import ACTIVE, Kind, find_active
from coderl_store.clock import Clock

from .errors import InputError
from .following import TAKE_ADAPTERS

SERVERS = ("openai", "scripted")
"""Backends that hold no model in this process: many streams cost them no more than one."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GeneratorOptions:
    """What a command line says of the generator."""

    backend: str = "llamacpp"
    model: str = ACTIVE
    endpoint: str = ""
    api_key_env: str = ""
    script: Path | None = None
    threads: int | None = None
    repeatable: bool = False
    """The same requests give the same log-probs, for some milliseconds more."""

    @property
    def model_name(self) -> str:
        """The model for this backend: only `llamacpp` knows what is active."""
        return "embedded" if self.backend != "llamacpp" and self.model == ACTIVE else self.model

    @property
    def followed(self) -> Kind | None:
        """Which promoted generators take over while the server runs: only where nobody named one."""
        if self.backend == "llamacpp":
            return Kind.MODEL if self.model == ACTIVE else None
        return Kind.ADAPTER if self.backend in TAKE_ADAPTERS else None


def built(options: GeneratorOptions, home: Path, clock: Clock) -> tuple[Backend | None, str]:
    """The backend, not loaded yet; or None and the sentence that says what to do: a model that is not there yet does not keep
    an editor's server from starting. Raises InputError where an option names what can never work."""
    from coderl_generator.registry import backend

    if options.backend == "openai" and not options.endpoint:
        raise InputError("--backend openai needs --endpoint, the server's base URL up to and including /v1.")
    try:
        if options.backend == "llamacpp":
            path = find_active(home, options.model)
            return backend("llamacpp", model_path=path, threads=options.threads, repeatable=options.repeatable), ""
        if options.backend == "openai":
            named: dict[str, Any] = {"base_url": options.endpoint, "model": options.model_name}
            return backend("openai", **named, api_key_env=options.api_key_env or None), ""
        if options.backend == "scripted":
            return backend("scripted", clock=clock, script=options.script), ""
        return backend(options.backend, model=options.model_name), ""
    except (ModelMissing, ModelDamaged, BackendUnavailable) as error:
        logger.warning("%s", error)
        return None, str(error)
    except GeneratorError as error:
        raise InputError(f"{error}.") from error
