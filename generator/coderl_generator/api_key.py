"""The key that a model server asks for: named by an environment variable, read from it, written nowhere."""

from __future__ import annotations

import os

from coderl_generator.errors import BackendRefused


def authorization(variable: str | None) -> dict[str, str]:
    """The headers with the key in an environment variable; none for None. Raises `BackendRefused` where it is not set."""
    if variable is None:
        return {}
    key = os.environ.get(variable)
    if not key:
        raise BackendRefused(f"the environment variable {variable} should hold the API key, but is not set")
    return {"Authorization": f"Bearer {key}"}
