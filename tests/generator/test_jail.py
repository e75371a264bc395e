"""Programs in the jail: what they can do, how they end, and what is said where there is none."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coderl_generator.errors import ChannelClosed, JailFailed, JailUnavailable
from coderl_generator.jail import Guarantee, Jail, Job, Limits, Ran, Status, open_jail
from coderl_generator.jail_bwrap import BwrapJail, checked_name
from coderl_generator.jail_unjailed import Unjailed


@pytest.fixture(scope="module")
def jail() -> Jail:
    try:
        return open_jail()
    except JailUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["bwrap", "none"])
def either(request: pytest.FixtureRequest) -> Jail:
    if request.param == "none":
        return open_jail("none", unjailed_because="the programs are in this file")
    found: Jail = request.getfixturevalue("jail")
    return found


def run(jail: Jail, program: str, **limits: float) -> Ran:
    return jail.run(Job(files={"main.py": program.encode()}), Limits(**limits))  # type: ignore[arg-type]


def test_a_program_runs_to_its_end(either: Jail) -> None:
    job = Job(files={"main.py": b"import sys\nsys.stderr.write('e')\nprint(input() * 2)\nsys.exit(3)"}, stdin=b"ab\n")
    ran = either.run(job, Limits())
    assert (ran.status, ran.returncode, ran.stdout, ran.stderr) == (Status.FINISHED, 3, b"abab\n", b"e")
    assert ran.guarantees == either.guarantees(Limits())


def test_files_lie_in_an_otherwise_empty_folder(either: Jail) -> None:
    files = {"main.py": b"import os\nprint(sorted(os.listdir('.')), open('a/b').read())", "a/b": b"x" * 100_000}
    ran = either.run(Job(files=files), Limits())
    assert ran.stdout == b"['a', 'main.py'] " + b"x" * 100_000 + b"\n"


def test_a_long_input_does_not_block(either: Jail) -> None:
    ran = either.run(Job(files={"main.py": b"import sys\nprint(len(sys.stdin.read()))"}, stdin=b"x" * 3_000_000), Limits())
    assert ran.stdout == b"3000000\n"


def test_commands_run_too(jail: Jail) -> None:
    ran = jail.run(Job(argv=("/bin/sh", "-c", "echo $((6 * 7)); (exit 4)"), files={"x": b""}), Limits(processes=4))
    assert (ran.stdout, ran.returncode) == (b"42\n", 4)


@pytest.mark.parametrize(
    ("program", "limits", "status"),
    [
        ("while True: pass", {"cpu_s": 1}, Status.CPU_EXCEEDED),
        ("import time; time.sleep(60)", {"wall_s": 0.5}, Status.TIMED_OUT),
        ("while True: print('x' * 1000)", {"output_bytes": 10_000}, Status.OUTPUT_EXCEEDED),
        ("import os; os.abort()", {}, Status.KILLED),
    ],
)
def test_how_programs_are_ended(either: Jail, program: str, limits: dict[str, float], status: Status) -> None:
    ran = run(either, program, **limits)
    assert ran.status is status
    assert len(ran.stdout) <= limits.get("output_bytes", 1 << 20)


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("x = 'x' * (1 << 31)", b"MemoryError"),
        ("import os\nos.fork()", b"BlockingIOError"),
        ("open('/x', 'w')", b"Read-only file system"),
        ("f = open('x', 'wb')\nwhile True: f.write(b'x' * 65536)", b"File too large"),
        ("for n in range(9):\n    open(str(n), 'wb').write(b'x' * 4_000_000)", b"No space left"),
        ("import os\n[os.dup(1) for _ in range(99)]", b"Too many open files"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))", b"Error"),
        ("import os\nos.listdir('/home')", b"No such file"),
        ("import os\nos.listdir('/proc')", b"No such file"),
        ("import os\nos.setuid(0)", b"Invalid argument"),
    ],
)
def test_what_a_program_cannot_do(jail: Jail, program: str, error: bytes) -> None:
    ran = run(jail, program)
    assert ran.returncode == 1
    assert error in ran.stderr


def test_nobody_is_inside_but_the_program(jail: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "1")
    ran = run(jail, "import os\nprint(os.getuid(), os.getpid() < 4, 'A_SECRET' in os.environ, os.listdir('/dev'))")
    assert ran.stdout == b"65534 True False ['null']\n"


def test_a_server_of_this_machine_cannot_be_reached(jail: Jail) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)\nprint('in')"
        assert run(jail, program).stdout == b""
        assert run(Unjailed("a test"), program).stdout == b"in\n"


def test_what_a_program_leaves_behind_dies_with_it(jail: Jail) -> None:
    tag = f"left-behind-{os.getpid()}"
    program = (
        "import os, sys\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        f"        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', '{tag}'])\n    os._exit(0)\n"
        "os.wait()\nprint('gone')"
    )
    assert run(jail, program, processes=4).stdout == b"gone\n"
    until_s = time.monotonic() + 10
    while left := [path for path in Path("/proc").glob("[0-9]*/cmdline") if tag.encode() in _read(path)]:
        assert time.monotonic() < until_s, f"still there: {left}"
        time.sleep(0.02)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_many_at_once(jail: Jail) -> None:
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda n: run(jail, f"print({n})").stdout, range(24)))
    assert outputs == [f"{n}\n".encode() for n in range(24)]


def test_a_conversation(either: Jail) -> None:
    code = compile("import posix\nwhile True: posix.write(channel, posix.read(channel, 5)[::-1])", "x", "exec")
    talk = either.converse(code, Limits())
    talk.send(b"abcde", time.monotonic() + 20)
    assert talk.receive(5, time.monotonic() + 20) == b"edcba"
    with pytest.raises(TimeoutError):
        talk.receive(1, time.monotonic() + 0.05)
    ended = talk.end()
    assert ended.cpu_ms is not None
    assert 0 < ended.cpu_ms < math.inf
    assert talk.end() == ended


def test_a_conversation_with_one_who_leaves(either: Jail) -> None:
    talk = either.converse(compile("import os\nos._exit(0)", "x", "exec"), Limits())
    with pytest.raises(ChannelClosed):
        talk.receive(1, time.monotonic() + 20)
    talk.end()


def test_no_descriptor_and_no_thread_is_left(jail: Jail) -> None:
    run(jail, "print(1)")
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    for _ in range(5):
        run(jail, "print(1)")
        with pytest.raises(JailFailed):
            jail.run(Job(files={"../x": b""}), Limits())
        jail.converse(compile("pass", "x", "exec"), Limits()).end()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (descriptors, threads)  # noqa: PTH208


def test_the_guarantees_are_named(jail: Jail) -> None:
    assert jail.guarantees(Limits()) == frozenset(Guarantee)
    some = jail.guarantees(Limits(processes=4))
    assert (Guarantee.PROCESS_COUNT_CAPPED in some) == (os.getuid() != 0)
    assert Guarantee.NO_NETWORK not in Unjailed("a test").guarantees(Limits())


def test_a_program_that_is_not_there_is_no_result(jail: Jail) -> None:
    for one in (jail, Unjailed("a test")):
        with pytest.raises(JailFailed):
            one.run(Job(argv=("/nonexistent",)), Limits())


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "x\0y"])
def test_files_stay_in_their_folder(name: str) -> None:
    with pytest.raises(JailFailed):
        checked_name(name)


def test_without_words_there_is_always_a_jail(tmp_path: Path) -> None:
    with pytest.raises(JailUnavailable, match="say in words"):
        open_jail("none")
    with pytest.raises(JailUnavailable, match="bwrap, run_code, none"):
        open_jail("docker")
    with pytest.raises(JailUnavailable, match="base URL"):
        open_jail("run_code")
    with pytest.raises(JailUnavailable, match="cannot be started"):
        BwrapJail(tmp_path / "bwrap")
