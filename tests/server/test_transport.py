"""Bytes in and out: whole frames, whatever the descriptor does; any kind of input."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from coderl_server.errors import SettingsError
from coderl_server.protocol import CoderlLanguageServer
from coderl_server.transport import FrameWriter, serve_stdio, serve_tcp


def read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def test_one_frame_is_one_header_and_its_body() -> None:
    out, into = os.pipe()
    writer = FrameWriter(into)
    writer.write(b"{}")
    writer.write("ü".encode())
    writer.close()
    assert read_all(out) == b"Content-Length: 2\r\n\r\n{}Content-Length: 2\r\n\r\n\xc3\xbc"


@pytest.mark.parametrize("blocking", [True, False])
def test_a_frame_larger_than_the_pipe_arrives_whole(blocking: bool) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(blocking)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_all(os.dup(theirs.fileno()))))
    reader.start()
    body = os.urandom(3_000_000)
    FrameWriter(ours.fileno()).write(body)
    ours.close()
    reader.join(30)
    theirs.close()
    assert got[0].endswith(body)
    assert len(got[0]) == len(body) + len(b"Content-Length: 3000000\r\n\r\n")


def test_a_client_that_closed_its_end_is_no_error() -> None:
    out, into = os.pipe()
    os.close(out)
    writer = FrameWriter(into)
    writer.write(b"{}")
    writer.write(b"{}")
    writer.close()


async def test_a_file_as_input_is_served_to_its_end(tmp_path: Path) -> None:
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "coderl/nothing"}).encode()
    file = tmp_path / "input"
    file.write_bytes(b"Content-Length: %d\r\n\r\n%s" % (len(message), message) * 3)
    out, into = os.pipe()
    with file.open("rb") as source:
        await asyncio.wait_for(
            serve_stdio(CoderlLanguageServer("1").protocol, (source, into), pytest.fail, asyncio.Event()), 30
        )
    os.close(into)
    assert read_all(out).count(b'"error"') == 3


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_pipe_is_served_as_it_comes_and_to_its_end(blocking: bool) -> None:
    out, into = os.pipe()
    os.set_blocking(out, blocking)
    answers, sink = os.pipe()
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "coderl/nothing"}).encode()
    frame = b"Content-Length: %d\r\n\r\n%s" % (len(message), message)
    stop = asyncio.Event()
    with os.fdopen(out, "rb") as source:
        serving = asyncio.ensure_future(serve_stdio(CoderlLanguageServer("1").protocol, (source, sink), pytest.fail, stop))
        for piece in (frame[:10], frame[10:] + frame, frame[:-1], frame[-1:]):
            os.write(into, piece)
            await asyncio.sleep(0.01)
            assert not stop.is_set()
        os.close(into)
        await asyncio.wait_for(serving, 30)
        assert stop.is_set()
        assert os.get_blocking(out) is blocking
    os.close(sink)
    assert read_all(answers).count(b'"error"') == 3


async def test_a_client_over_tcp_is_served_and_a_second_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "coderl/nothing"}).encode()
    frame = b"Content-Length: %d\r\n\r\n%s" % (len(message), message)
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve_tcp(CoderlLanguageServer("1").protocol, "127.0.0.1", 0, pytest.fail, stop))
    told = ""
    for _ in range(3_000):
        await asyncio.sleep(0.01)
        if told := capsys.readouterr().err:
            break
    port = int(told.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(frame[:10])
    await asyncio.sleep(0.01)
    writer.write(frame[10:])
    assert b"Content-Length" in await asyncio.wait_for(reader.readline(), 30)
    second, second_writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(second.read(), 30) == b""
    second_writer.close()
    assert not stop.is_set()
    writer.close()
    await asyncio.wait_for(serving, 30)
    assert stop.is_set()


async def test_stop_ends_serving_while_a_read_waits() -> None:
    out, into = os.pipe()
    sink_out, sink = os.pipe()
    stop = asyncio.Event()
    with os.fdopen(out, "rb") as source:
        serving = asyncio.ensure_future(serve_stdio(CoderlLanguageServer("1").protocol, (source, sink), pytest.fail, stop))
        await asyncio.sleep(0.01)
        stop.set()
        await asyncio.wait_for(serving, 30)
        os.close(into)  # ends the reading thread before its descriptor is closed
        await asyncio.sleep(0.05)
    os.close(sink)
    os.close(sink_out)


async def test_a_port_that_is_taken_is_a_setting_that_makes_no_sense() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
            await serve_tcp(CoderlLanguageServer("1").protocol, "127.0.0.1", port, pytest.fail, asyncio.Event())
