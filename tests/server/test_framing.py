"""The parser finds every good message again, whatever stands between them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_server.framing import FrameParser, Malformed, encode_frame

messages = st.dictionaries(
    st.text(max_size=8), st.one_of(st.text(max_size=40), st.integers(), st.none(), st.lists(st.text(max_size=5))), max_size=4
)
# No length header, which would rightly swallow what follows it.
garbage = st.binary(max_size=60).filter(lambda b: b"content" not in b.lower())


def frame(message: dict[str, object]) -> bytes:
    return encode_frame(json.dumps(message).encode())


def good(frames: list[object]) -> list[object]:
    return [f for f in frames if not isinstance(f, Malformed)]


@given(st.lists(messages, max_size=5), st.integers(1, 7))
def test_any_splitting_of_the_stream_gives_the_same_messages(sent: list[dict[str, object]], step: int) -> None:
    stream = b"".join(frame(m) for m in sent)
    parser = FrameParser()
    got = [f for i in range(0, len(stream), step) for f in parser.feed(stream[i : i + step])]
    assert got == sent


@given(st.lists(st.tuples(garbage, messages), min_size=1, max_size=4))
def test_garbage_between_messages_costs_none_of_them(sent: list[tuple[bytes, dict[str, object]]]) -> None:
    parser = FrameParser()
    got = parser.feed(b"".join(noise + frame(message) for noise, message in sent))
    assert good(got) == [message for _, message in sent]


@given(messages, st.integers(1, 10_000_000), messages)
def test_a_length_that_promises_too_much_costs_only_its_own_message(
    a: dict[str, object], more: int, b: dict[str, object]
) -> None:
    body = json.dumps(a).encode()
    parser = FrameParser()
    got = parser.feed(b"Content-Length: %d\r\n\r\n" % (len(body) + more) + body + frame(b))
    assert good(got) == [b]
    assert any(isinstance(f, Malformed) for f in got)


@given(messages.filter(bool), messages)
def test_a_length_that_promises_too_little_costs_only_its_own_message(a: dict[str, object], b: dict[str, object]) -> None:
    body = json.dumps(a).encode()
    parser = FrameParser()
    got = parser.feed(b"Content-Length: %d\r\n\r\n" % (len(body) - 1) + body + frame(b))
    assert good(got) == [b]


def test_a_header_cut_off_in_the_middle_is_followed_by_the_next() -> None:
    parser = FrameParser()
    assert parser.feed(b"Content-Length: 512\r\n" + frame({"id": 1})) == [{"id": 1}]


def test_other_headers_and_bare_newlines_are_accepted() -> None:
    body = b'{"id": 1}'
    parser = FrameParser()
    stream = b"Content-Type: application/vscode-jsonrpc\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    assert parser.feed(stream + b"Content-Length: %d\n\n" % len(body) + body) == [{"id": 1}, {"id": 1}]


def test_an_oversized_message_is_refused_without_being_kept() -> None:
    parser = FrameParser(limit_bytes=100)
    refused, *rest = parser.feed(b"Content-Length: 1000000\r\n\r\n" + b"x" * 5000 + frame({"id": 2}))
    assert isinstance(refused, Malformed)
    assert "limit" in refused.sentence
    assert good(rest) == [{"id": 2}]


@pytest.mark.parametrize("body", [b"[1, 2]", b"3", b"nope", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_named(body: bytes) -> None:
    parser = FrameParser()
    got = parser.feed(encode_frame(body) + frame({"id": 3}))
    assert isinstance(got[0], Malformed)
    assert got[-1] == {"id": 3}


def test_endless_noise_does_not_grow_the_buffer() -> None:
    parser = FrameParser()
    for _ in range(1000):
        parser.feed(b"x" * 4096)
    assert len(parser._buffer) < 64 * 1024
