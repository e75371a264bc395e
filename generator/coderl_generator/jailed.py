"""What `coderl_generator.judge` runs in a child process: one program, then its tests. A script; only the standard library.

Standard input carries the length of a JSON object (8 hexadecimal digits), the object, and a nonce, which is read after the
tests have passed and not before. Standard output gets `started` once the tests have been compiled, and then the nonce, if it
comes to that. Program and tests are compiled apart, so that an open string or bracket in the program cannot swallow the tests,
and see neither of the two descriptors under their usual numbers.
"""

from __future__ import annotations

import json
import os
import resource
from typing import Any

NONCE_BYTES = 32
STARTED = b"started\n"
_OPEN_FILES = 64


def _read(descriptor: int, size: int) -> bytes:
    """Exactly `size` bytes; unbuffered, so that what follows stays in the pipe."""
    out = b""
    while len(out) < size:
        part = os.read(descriptor, size - len(out))
        if not part:
            raise EOFError("standard input ended early")
        out += part
    return out


def _limit(job: dict[str, Any]) -> None:
    for kind, most in (
        (resource.RLIMIT_CPU, job["cpu_s"]),
        (resource.RLIMIT_AS, job["memory_bytes"]),
        (resource.RLIMIT_FSIZE, job["file_bytes"]),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = most + 1 if kind == resource.RLIMIT_CPU else most  # one second to die of SIGXCPU
        resource.setrlimit(kind, (most, hard))


def main() -> None:
    """Run the job; leaves in whatever way the program makes it leave."""
    inbox, report = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    job = json.loads(_read(inbox, int(_read(inbox, 8), 16)))
    tests = compile(job["tests"], "tests", "exec")
    _limit(job)
    os.write(report, STARTED)
    names: dict[str, Any] = {"__name__": "candidate"}
    exec(compile(job["program"], "candidate", "exec"), names)
    judging = dict(names)
    exec(tests, judging)
    if job["entry_point"]:
        judging["check"](names[job["entry_point"]])
    os.write(report, _read(inbox, NONCE_BYTES))
    os._exit(0)


if __name__ == "__main__":
    main()
