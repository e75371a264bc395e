"""`coderl bench latency`: the figures from what was measured, and a whole run on a scripted generator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.scripted import Rule, Script, ScriptedBackend
from coderl_server.errors import InputError
from coderl_server.latency import LatencyOptions, LatencyReport
from coderl_server.latency.figures import Measured, Overhead, Side, Timed, censored_median, joined, spent
from coderl_server.latency.measure import standard_files
from coderl_store.clock import VirtualClock
from coderl_store.records import Reason, Route

KEYS = {
    "routes", "typed_through_p99_ms", "cache_hit_rate", "kv_reuse_rate", "cancelled_in_30ms_rate", "wasted_token_share",
    "overhead_ratio", "speedup_over_plain", "cpu_s_per_1000_keystrokes",
}  # fmt: skip
"""What others read of the JSON."""
times = st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=30)


@given(times)
def test_without_censoring_it_is_the_lower_median(seen: list[float]) -> None:
    assert censored_median(seen, []) == sorted(seen)[(len(seen) + 1) // 2 - 1]


@given(times, times)
def test_what_was_cut_off_before_anything_came_says_nothing(seen: list[float], cut: list[float]) -> None:
    early = [time / 1e5 for time in cut]
    assert censored_median(seen, early) == censored_median(seen, [])


@given(times, times)
def test_what_never_came_in_the_end_makes_the_median_later(seen: list[float], cut: list[float]) -> None:
    late = [1001.0 for _ in cut]
    median = censored_median(seen, late)
    if len(late) > len(seen):
        assert median is None
    else:
        assert median is not None
        assert median >= (censored_median(seen, []) or 0.0)
        assert sum(time <= median for time in seen) * 2 >= len(seen) + len(late)


def measured(ms: float, source: str | None = None, *, answered: bool = True, route: Route = Route.FULL) -> Measured:
    timed = Timed("module.py:1", ms, answered)
    generator = answered and route is not Route.SKIP
    reason = Reason.WORTH_SHOWING if answered else Reason.SUPERSEDED
    return Measured(
        timed, route if answered else Route.SKIP, reason, generator, source, ms / 2 if source == "generated" else None
    )


COUNTED = {
    "decoded_tokens": 50, "usable_tokens": 38, "end_tokens": 2, "around_tokens": 4, "empty_tokens": 1, "given_up_tokens": 3,
    "prompt_tokens": 120, "unread_tokens": 20, "reused_tokens": 90,
    "given_up": 4, "given_up_ms": [10.0, 30.0, 31.0, 12.0], "never_began": 0,
    "timed_tokens": 30, "decoding_s": 0.5, "cpu_s": 2.0,
}  # fmt: skip


def test_the_figures_are_those_of_what_was_measured() -> None:
    ours = Side(
        [
            measured(100.0, "generated"),
            *(measured(ms, "typed_along") for ms in (1.0, 2.0)),
            measured(3.0, "remembered"),
            measured(50.0, answered=False),
            measured(0.5, route=Route.SKIP),
        ],
        COUNTED,
        keystrokes=500,
    )
    plain = Side([measured(ms, "generated") for ms in (80.0, 90.0, 100.0)], {"cpu_s": 9.0}, keystrokes=500)
    told = LatencyReport(7, ours, plain, Overhead([11.0, 10.0, 30.0], [10.0, 10.0, 10.0])).to_json()
    assert set(told) >= KEYS
    assert told["routes"]["full"] == {"n": 2, "p50_ms": 51.5, "p95_ms": 95.15, "p99_ms": 99.03, "ttft_ms": 50.0}
    assert told["routes"]["skip"]["n"] == 1  # the superseded one has no route
    assert told["routes"]["draft"] == {"n": 0, "p50_ms": None, "p95_ms": None, "p99_ms": None, "ttft_ms": None}
    assert told["sources"]["remembered"]["n"] == 1
    assert told["sources"]["typed_along"]["n"] == told["n"]["typed_through"] == 2
    assert told["typed_through_p99_ms"] == pytest.approx(1.99)
    assert told["cache_hit_rate"] == 0.75
    assert told["kv_reuse_rate"] == 0.9  # of the 100 tokens that came to be read
    assert told["cancelled_in_30ms_rate"] == 0.75
    assert told["wasted_token_share"] == 0.2
    assert told["end_token_share"] == 0.04
    assert told["wasted"] == {"given_up": 0.06, "empty": 0.02, "around": 0.08, "overrun": 0.04}
    assert told["overhead_ratio"] == 1.1
    assert told["speedup_over_plain"] == 30.0  # 90 over 3: the superseded one had waited 50 without an answer
    assert told["cpu_s_per_1000_keystrokes"] == 4.0
    assert told["decode_tokens_per_s"] == 60.0


def test_only_what_came_since_is_counted() -> None:
    before = {"generator": {"decoded_tokens": 5, "given_up_ms": [1.0]}, "cpu_s": 1.0}
    after = {"generator": {"decoded_tokens": 8, "given_up_ms": [1.0, 2.0]}, "cpu_s": 1.5}
    assert spent(before, after) == {"decoded_tokens": 3, "given_up_ms": [2.0], "cpu_s": 0.5}
    assert spent({"generator": None, "cpu_s": 1.0}, {"generator": None, "cpu_s": 2.0}) == {"cpu_s": 1.0}


def test_requests_and_decisions_belong_together_by_their_order(workbench: Any) -> None:
    bench = workbench(text="values)")
    bench.open()
    for _ in range(3):
        bench.ask()
    decisions, suggestions = bench.rows(type(bench.decision)), bench.rows(type(bench.suggestion))
    timed = [Timed(str(index), float(index), True) for index in range(3)]
    found = joined(timed, reversed(decisions), suggestions)
    assert [one.timed.place for one in found] == ["0", "1", "2"]
    assert [one.source for one in found] == ["generated", "remembered", "remembered"]
    with pytest.raises(ValueError, match=r"zip\(\) argument"):
        joined(timed, decisions[1:], suggestions)


def test_the_service_tells_what_was_decoded_for_what(workbench: Any) -> None:
    bench = workbench(text="values)")
    bench.open()
    bench.ask()
    told = bench.service.counters()
    assert told["generator"] is None  # the scripted backend keeps no counters
    assert told["usable_tokens"] == bench.suggestion.tokens > 0
    assert told["usable_tokens"] + told["end_tokens"] + told["around_tokens"] == bench.backend.decoded_tokens
    assert told["cpu_s"] > 0


@pytest.mark.parametrize(("anchor", "steps"), [(True, 1), (False, 20)])
def test_without_anchoring_the_window_moves_with_the_text(workbench: Any, anchor: bool, steps: int) -> None:
    bench = workbench(text="values)", anchor=anchor, reuse=False, context_chars=0)
    text = "".join(f"value_{number} = {number}\n" for number in range(400))
    bench.open(text)
    for line in range(230, 250):
        bench.ask(line, 0)
    assert len({request.prompt[:20] for request in bench.backend.requests}) == steps


def test_python_comes_with_something_to_type() -> None:
    assert len(standard_files()) >= 4
    assert all(path.is_file() for path in standard_files())


@pytest.mark.parametrize(("wrong", "said"), [({"max_seconds": 0.0}, "max seconds"), ({"overhead_pairs": -1}, "overhead pairs")])
def test_impossible_options_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        LatencyOptions(**wrong)


def test_a_file_that_is_not_there_is_told_in_a_sentence(coderl: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, err = coderl("bench", "latency", str(tmp_path / "absent.py"), "--backend", "scripted")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("coderl: The file ")


def test_a_whole_run(coderl: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    source, script = tmp_path / "source.py", tmp_path / "script.json"
    source.write_text("total = 1\n", encoding="utf-8")
    script.write_text(json.dumps({"oracle": {"texts": [source.read_text()], "error_rate": 0.0, "seed": 1}}), encoding="utf-8")
    options = ("--backend", "scripted", "--script", str(script), "--chars-per-second", "100", "--max-seconds", "10", "--json")
    code, out, err = coderl("bench", "latency", str(source), *options)
    told = json.loads(out)
    assert code == 0, err
    assert set(told) >= KEYS
    assert 0 < told["n"]["keystrokes"] <= len(source.read_text())
    assert told["n"]["requests"] >= told["n"]["keystrokes"]  # after an accept one more
    decided = sum(route["n"] for route in told["routes"].values())
    assert decided + told["n"]["typed_through"] + told["n"]["superseded"] == told["n"]["requests"]
    assert told["n"]["plain_requests"] > 0
    assert told["kv_reuse_rate"] is told["overhead_ratio"] is None  # nothing to measure in a script
    assert "source.py" in err


async def test_a_generation_that_was_given_up_is_no_use() -> None:
    from coderl_generator.complete import Budget
    from coderl_generator.prompt import Place
    from coderl_generator.reuse import Reuse

    clock = VirtualClock()
    reuse, backend = Reuse(), ScriptedBackend(clock, Script(default=Rule(text="one two three", delay_ms=10.0)))
    task = asyncio.ensure_future(reuse.complete("a", "d", backend, Place("x ="), Budget(), clock.now_s))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    reuse.release("a")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.decoded_tokens > 0
    assert (reuse.usable_tokens, reuse.end_tokens, reuse.around_tokens, reuse.empty_tokens) == (0, 0, 0, 0)
