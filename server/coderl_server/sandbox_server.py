"""The jail over HTTP, in the form of Sandbox Fusion (`POST /run_code`, `GET /v1/ping`), so that trainers can use it unchanged.

`status` is `Success` where the program ended with 0, `Failed` where it did not or ran out of time, `SandboxError` where
nothing is known of it. That is the API's own notion: a program that ends itself with 0 before its tests succeeds here.
Whoever needs a verdict asks `coderl_trainer.judge`. Languages: python and bash. Files go in; `fetch_files` is refused.
"""

from __future__ import annotations

import base64
import binascii
import math
import socket
import threading
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field

from coderl_generator.errors import JailFailed
from coderl_generator.jail import Jail, Job, Limits, Ran, Status

from .errors import InputError

_LONGEST_S: Final = 600.0
_KILLED: Final = 137
"""The return code of a program that wrote too much and was killed for it."""
_NAMES: Final = MappingProxyType({"python": "main.py", "bash": "main.sh"})


class RunCodeRequest(BaseModel):
    """The body of `POST /run_code`; times in seconds."""

    code: str
    language: str = "python"
    compile_timeout: float = 10.0
    run_timeout: float = Field(default=10.0, gt=0, le=_LONGEST_S)
    memory_limit_MB: int = -1
    stdin: str | None = None
    files: dict[str, str | None] = Field(default_factory=dict)
    """Base64 by name."""
    fetch_files: list[str] = Field(default_factory=list)


def sandbox_server(jail: Jail, *, parallel: int, processes: int = 0) -> FastAPI:
    """The application; at most `parallel` programs at a time, others wait."""
    application = FastAPI(title="CodeRL sandbox", docs_url=None, redoc_url=None)
    turn = threading.BoundedSemaphore(parallel)

    @application.get("/v1/ping")
    def ping() -> str:
        return "pong"

    @application.post("/run_code")
    def run_code(request: RunCodeRequest) -> dict[str, Any]:
        if request.language not in _NAMES:
            return _refused(f"the language {request.language!r} is not served: only {', '.join(_NAMES)}")
        if request.fetch_files:
            return _refused("files cannot be fetched: print what you want to see")
        name = _NAMES[request.language]
        try:
            files = {path: base64.b64decode(text or "", validate=True) for path, text in request.files.items()}
        except binascii.Error as error:
            return _refused(f"files have to be base64: {error}")
        files[name] = request.code.encode("utf-8", "surrogatepass")
        argv = () if request.language == "python" else ("/bin/bash", name)
        memory = request.memory_limit_MB
        limits = Limits(
            wall_s=request.run_timeout,
            cpu_s=math.ceil(request.run_timeout),
            memory_bytes=memory << 20 if memory > 0 else Limits().memory_bytes,
            processes=processes,
        )
        job = Job(argv=argv, files=files, stdin=(request.stdin or "").encode("utf-8", "surrogatepass"))
        with turn:
            try:
                return _answer(jail.run(job, limits))
            except JailFailed as error:
                return _refused(str(error))

    return application


def _answer(ran: Ran) -> dict[str, Any]:
    late = ran.status in (Status.TIMED_OUT, Status.CPU_EXCEEDED)
    result = {
        "status": "TimeLimitExceeded" if late else "Finished",
        "execution_time": round(ran.wall_ms / 1000, 4),
        "return_code": _KILLED if ran.status is Status.OUTPUT_EXCEEDED else None if late else ran.returncode,
        "stdout": ran.stdout.decode("utf-8", "replace"),
        "stderr": ran.stderr.decode("utf-8", "replace"),
    }
    fine = ran.status is Status.FINISHED and ran.returncode == 0
    return _envelope("Success" if fine else "Failed", "" if fine else str(ran.status), result)


def _refused(message: str) -> dict[str, Any]:
    return _envelope("SandboxError", message, None)


def _envelope(status: str, message: str, result: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        "compile_result": None,
        "run_result": result,
        "executor_pod_name": None,
        "files": {},
    }


def listen(application: FastAPI, host: str, port: int, told: Callable[[str], None]) -> None:
    """Serve until interrupted; `told` hears the address once connections are accepted. Raises `InputError`."""
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"--host {host} --port {port} cannot be listened on: {error}.") from error
    told(f"{host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(application, log_level="warning", lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])
