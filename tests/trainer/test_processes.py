"""Several processes: what is shared out, and that none of them waits for ever."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_trainer.errors import EngineRefused
from coderl_trainer.processes import Alone, Sharding, dealt, launched, share

from .several import ENDS_WITHIN_S, started
from .tiny_llama import need_torch

pytestmark = pytest.mark.timeout(2 * ENDS_WITHIN_S)

SCRIPT = Path(__file__).with_name("several_orders.py")
TWO = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def seen_from(rank: int, count: int, *, sharded: bool = False) -> Any:
    """Processes of which only the numbers are asked."""
    one: Any = Alone()
    one.rank, one.count, one.sharding = rank, count, Sharding() if sharded else None
    return one


@given(st.lists(st.integers(), max_size=20), st.integers(1, 6))
def test_shares_are_everything_once_and_nearly_equal(items: list[int], count: int) -> None:
    shares = [share(items, seen_from(rank, count)) for rank in range(count)]
    assert sorted(one for mine in shares for one in mine) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.integers(), max_size=20), st.integers(1, 6), st.booleans())
def test_dealt_work_counts_once_and_keeps_sharded_processes_in_step(items: list[int], count: int, sharded: bool) -> None:
    hands = [dealt(items, seen_from(rank, count, sharded=sharded)) for rank in range(count)]
    assert sorted(one for hand in hands for one, counts in hand if counts) == sorted(items)
    if sharded:
        assert len({len(hand) for hand in hands}) == 1
    else:
        assert all(counts for hand in hands for _, counts in hand)


def test_without_a_launcher_there_is_one_process() -> None:
    assert not launched({}).launched
    assert launched({**TWO, "WORLD_SIZE": "1", "RANK": "0"}).launched
    assert launched({**TWO, "WORLD_SIZE": "1", "RANK": "0"}).count == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed.*zero3.yaml"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "mixed_precision: no"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version: 2"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params"),
    ],
)
def test_what_a_launcher_asks_for_and_is_not_done_is_refused(more: dict[str, str], said: str) -> None:
    need_torch()
    with pytest.raises(EngineRefused, match=said):
        launched({**TWO, **more})
    with pytest.raises(EngineRefused, match=said):
        launched({**TWO, "WORLD_SIZE": "1", "RANK": "0", **more})


def ended(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(status, standard output, last line of standard error)"""
    out, error = child.communicate(timeout=ENDS_WITHIN_S)
    return child.returncode, out, (error.splitlines() or [""])[-1]


def test_an_order_is_carried_out_by_all_and_a_refusal_ends_nothing() -> None:
    need_torch()
    with started(SCRIPT, ["60", "all"]) as (first, second):
        status, out, _ = ended(first)
        assert status == 0
        assert out.splitlines()[-1] == "([0, 1], [1.0, 3.0, 5.0])"
        assert ended(second)[0] == 0


def test_a_failure_of_one_ends_all_and_says_whose_it_is() -> None:
    need_torch()
    with started(SCRIPT, ["60", "fail_on_the_second"]) as (first, second):
        status, _, words = ended(first)
        assert status == 1
        assert words == "Process 1 of 2 failed while learning: no memory is left"
        assert "ValueError: no memory is left" in ended(second)[2]


@pytest.mark.parametrize(("killed", "verb", "said"), [(1, "rest", "resting"), (0, "idle", "the next order of the first")])
def test_a_process_that_dies_ends_the_other(killed: int, verb: str, said: str) -> None:
    need_torch()
    with started(SCRIPT, ["600", verb]) as children:
        _ready(children[0])
        children[killed].send_signal(signal.SIGKILL)
        status, _, words = ended(children[1 - killed])
    assert status == 1
    assert f"Process {1 - killed} of 2 lost a process while it waited for" in words
    assert said in words


def test_a_process_that_hangs_is_waited_for_so_long_and_not_longer() -> None:
    need_torch()
    with started(SCRIPT, ["3", "rest"]) as (first, second):
        _ready(first)
        second.send_signal(signal.SIGSTOP)
        status, _, words = ended(first)
    assert status == 1
    assert "Process 0 of 2 waited 3 s in vain for the others while resting" in words


def _ready(first: subprocess.Popen[str]) -> None:
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n", first.communicate(timeout=ENDS_WITHIN_S)
