"""What runs in the jail of one candidate: the program once, then calls of it, one after another. A script, not a module.

It gets inputs only: the program, the calls, what the calls need (`setup`). Expected values never come here. Nothing here is
trusted: the program can change all of it, and gains nothing but the right to answer a call with data of its choice.

Messages in: eight hexadecimal digits of length, then `marshal`'s form of a dict. Messages out: the nonce of the call (zeros for
the first), eight digits, then JSON: `["compiled", null | why not, null | what the import raised]`, then for each call
`["ok", data]`, `["raised", type, text]`, `["late"]` or `["not_plain", why]`. Times are processor seconds.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` loads `enum`, which takes longer than most programs
import marshal
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

channel: int = globals().get("channel", -1)
_TEXT = 300


class _Late(BaseException):
    """The processor time of a call is used up."""


def _exactly(size: int) -> bytes:
    out = b""
    while len(out) < size:
        part = posix.read(channel, size - len(out))
        if not part:
            posix._exit(0)
        out += part
    return out


def _receive() -> Any:
    return marshal.loads(_exactly(int(_exactly(8), 16)))


def _send(nonce: bytes, text: str) -> None:
    data = nonce + f"{len(text):08x}".encode() + text.encode()
    while data:
        data = data[posix.write(channel, data) :]


def _late(_number: int, _frame: Any) -> None:
    raise _Late


def _named(error: BaseException) -> tuple[str, str]:
    try:
        return type(error).__name__, str(error)[:_TEXT]
    except BaseException:
        return "Exception", "its text cannot be had"


def _timed(action: Callable[[], str], cpu_s: float, quoted: Callable[[str], str], not_plain: type[Exception]) -> str:
    """The JSON of an answer."""
    try:
        _signal.setitimer(_signal.ITIMER_PROF, cpu_s)
        try:
            return '["ok",' + action() + "]"
        finally:
            _signal.setitimer(_signal.ITIMER_PROF, 0)
    except _Late:
        return '["late"]'
    except not_plain as error:
        return '["not_plain",' + quoted(str(error)[:_TEXT]) + "]"
    except BaseException as error:
        name, text = _named(error)
        return '["raised",' + quoted(name) + "," + quoted(text) + "]"


def main() -> None:
    """Import the program, then answer calls until the other side closes."""
    job = _receive()
    plain: dict[str, Any] = {"__name__": "plain"}
    exec(job["plain"], plain)
    encode, quoted, not_plain = plain["encode"], plain["_quoted"], plain["NotPlain"]
    _signal.signal(_signal.SIGPROF, _late)
    names: dict[str, Any] = {"__name__": "candidate", "__builtins__": __builtins__}
    try:
        program = compile(job["program"], "candidate", "exec", dont_inherit=True)
    except BaseException as error:
        name, text = _named(error)
        _send(b"0" * 16, '["compiled",' + quoted(name + ": " + text) + ",null]")
        return

    def load() -> str:
        exec(program, names)
        if job["setup"]:
            exec(compile(job["setup"], "setup", "exec", dont_inherit=True), names)
        return "null"

    loaded = _timed(load, job["cpu_s"], quoted, not_plain)
    _send(b"0" * 16, '["compiled",null,' + ("null" if loaded == '["ok",null]' else loaded) + "]")
    while True:
        call = _receive()

        def answer(call: Any = call) -> str:
            if "source" in call:
                return str(encode(eval(compile(call["source"], "call", "eval", dont_inherit=True), names)))
            return str(encode(names[call["name"]](*call["args"], **call["kwargs"])))

        _send(call["nonce"], _timed(answer, call["cpu_s"], quoted, not_plain))


if __name__ == "jailed":
    main()
