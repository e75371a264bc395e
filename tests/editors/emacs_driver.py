"""Starts the real Emacs in batch, with eglot, and lets it evaluate forms.

The program is that of the environment variable CODERL_EMACS, else what `tests/editors/install/emacs.sh` has installed.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_EDITORS = Path(os.environ.get("CODERL_EDITORS") or Path.home() / ".cache" / "coderl-editors")
# Read before `own_home` hides the variables.
PROGRAM = os.environ.get("CODERL_EMACS") or str(_EDITORS / "emacs" / "emacs")
DRIVER = Path(__file__).with_suffix(".el")
WAIT_S = 60.0
STEP_S = 0.02


class EmacsError(Exception):
    """A form ended with an error."""


class Emacs:
    """One Emacs in batch; its current buffer is that of the file under test."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Path) -> None:
        self.process = process
        self._stderr = stderr
        self._read = b""

    def eval(self, form: str) -> Any:
        """The value of a form. Raises EmacsError; fails the test where no answer comes."""
        assert self.process.stdin is not None
        self.process.stdin.write(form.replace("\n", " ").encode("ascii") + b"\n")
        self.process.stdin.flush()
        while True:
            line = self._line(form).decode()
            if line.startswith("=> "):
                return json.loads(line[3:])[0]
            if line.startswith("!> "):
                raise EmacsError(f"{form}: {json.loads(line[3:])[0]}")

    def call(self, function: str, *arguments: Any) -> Any:
        return self.eval(f"({' '.join([function, *map(lisp, arguments)])})")

    def _line(self, form: str) -> bytes:
        assert self.process.stdout is not None
        end_s = time.monotonic() + WAIT_S
        while b"\n" not in self._read:
            left_s = end_s - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left_s, 0))
            data = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                why = f"no answer within {WAIT_S:.0f} s" if not ready else "Emacs has ended"
                pytest.fail(f"{form}: {why}; it said {self.said()!r}")
            self._read += data
        line, self._read = self._read.split(b"\n", 1)
        return line

    def said(self) -> str:
        """Emacs's messages."""
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    # -- what a test does

    def text(self) -> str:
        return str(self.call("driver-text"))

    def type(self, text: str) -> None:
        self.call("driver-type", text)

    def ask(self) -> list[dict[str, Any]]:
        return list(self.call("driver-ask"))

    def suggestion(self) -> dict[str, Any]:
        """The one item that the server answers."""
        items = self.ask()
        assert len(items) == 1, f"{items} at the end of {self.text()!r}: {self.request('coderl/why')['text']}"
        return items[0]

    def accept(self, item: dict[str, Any]) -> None:
        self.call("driver-accept", item)

    def request(self, method: str) -> Any:
        return self.eval(f"(driver-request :{method})")

    def stop(self) -> None:
        """Shut the server down; it ends with 0 and without a word."""
        assert self.call("driver-stop") == {"code": 0, "stderr": ""}

    def quit(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(b"(driver-quit)\n")
            self.process.stdin.close()
            code = self.process.wait(20)
        except (subprocess.TimeoutExpired, OSError):
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
        assert code == 0, self.said()


def lisp(value: Any) -> str:
    """A value as the text of a form, in ASCII: text, numbers, truth values, sequences (vectors), mappings
    (property lists)."""
    if value is None or isinstance(value, bool):
        return "t" if value else "nil"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        spelled = (f"\\U{ord(char):08x}" if ord(char) > 126 or ord(char) < 32 else char for char in value)
        return '"' + "".join("\\" + char if char in '"\\' else char for char in spelled) + '"'
    if isinstance(value, dict):
        return f"(list {' '.join(f':{name} {lisp(one)}' for name, one in value.items())})"
    return f"(vector {' '.join(map(lisp, value))})"


def skip_without_emacs() -> None:
    if shutil.which(PROGRAM) is None:
        pytest.skip("no Emacs: name it in CODERL_EMACS, or run tests/editors/install/emacs.sh")


@contextmanager
def emacs(
    folder: Path, command: Sequence[str], settings: dict[str, Any], text: str = "import sys\n", name: str = "source.py"
) -> Iterator[Emacs]:
    """An Emacs with an open file of this text and a server, point at the end; it is ended afterwards."""
    skip_without_emacs()
    project, home = folder / "project", folder / "emacs-home"
    for one in (project, home):
        one.mkdir(parents=True)
    source = project / name
    source.write_bytes(text.encode())
    stderr = folder / "emacs.txt"
    environment = {**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    with stderr.open("wb") as errors:
        process = subprocess.Popen(
            [PROGRAM, "--batch", "-Q", "-l", str(DRIVER)],
            cwd=project, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
    running = Emacs(process, stderr)
    try:
        running.call("driver-start", str(source), list(command), json.dumps({"coderl": settings}))
        yield running
    finally:
        running.quit()
