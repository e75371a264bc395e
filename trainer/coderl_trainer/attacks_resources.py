"""Programs that take what is not theirs: memory, processes, files, time, output.

Each defines `add(a, b)` and computes a sum only where it got more than a jail may give.
"""

from __future__ import annotations

from typing import Final

_END = "\ndef add(a, b):\n    return a + b if won else 0\n"
_LIBC = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def _tried(text: str) -> str:
    """`text` sets `won`; whatever it raises is no success."""
    body = "\n".join("    " + line for line in text.splitlines())
    return f"won = False\ntry:\n{body}\nexcept BaseException:\n    won = False\n{_END}"


RESOURCES: Final[tuple[tuple[str, str], ...]] = (
    (
        "fork_bomb",
        _tried(
            "import os, time\ncount = 0\nfor _ in range(200):\n    if os.fork() == 0:\n        while True:\n"
            "            try:\n                os.fork()\n            except OSError:\n                time.sleep(0.01)\n"
            "    count += 1\nwon = count == 200"
        ),
    ),
    (
        "subprocess_bomb",
        _tried(
            "import subprocess, sys\nchildren = [subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
            " for _ in range(200)]\nwon = True"
        ),
    ),
    (
        "thread_bomb",
        _tried(
            "import threading, time\nthreading.stack_size(1 << 24)\nfor _ in range(2000):\n"
            "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nwon = True"
        ),
    ),
    ("open_files", _tried("import os\nfor _ in range(2000):\n    os.dup(1)\nwon = True")),
    ("pipes", _tried("import os, fcntl\nfor _ in range(500):\n    fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)\nwon = True")),
    ("memory_of_bytes", _tried("data = [bytearray(1 << 28) for _ in range(16)]\nwon = True")),
    ("memory_of_maps", _tried("import mmap\nmaps = [mmap.mmap(-1, 1 << 30) for _ in range(16)]\nwon = True")),
    ("memory_of_a_text", _tried("text = 'x' * (1 << 34)\nwon = True")),
    ("memory_in_small_parts", _tried("things = []\nwhile len(things) < 1 << 27:\n    things.append(object())\nwon = True")),
    (
        "memory_without_a_file",
        _tried(
            "import os\nhandle = os.memfd_create('x')\nfor _ in range(8):\n    os.write(handle, b'x' * (1 << 20))\nwon = True"
        ),
    ),
    ("shared_memory", _tried(_LIBC + "won = all(libc.shmget(0, 1 << 28, 0o1600) >= 0 for _ in range(8))")),
    ("raised_limits", _tried("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nwon = True")),
    ("endless_recursion", "import sys\nsys.setrecursionlimit(1 << 30)\ndef add(a, b):\n    return add(a, b)\n"),
    ("deep_nesting", "def add(a, b):\n    x = []\n    for _ in range(1000000):\n        x = [x]\n    return x\n"),
    ("data_within_itself", "def add(a, b):\n    x = []\n    x.append(x)\n    return x\n"),
    (
        "disk_fill",
        _tried(
            "for n in range(64):\n    with open(f'fill{n}', 'wb') as file:\n        file.write(b'x' * (1 << 20))\nwon = True"
        ),
    ),
    ("sparse_file", _tried("with open('sparse', 'wb') as file:\n    file.truncate(1 << 40)\nwon = True")),
    (
        "inode_flood",
        _tried("for n in range(1 << 22):\n    open(f'i{n}', 'wb').close()\nwon = True"),
    ),
    ("output_flood", "def add(a, b):\n    while True:\n        print('x' * 65536)\n"),
    ("error_flood", "import sys\ndef add(a, b):\n    while True:\n        sys.stderr.write('x' * 65536)\n"),
    ("answer_flood", "def add(a, b):\n    return ['x' * 1000] * 100000\n"),
    ("huge_exception", "def add(a, b):\n    raise ValueError('x' * (1 << 26))\n"),
    ("exception_that_raises", "class E(Exception):\n    def __str__(self):\n        raise self\ndef add(a, b):\n    raise E\n"),
    ("endless_loop", "def add(a, b):\n    while True:\n        pass\n"),
    ("endless_import", "while True:\n    pass\n"),
    ("sleep", "import time\ndef add(a, b):\n    time.sleep(600)\n"),
    (
        "ignores_signals",
        "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n"
        "        pass\ndef add(a, b):\n    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            pass\n",
    ),
    (
        "catches_the_alarm",
        "def add(a, b):\n    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            pass\n",
    ),
    (
        "orphan",
        "import os, sys\ndef spawn():\n    if os.fork():\n        return\n    os.setsid()\n    if os.fork():\n"
        "        os._exit(0)\n"
        "    os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(20)', *sys.argv])\n"
        "try:\n    spawn()\nexcept OSError:\n    pass\ndef add(a, b):\n    return 0\n",
    ),
    (
        "packed_bomb",
        _tried("import zlib\nbomb = zlib.compress(b'0' * (1 << 26)) * 64\nwon = len(zlib.decompress(bomb) * 64) > 1 << 31"),
    ),
    (
        "pickle_bomb",
        _tried("import pickle\nwon = len(pickle.loads(pickle.dumps([bytes(1 << 20)])) * (1 << 31)) > 0"),
    ),
    ("crash", "import os\ndef add(a, b):\n    os.abort()\n"),
    ("segmentation_fault", "import ctypes\ndef add(a, b):\n    ctypes.string_at(0)\n"),
    (
        "core_dump",
        _tried("import resource\nresource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))\nwon = True"),
    ),
    (
        "graphics_memory",
        _tried(
            "import glob\nfor path in glob.glob('/dev/nvidia*') + glob.glob('/dev/dri/*') + ['/dev/kfd']:\n"
            "    open(path, 'r+b')\nwon = True"
        ),
    ),
    (
        "slow_hashes",
        "def add(a, b):\n    return {n * ((1 << 61) - 1) for n in range(1, 6000)}\n",
    ),
    ("huge_number", "def add(a, b):\n    return 10 ** (10 ** 9)\n"),
)
