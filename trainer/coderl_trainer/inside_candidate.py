"""What runs in the jail of one candidate: the program once, then calls of it, one after another. A script, not a module.

It gets inputs only: the program, the calls, what the calls need (`setup`). Expected values never come here. Nothing here is
trusted: the program can change all of it, and gains nothing but the right to answer a call with data of its choice.

Messages in: eight hexadecimal digits of length, then `marshal`'s form of a dict. Messages out: the nonce of the call (zeros for
the first), eight digits, then JSON: `["compiled", null | why not, null | what the import raised]`, then for each call
`["ok", data]`, `["raised", type, text]`, `["late"]` or `["not_plain", why]`. Times are processor seconds.
"""

import _signal  # the module `signal` loads `enum`, which takes longer than most programs
import marshal
import posix

channel: int
_TEXT = 300


class _Late(BaseException):
    """The processor time of a call is used up."""


def _exactly(size):  # type: ignore[no-untyped-def]
    out = b""
    while len(out) < size:
        part = posix.read(channel, size - len(out))
        if not part:
            posix._exit(0)
        out += part
    return out


def _receive():  # type: ignore[no-untyped-def]
    return marshal.loads(_exactly(int(_exactly(8), 16)))


def _send(nonce, text):  # type: ignore[no-untyped-def]
    data = nonce + f"{len(text):08x}".encode() + text.encode()
    while data:
        data = data[posix.write(channel, data) :]


def _late(_number, _frame):  # type: ignore[no-untyped-def]
    raise _Late


def _named(error):  # type: ignore[no-untyped-def]
    try:
        return type(error).__name__, str(error)[:_TEXT]
    except BaseException:
        return "Exception", "its text cannot be had"


def _timed(action, cpu_s, quoted, not_plain):  # type: ignore[no-untyped-def]
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


def main():  # type: ignore[no-untyped-def]
    """Import the program, then answer calls until the other side closes."""
    job = _receive()
    plain = {"__name__": "plain"}
    exec(job["plain"], plain)
    encode, quoted, not_plain = plain["encode"], plain["_quoted"], plain["NotPlain"]
    _signal.signal(_signal.SIGPROF, _late)
    names = {"__name__": "candidate", "__builtins__": __builtins__}
    try:
        program = compile(job["program"], "candidate", "exec", dont_inherit=True)
    except BaseException as error:
        name, text = _named(error)
        _send(b"0" * 16, '["compiled",' + quoted(name + ": " + text) + ",null]")
        return

    def load():  # type: ignore[no-untyped-def]
        exec(program, names)
        if job["setup"]:
            exec(compile(job["setup"], "setup", "exec", dont_inherit=True), names)
        return "null"

    loaded = _timed(load, job["cpu_s"], quoted, not_plain)
    _send(b"0" * 16, '["compiled",null,' + ("null" if loaded == '["ok",null]' else loaded) + "]")
    while True:
        call = _receive()

        def answer(call=call):  # type: ignore[no-untyped-def]
            if "source" in call:
                return encode(eval(compile(call["source"], "call", "eval", dont_inherit=True), names))
            return encode(names[call["name"]](*call["args"], **call["kwargs"]))

        _send(call["nonce"], _timed(answer, call["cpu_s"], quoted, not_plain))


if __name__ == "jailed":
    main()
