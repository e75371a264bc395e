"""Programs on a server that speaks Sandbox Fusion's API: `POST /run_code` (python and bash), `GET /v1/ping`.

Covered: the program does not run on this machine. Not covered: everything else is the server's affair, and it does not say
how it holds programs back (its own default is not at all), so no guarantee is named. There is no conversation: the judge
needs one.
"""

from __future__ import annotations

import base64
import shlex
from types import CodeType
from typing import Any

import httpx

from .errors import JailFailed, JailUnavailable
from .jail_types import Conversation, Guarantee, Jail, Job, Limits, Ran, Status

_PATIENCE_S = 30.0
"""Beyond the run itself: for the queue of a busy server."""


class RunCodeJail(Jail):
    """A client. Raises `JailUnavailable` where nothing answers at `endpoint`, the server's base URL."""

    name = "run_code"

    def __init__(self, endpoint: str) -> None:
        self._client = httpx.Client(base_url=endpoint.rstrip("/"))
        try:
            self._client.get("/v1/ping", timeout=_PATIENCE_S).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._client.close()
            raise JailUnavailable(f"No server that runs code answers at {endpoint}: {error}.") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def guarantees(self, limits: Limits) -> frozenset[Guarantee]:
        """None: the API does not say."""
        return frozenset()

    def run(self, job: Job, limits: Limits) -> Ran:
        """See `Jail`. Commands other than Python go through bash; `execution_time` of the server is the wall time."""
        files = dict(job.files)
        code = f"exec {shlex.join(job.argv)}" if job.argv else files.pop("main.py", b"").decode("utf-8", "surrogatepass")
        body = {
            "code": code,
            "language": "bash" if job.argv else "python",
            "run_timeout": limits.wall_s,
            "memory_limit_MB": limits.memory_bytes >> 20,
            "stdin": job.stdin.decode("utf-8", "surrogateescape"),
            "files": {name: base64.b64encode(data).decode() for name, data in files.items()},
        }
        try:
            answer = self._client.post("/run_code", json=body, timeout=limits.wall_s + _PATIENCE_S)
            answer.raise_for_status()
            said = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise JailFailed(f"the server that runs code failed: {error}") from error
        return self._ran(said, limits)

    def converse(self, code: CodeType, limits: Limits) -> Conversation:
        """Not over this API. Raises `JailFailed`."""
        raise JailFailed("a server that runs code takes whole programs, it cannot be talked with: judge with the jail bwrap")

    def _ran(self, said: Any, limits: Limits) -> Ran:
        result = said.get("run_result") if isinstance(said, dict) else None
        if not isinstance(result, dict) or said.get("status") == "SandboxError":
            reason = said.get("message") if isinstance(said, dict) else said
            raise JailFailed(f"the server that runs code could not run the program: {str(reason)[:300]}")
        if result.get("status") not in ("Finished", "TimeLimitExceeded"):
            raise JailFailed(f"the server that runs code failed: {str(result.get('stderr') or result.get('status'))[:300]}")
        code = result.get("return_code")
        status = Status.FINISHED if result["status"] == "Finished" else Status.TIMED_OUT
        if status is Status.FINISHED and isinstance(code, int) and code > 128:
            status = Status.KILLED
        return Ran(
            status=status,
            returncode=code if isinstance(code, int) else None,
            stdout=str(result.get("stdout") or "").encode("utf-8", "replace")[: limits.output_bytes],
            stderr=str(result.get("stderr") or "").encode("utf-8", "replace")[: limits.output_bytes],
            wall_ms=float(result.get("execution_time") or 0.0) * 1000,
            cpu_ms=None,
            guarantees=frozenset(),
        )
