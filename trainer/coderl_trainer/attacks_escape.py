"""Programs that want out: files, sockets, other processes, namespaces, the kernel's large interfaces.

Each defines `add(a, b)` and computes a sum only where it got out. The harness stands outside with a file that defines a right
`add` (`$ANSWER`, in the folder `$OUTSIDE`), a server that answers sums on TCP (`$PORT`), on a Unix socket (`$SOCKET`) and on an
abstract one (`$ABSTRACT`).
"""

from __future__ import annotations

from typing import Final

from .attacks_resources import _LIBC, _tried

_ASK = """
import socket
def ask(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as wire:
        wire.settimeout(1)
        wire.connect(address)
        wire.sendall(f"{a_b[0]} {a_b[1]}\\n".encode())
        return int(wire.recv(100))
a_b = None
def add(a, b):
    global a_b
    a_b = a, b
    try:
        return ask(%s)
    except (OSError, ValueError):
        return 0
"""
_NUMBERS = "import platform\narm = platform.machine() == 'aarch64'\n"


def _call(x86: int, arm: int, arguments: str) -> str:
    """Won where a raw system call is not refused."""
    return _tried(f"{_LIBC}{_NUMBERS}won = libc.syscall({arm} if arm else {x86}, {arguments}) >= 0")


def _read(path: str) -> str:
    """The right `add` from a file outside."""
    return f"try:\n    exec(open({path}).read())\nexcept OSError:\n    def add(a, b):\n        return 0\n"


def _written(path: str) -> str:
    return _tried(f"with open({path}, 'a') as file:\n    file.write('echo')\nwon = True")


ESCAPE: Final[tuple[tuple[str, str], ...]] = (
    ("reads_a_file", _read("'$ANSWER'")),
    ("reads_by_dots", _read("'../' * 30 + '$ANSWER'[1:]")),
    ("reads_by_symlink", "import os\ntry:\n    os.symlink('$ANSWER', 'link')\nexcept OSError:\n    pass\n" + _read("'link'")),
    ("reads_by_hard_link", "import os\ntry:\n    os.link('$ANSWER', 'hard')\nexcept OSError:\n    pass\n" + _read("'hard'")),
    ("reads_by_proc", _read("'/proc/1/root$ANSWER'")),
    ("reads_by_directory_descriptor", _read("'/proc/self/fd/3/../../..$ANSWER'")),
    ("tcp", _ASK % "socket.AF_INET, ('127.0.0.1', $PORT)"),
    ("unix_socket", _ASK % "socket.AF_UNIX, '$SOCKET'"),
    ("abstract_socket", _ASK % "socket.AF_UNIX, chr(0) + '$ABSTRACT'"),
    ("dns", _tried("import socket\nwon = bool(socket.getaddrinfo('example.org', 80))")),
    ("packet_socket", _tried("import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)\nwon = True")),
    ("virtual_socket", _tried("import socket\nsocket.socket(40, socket.SOCK_STREAM)\nwon = True")),
    ("kernel_crypto_socket", _tried("import socket\nsocket.socket(38, socket.SOCK_SEQPACKET)\nwon = True")),
    ("writes_outside", _written("'$OUTSIDE/written'")),
    ("writes_by_dots", _written("'../' * 30 + '$OUTSIDE/written'[1:]")),
    ("git_hook", _written("'$OUTSIDE/.git/hooks/post-commit'")),
    ("shell_start_file", _written("'$OUTSIDE/.bashrc'")),
    ("runtime_overwritten", _tried("import os\nopen(os.__file__, 'a').close()\nwon = True")),
    (
        "environment_secrets",
        _tried("import os\nwon = any(len(value) > 8 for name, value in os.environ.items() if name != 'LC_CTYPE')"),
    ),
    ("environment_of_the_parent", _tried("import os\nwon = len(open(f'/proc/{os.getppid()}/environ').read()) > 0")),
    (
        "other_processes",
        _tried("import os\nwon = any(name.isdigit() and int(name) != os.getpid() for name in os.listdir('/proc'))"),
    ),
    ("trace_the_parent", _tried(f"import os\n{_LIBC}won = libc.ptrace(16, os.getppid() or 1, 0, 0) == 0")),
    ("trace_me", _tried(f"{_LIBC}won = libc.ptrace(0, 0, 0, 0) == 0")),
    (
        "read_of_other_memory",
        _call(310, 270, "1, (ctypes.c_ulong * 2)(0, 8), 1, (ctypes.c_ulong * 2)(0, 8), 1, 0"),
    ),
    ("user_namespace", _tried(f"{_LIBC}won = libc.unshare(0x10000000) == 0")),
    ("mount_namespace", _tried(f"{_LIBC}won = libc.unshare(0x00020000) == 0")),
    ("clone_into_namespaces", _call(56, 220, "0x10000000 | 17, 0, 0, 0, 0")),
    ("clone3", _call(435, 435, "(ctypes.c_ulong * 8)(0x10000000, 0, 0, 0, 17, 0, 0, 0), 64")),
    ("bind_mount", _tried(f"{_LIBC}won = libc.mount(b'/', b'/tmp', None, 4096, None) == 0")),
    ("new_mount_interface", _call(428, 428, "-100, b'/', 1")),
    ("change_of_root", _tried("import os\nos.chroot('/tmp')\nwon = True")),
    ("set_uid", _tried("import os\nos.setuid(0)\nwon = True")),
    ("set_uid_program", _tried(f"{_LIBC}won = libc.prctl(39, 0, 0, 0, 0) == 0  # PR_GET_NO_NEW_PRIVS")),
    ("keyring", _call(250, 219, "0, -3, 1")),
    ("performance_counters", _call(298, 241, "(ctypes.c_char * 128)(), 0, -1, -1, 0")),
    ("io_uring", _call(425, 425, "4, (ctypes.c_char * 256)()")),
    ("bpf", _call(321, 280, "0, (ctypes.c_char * 128)(), 72")),
    ("user_faults", _call(323, 282, "0")),
    ("file_handles", _call(304, 265, "-100, (ctypes.c_char * 128)(8), 0")),
    ("host_name", _tried("import socket\nsocket.sethostname('mine')\nwon = True")),
    ("clock", _tried("import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)\nwon = True")),
    ("other_architecture", _tried(f"{_LIBC}won = libc.syscall(0x40000000 | 39) > 0")),
    ("devices", _tried("import os\nwon = any(name not in ('null',) for name in os.listdir('/dev'))")),
    ("kernel_settings", _tried("open('/proc/sys/kernel/core_pattern', 'r+').close()\nwon = True")),
    ("terminal", _tried("import fcntl\nwon = any(fcntl.ioctl(n, 0x5412, b'x') == b'x' for n in (0, 1, 2))")),
)
