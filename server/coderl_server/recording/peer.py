"""The server's side of a recording or a playback: the process, its messages, and our own requests among the client's.

Our requests have ids that begin with `coderl-recorder/`; their answers never reach the client. The clock rule: it moves only
when the server has settled (nothing runs there that does not itself wait for the clock), so that how long a generation took in
real time never shows in what the server decides.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ServerFailed
from ..framing import FrameParser, Malformed, encode_frame

logger = logging.getLogger(__name__)

OWN_ID_PREFIX = "coderl-recorder/"
ANSWER_LIMIT_S = 60.0
"""Real seconds the server may take for an answer before it counts as hung."""
_EXIT_LIMIT_S = 10.0
_READ_BYTES = 1 << 16
_CLOCK_TOLERANCE_MS = 1.0
_STDERR_LINES = 12

Message = Mapping[str, Any]


def encode_message(message: Message) -> bytes:
    """One framed message; JSON in ASCII, so that halves of surrogate pairs pass."""
    return encode_frame(json.dumps(message, separators=(",", ":")).encode("ascii"))


def decode_messages(parser: FrameParser, data: bytes, sender: str) -> list[dict[str, Any]]:
    """The messages that `data` completes; malformed bytes are logged and skipped."""
    messages = []
    for frame in parser.feed(data):
        if isinstance(frame, Malformed):
            logger.warning("From the %s: %s It is left out of the recording.", sender, frame.sentence)
        else:
            messages.append(frame)
    return messages


class ServerPeer:
    """A running server on a client-driven clock. `on_message` gets every message that is not an answer to us."""

    def __init__(self, process: asyncio.subprocess.Process, on_message: Callable[[dict[str, Any]], None]) -> None:
        self._process = process
        self._on_message = on_message
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._count = 0
        self._clocking: asyncio.Future[Any] | None = None
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self.t_ms = 0.0
        """The server's time."""
        self.ended = asyncio.Event()
        """Set once the server has closed its output."""
        self._readers = [asyncio.create_task(self._read_messages()), asyncio.create_task(self._read_stderr())]

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_message: Callable[[dict[str, Any]], None],
        *,
        quiet: bool,
    ) -> ServerPeer:
        """Start a server. Raises ServerFailed where the program cannot be started. `quiet` keeps its stderr for error
        messages."""
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=pipe if quiet else None, env=dict(environment)
            )
        except OSError as error:
            raise ServerFailed(f"The server could not be started ({command[0]}): {error.strerror or error}.") from error
        return cls(process, on_message)

    async def _read_messages(self) -> None:
        assert self._process.stdout is not None
        parser = FrameParser()
        try:
            while data := await self._process.stdout.read(_READ_BYTES):
                for message in decode_messages(parser, data, "server"):
                    answer = self._answers.pop(str(message.get("id")), None) if "method" not in message else None
                    if answer is None:
                        self._on_message(message)
                    elif not answer.done():
                        answer.set_result(message)
        finally:
            self.ended.set()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ServerFailed("The server closed its output."))
                    answer.exception()  # looked at, so that one nobody waits for is no warning

    async def _read_stderr(self) -> None:
        while self._process.stderr is not None and (line := await self._process.stderr.readline()):
            self._stderr.append(line.decode("utf-8", "replace").rstrip())

    async def send(self, message: Message) -> None:
        """Send one message. Raises ServerFailed where the server is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode_message(message))
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise await self.death() from error

    async def request(self, method: str, params: Mapping[str, Any]) -> asyncio.Future[Any]:
        """Send a request of our own; the future gets the whole answer message."""
        self._count += 1
        request_id = f"{OWN_ID_PREFIX}{self._count}"
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = future
        await self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        return future

    async def answer_to(self, future: asyncio.Future[Any]) -> Any:
        """The result of a request of our own. Raises ServerFailed for an error, a dead or a hung server."""
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                message = await asyncio.shield(future)
        except TimeoutError as error:
            raise ServerFailed(f"The server did not answer within {ANSWER_LIMIT_S:.0f} s.") from error
        except ServerFailed as error:
            raise await self.death() from error
        if "error" in message:
            raise ServerFailed(f"The server does not take the recorder's requests: {message['error'].get('message', '')}")
        return message.get("result")

    # --- time

    async def move_clock(self, t_ms: float) -> None:
        """Ask the server to go to `t_ms`; does not wait. Call it only when `settled`."""
        self.t_ms = t_ms
        await self.ask_settled()

    async def ask_settled(self) -> None:
        """Ask the server to say when it has settled at the time it has; does not wait."""
        self._clocking = await self.request("coderl/clock", {"now_ms": self.t_ms, "settle": True})

    async def settled(self, limit_s: float | None = None) -> bool:
        """Wait until the server has settled; with `limit_s`, at most so long. Raises ServerFailed where it has another
        clock."""
        clocking = self._clocking
        if clocking is None:
            return True
        if limit_s is not None and not clocking.done():
            await asyncio.wait({clocking}, timeout=limit_s)
            if not clocking.done():
                return False
        result = await self.answer_to(clocking)
        if abs(result["now_ms"] - self.t_ms) > _CLOCK_TOLERANCE_MS:
            raise ServerFailed(
                "The server runs on its own clock, so its session cannot be repeated: start it with --clock client."
            )
        if self._clocking is clocking:
            self._clocking = None
        return True

    async def decisions(self) -> list[str]:
        """The canonical lines of the session's decisions so far (the server remembers the last 10,000)."""
        result = await self.answer_to(await self.request("coderl/decisions", {}))
        return [str(line) for line in result["decisions"]]

    # --- the end

    async def death(self) -> ServerFailed:
        """Why nobody answers: for raising."""
        try:
            code = str(await asyncio.wait_for(self._process.wait(), 1.0))
        except TimeoutError:
            code = "none yet"
        last = "\n".join(line for line in self._stderr if line)
        return ServerFailed(
            f"The server ended in mid-session (exit status {code})." + (f" It last said:\n{last}" if last else "")
        )

    async def close(self) -> int:
        """Close the server's input, wait for its end (by force after ten seconds) and return its exit status."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _EXIT_LIMIT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._readers)
        return self._process.returncode if self._process.returncode is not None else 1
