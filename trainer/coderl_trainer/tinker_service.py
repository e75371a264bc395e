"""Waiting for the Tinker service: every wait ends, and what goes wrong is said in the words of this package.

The SDK tries again by itself where that can help (connections, time-outs, status 408, 409, 429, 5xx) and holds a job for up to
an hour where the account's billing stops it; this module only bounds the whole and names what was waited for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from .errors import EngineFailed, EngineRefused

Answer = TypeVar("Answer")

_AGAIN = (408, 409, 429)
"""Status codes below 500 that another try may mend."""


def sdk() -> Any:
    """The package `tinker`. Raises `EngineRefused` where it is missing."""
    try:
        import tinker
    except ImportError as error:
        raise EngineRefused(f"The engine `tinker` needs the SDK of the service ({error}); install coderl[tinker].") from error
    return tinker


def address() -> str | None:
    """Where the SDK is told to look for the service; None = where it does by itself."""
    return os.environ.get("TINKER_BASE_URL") or None


def _place() -> str:
    return address() or "its usual address"


class Patience:
    """Waits, each for at most `wait_s` seconds."""

    def __init__(self, tinker: Any, wait_s: float) -> None:
        self._tinker = tinker
        self._wait_s = wait_s

    def wait(self, future: Any, what: str) -> Any:
        """The answer of a future of the SDK. Raises `EngineFailed` and `EngineRefused`."""
        try:
            return future.result(timeout=self._wait_s)
        except TimeoutError as error:
            raise EngineFailed(
                f"The Tinker service at {_place()} has not answered after {self._wait_s:g} s of waiting for {what}."
            ) from error
        except (self._tinker.TinkerError, ValueError, RuntimeError, OSError) as error:
            raise self._ours(error, what) from error

    def within(self, call: Callable[[], Answer], what: str) -> Answer:
        """What `call` returns, which waits by itself in ways of its own; it is left behind when the time is up."""
        answer: Future[Answer] = Future()

        def run() -> None:
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=run, name=f"tinker: {what}", daemon=True).start()
        told: Answer = self.wait(answer, what)
        return told

    def _ours(self, error: Exception, what: str) -> EngineFailed | EngineRefused:
        """Refused is what the service would refuse again; everything else may go well another time."""
        tinker = self._tinker
        if isinstance(error, EngineFailed | EngineRefused):
            return error
        if isinstance(error, tinker.AuthenticationError | tinker.PermissionDeniedError):
            return EngineRefused(f"The Tinker service does not take the key in TINKER_API_KEY ({what}): {error}")
        if isinstance(error, tinker.APIStatusError) and 400 <= error.status_code < 500 and error.status_code not in _AGAIN:
            return EngineRefused(f"The Tinker service refused {what}: {error}")
        if isinstance(error, tinker.RequestFailedError) and error.category == "user":
            return EngineRefused(f"The Tinker service refused {what}: {error}")
        if type(error) is tinker.TinkerError:  # the SDK itself: no key, or none that could be one
            return EngineRefused(f"The Tinker service cannot be asked for {what}. {error}")
        return EngineFailed(f"The Tinker service at {_place()} failed at {what}: {error}")
