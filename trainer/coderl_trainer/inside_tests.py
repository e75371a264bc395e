"""What runs in the jail of the tests: setup, tests and comparisons, a fresh process for each program. A script, not a module.

The candidate is never here: what it answered arrives as plain data, and a test that has to call it while it runs sends the
call out. So whatever a program does to its own process, the comparison is made by an interpreter that it cannot reach.

Messages in: eight hexadecimal digits of length, then `marshal`'s form. Messages out: eight digits, then JSON:
`["setup", null | what it raised]`, `["call", name, args, kwargs]`, `["test", number, outcome, message]`, `["over"]`.
"""

import _signal  # type: ignore[import-not-found]
import builtins
import json
import marshal
import os
import resource
from typing import Any

# Loaded once for all programs: what tests import most.
for _name in ("math", "re", "collections", "itertools", "functools", "string", "random", "datetime", "typing", "cmath"):
    __import__(_name)

channel: int = globals().get("channel", -1)
_TEXT = 300


class _Late(BaseException):
    """The processor time of a test is used up."""


class _Gone(BaseException):
    """The candidate does not answer any more; the other side knows why."""


class _Unsendable(BaseException):
    """What the test passes to the candidate is no plain data: the test cannot be judged."""


class CandidateError(Exception):
    """An exception of the candidate that has no builtin type."""


def _exactly(size: int) -> bytes:
    out = b""
    while len(out) < size:
        part = os.read(channel, size - len(out))
        if not part:
            os._exit(0)
        out += part
    return out


def _receive() -> Any:
    return marshal.loads(_exactly(int(_exactly(8), 16)))


def _send(message: list[Any]) -> None:
    text = json.dumps(message)
    data = f"{len(text):08x}".encode() + text.encode()
    while data:
        data = data[os.write(channel, data) :]


def _late(_number: int, _frame: Any) -> None:
    raise _Late


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}"[:_TEXT]


def _exception(name: str, text: str) -> Exception:
    """The builtin exception of that name, else one of our own: what the tests may expect."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except Exception:  # one that wants other arguments
            pass
    return CandidateError(f"{name}: {text}")


def _caller(name: str, plain: dict[str, Any], raised: list[BaseException]) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            _send(["call", name, plain["encode"](args), plain["encode"](kwargs)])
        except plain["NotPlain"] as error:
            raise _Unsendable(str(error)) from error
        answer = _receive()
        if answer[0] == "ok":
            return plain["decode"](answer[1])
        if answer[0] == "gone":
            raise _Gone
        made = _exception(answer[1], answer[2])
        raised.append(made)
        raise made

    call.__name__ = name
    return call


def _one(test: dict[str, Any], names: dict[str, Any], plain: dict[str, Any], cpu_s: float) -> tuple[str, str]:
    """Outcome and message of one test."""
    raised: list[BaseException] = []
    scope = dict(names)
    try:
        _signal.setitimer(_signal.ITIMER_PROF, cpu_s)
        try:
            for name in test["stubs"]:
                scope[name] = _caller(test["entry_point"] or name, plain, raised)
            for name, text in test["values"].items():
                scope[name] = plain["decode"](text)
            exec(compile(test["source"], "test", "exec", dont_inherit=True), scope)
        finally:
            _signal.setitimer(_signal.ITIMER_PROF, 0)
    except _Late:
        return "timed_out", "the test used up its time"
    except _Gone:
        return "failed", "the program does not answer any more"
    except _Unsendable as error:
        return "unsendable", str(error)[:_TEXT]
    except BaseException as error:
        if any(error is one for one in raised):
            return "raised", _said(error)
        if type(error) is AssertionError:
            got = ", ".join(repr(scope[name]) for name in test["values"])
            return "failed", f"got {got}"[:_TEXT] if got else "not what the test wants"
        return "failed", _said(error)
    return "passed", ""


def _run(job: dict[str, Any], plain: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (job["process_cpu_s"], job["process_cpu_s"] + 1))
    _signal.signal(_signal.SIGPROF, _late)
    names: dict[str, Any] = {"__name__": "tests"}
    try:
        _signal.setitimer(_signal.ITIMER_PROF, job["cpu_s"])
        for text in job["setup"]:
            exec(compile(text, "setup", "exec", dont_inherit=True), names)
    except BaseException as error:
        _send(["setup", _said(error)])
        return
    finally:
        _signal.setitimer(_signal.ITIMER_PROF, 0)
    _send(["setup", None])
    for number, test in job["tests"]:
        _send(["test", number, *_one(test, names, plain, job["cpu_s"])])


def main() -> None:
    """One fork for each job, until the other side closes."""
    plain: dict[str, Any] = {"__name__": "plain"}
    exec(_receive(), plain)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    while True:
        job = _receive()
        child = os.fork()
        if not child:
            try:
                _run(job, plain)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        _send(["over"])


if __name__ == "jailed":
    main()
