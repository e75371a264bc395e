"""The deterministic double: rules, delays on a virtual clock, failures, the oracle."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.backend import FinishReason, GenerationRequest, Token
from coderl_generator.errors import BackendRefused, BackendUnavailable, GenerationTimedOut, GeneratorError
from coderl_generator.oracle import Oracle
from coderl_generator.scripted import Failure, Rule, Script, ScriptedBackend, split
from coderl_generator.stop_texts import StopTexts
from coderl_store.clock import SystemClock, VirtualClock

SOURCE = Path(__file__).parents[2] / "generator" / "coderl_generator" / "oracle.py"


async def collect(backend: ScriptedBackend, prompt: str, **options: object) -> list[Token]:
    request = GenerationRequest(prompt, **{"max_tokens": 100, **options})  # type: ignore[arg-type]  # by name
    return [token async for token in backend.stream(request)]


def text_of(tokens: list[Token]) -> str:
    return "".join(token.text for token in tokens)


@given(st.text(max_size=200))
def test_splitting_loses_nothing(text: str) -> None:
    assert "".join(split(text)) == text


async def test_the_first_rule_that_matches_answers() -> None:
    script = Script((Rule("one", r"alpha\Z"), Rule("two", "alpha", logprobs=(-1.0, -2.0))), Rule("else"))
    backend = ScriptedBackend(SystemClock(), script)
    assert text_of(await collect(backend, "alpha")) == "one"
    two = await collect(backend, "alpha beta")
    assert [token.logprob for token in two[:-1]] == [-1.0]
    assert text_of(await collect(backend, "gamma")) == "else"
    assert [request.prompt for request in backend.requests] == ["alpha", "alpha beta", "gamma"]


async def test_delays_pass_on_the_clock_and_on_nothing_else() -> None:
    clock = VirtualClock(100.0)
    backend = ScriptedBackend(clock, Script(default=Rule("a b c", first_delay_ms=200.0, delay_ms=50.0)))
    task = asyncio.ensure_future(collect(backend, "x"))
    seen: list[tuple[float, int]] = []
    for now_s in (100.0, 100.1, 100.2, 100.25, 100.3):
        clock.advance_to(now_s)
        for _ in range(5):
            await asyncio.sleep(0)
        seen.append((now_s, backend.decoded_tokens))
    assert [count for _, count in seen] == [0, 0, 1, 2, 3]
    assert text_of(await task) == "a b c"


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Failure.UNAVAILABLE, BackendUnavailable),
        (Failure.REFUSED, BackendRefused),
        (Failure.TIMEOUT, GenerationTimedOut),
    ],
)
async def test_failures_come_after_the_text(failure: Failure, error: type[GeneratorError]) -> None:
    clock = VirtualClock(0.0)
    backend = ScriptedBackend(clock, Script(default=Rule("half", failure=failure)))
    stream = backend.stream(GenerationRequest("x", timeout_s=10.0))
    assert (await anext(stream)).text == "half"
    ending = asyncio.ensure_future(anext(stream))
    for _ in range(5):
        await asyncio.sleep(0)
    clock.advance_to(10.0)
    with pytest.raises(error):
        await ending


async def test_a_hanging_backend_keeps_no_timeout_but_can_be_cancelled() -> None:
    clock = VirtualClock(0.0)
    backend = ScriptedBackend(clock, Script(default=Rule(failure=Failure.HANG)))
    task = asyncio.ensure_future(collect(backend, "x", timeout_s=1.0, deadline_s=1.0))
    for now_s in (1.0, 1e4, 1e6):
        clock.advance_to(now_s)
        await asyncio.sleep(0.001)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_script_is_read_from_json_and_a_bad_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    rule = {"pattern": "x", "text": "y", "logprobs": [-3.0], "finish": "stop", "delay_ms": 1}
    path.write_text(json.dumps({"rules": [rule], "oracle": {"texts": ["a b c"], "error_rate": 0.0}}))
    backend = ScriptedBackend(SystemClock(), path)
    tokens = await collect(backend, "x")
    assert (text_of(tokens), tokens[-1].finish, tokens[0].logprob) == ("y", FinishReason.STOP, -3.0)
    assert text_of(await collect(backend, "a b")) == " c"
    for bad in (
        '{"rules": [{"test": "typo"}]}',
        "no json",
        '{"rules": [{"pattern": "("}]}',
        '{"default": {"logprob": 1}}',
        "[]",
    ):
        path.write_text(bad)
        with pytest.raises(GeneratorError):
            Script.from_json(path)


async def test_a_perfect_oracle_says_what_comes_next() -> None:
    source = SOURCE.read_text(encoding="utf-8")
    backend = ScriptedBackend(SystemClock(), Script(oracle=Oracle((source,))))
    for at in range(200, len(source) - 400, 331):
        tokens = await collect(backend, source[max(0, at - 1500) : at], max_tokens=20)
        assert source[at:].startswith(text_of(tokens))
        assert all(-0.7 < token.logprob <= 0 for token in tokens)
    assert text_of(await collect(backend, "nowhere in the file")) == ""


async def test_a_bad_oracle_errs_as_often_as_it_is_told_and_knows_it() -> None:
    source = SOURCE.read_text(encoding="utf-8")

    def pieces(seed: int) -> list[tuple[str, float, str]]:
        oracle = Oracle((source,), error_rate=0.3, seed=seed)
        said = [piece for at in range(100, 3000, 500) for piece in oracle.pieces(source[:at], split)[:80]]
        true = [piece for at in range(100, 3000, 500) for piece in split(source[at : at + 2000])[:80]]
        return [(one.text, one.logprob, real) for one, real in zip(said, true, strict=True)]

    rows = [row for row in pieces(1) if any(map(str.isalnum, row[2]))]
    wrong = [row for row in rows if row[0] != row[2]]
    assert 0.2 < len(wrong) / len(rows) < 0.4
    assert max(logprob for _, logprob, _ in wrong) < min(logprob for text, logprob, real in rows if text == real)
    assert pieces(1) == pieces(1)
    assert pieces(1) != pieces(2)


@given(
    st.lists(st.text(alphabet="ab\n", max_size=4), max_size=12),
    st.lists(st.text(alphabet="ab\n", min_size=1, max_size=3), max_size=3),
)
def test_stop_texts_cut_at_the_first_one_however_the_text_is_split(parts: list[str], stop: list[str]) -> None:
    stops = StopTexts(tuple(stop))
    out: list[str] = []
    for part in parts:
        out += [token.text for token in stops.push(Token(part, 0, -1.0))]
        if stops.hit:
            break
    else:
        out += [token.text for token in stops.flush()]
    whole = "".join(parts)
    found = [at for text in stop if (at := whole.find(text)) >= 0]
    # A longer stop text that begins earlier may complete only after a shorter one: the shorter one then wins.
    assert whole.startswith("".join(out))
    assert stops.hit == bool(found)
    assert not any(text in "".join(out) for text in stop)
    if len(stop) == 1:
        assert "".join(out) == (whole[: found[0]] if found else whole)
