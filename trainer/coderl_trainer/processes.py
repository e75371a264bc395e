"""The processes of one training: the first leads, the others do their share of what it orders.

Started by `accelerate launch` (or `torchrun`), every process runs the same command. The first alone reads the recipe, judges
and writes; what it asks of its engine it also orders of the others, and each does a share. So the loop, the judge and the run's
folder know nothing of several processes, and nothing random or slow there can lead them apart.

Words and numbers go from process to process by gloo, gradients on GPUs by NCCL. Covered: a process that fails or dies ends all,
each with a sentence; whoever waits says for what, and not for longer than `wait_s`. Not covered: processes that come and go.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from types import MappingProxyType
from typing import Any, Concatenate, Final, ParamSpec, Protocol, Self, TypeVar

from .errors import EngineFailed, EngineRefused, TrainerError

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
E = TypeVar("E", bound="OfProcesses")

WAIT_S = 1800.0
"""Longest wait of one process for the others, in seconds: longer than the judging of one step or one look at held-out tasks."""
MAKE = "make"
"""The order to make an engine."""
_AT_ONCE = 1 << 24
"""Numbers that are added up over the processes at once."""
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_UNHEEDED: Final = MappingProxyType(
    {
        "ACCELERATE_USE_DEEPSPEED": ("DeepSpeed", "zero3.yaml shards as ZeRO-3 does, by torch itself"),
        "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", "use fsdp.yaml"),
        "FSDP_OFFLOAD_PARAMS": ("weights offloaded to the CPU", "leave fsdp_offload_params out"),
        "FSDP_ACTIVATION_CHECKPOINTING": ("checkpointing by FSDP", "leave fsdp_activation_checkpointing out"),
    }
)
"""What a launcher may ask for that the engine does not do, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """The trained weights, their gradients and the optimizer's state lie in pieces, one on each process."""

    reshard_after_forward: bool = True
    """Gather a layer's weights again for the backward pass (ZeRO-3), or keep them in between: faster, more memory."""


class Processes(Protocol):
    """All processes, seen from one of them."""

    @property
    def rank(self) -> int:
        """Which one this is; 0 leads."""
        ...

    @property
    def count(self) -> int: ...

    @property
    def local_rank(self) -> int:
        """Which one of this machine: the number of its GPU."""
        ...

    @property
    def launched(self) -> bool:
        """Whether a launcher started them, be it only one: then each prompt has random numbers of its own."""
        ...

    @property
    def sharding(self) -> Sharding | None:
        """None = every process holds all weights."""
        ...

    def ordered(self, verb: str, arguments: Sequence[Any], more: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Around a work of all: where this process is the first, the others are told to do the same. Raises `EngineFailed`
        where they cannot be told, or are lost in the middle of the work."""
        ...

    def gathered(self, work: Callable[[], T], doing: str) -> list[T]:
        """What `work` gave on every process, in their order. Where it failed on one, all raise: that one its own error, the
        others `EngineFailed` with its words."""
        ...

    def agreed(self, work: Callable[[], T], doing: str) -> T:
        """This process's own result, once the work is done everywhere; errors as in `gathered`."""
        ...

    def add_up(self, tensors: Sequence[Any]) -> None:
        """Each tensor becomes the sum of those of all processes, in place and equal everywhere."""
        ...


def share(items: Sequence[T], processes: Processes) -> list[T]:
    """This process's part: every n-th, so that shares differ by one at most."""
    return list(items[processes.rank :: processes.count])


def dealt(items: Sequence[T], processes: Processes) -> list[tuple[T, bool]]:
    """This process's share, and whether each counts. Sharded weights are gathered by all processes at once, so there all get
    equally many: who has one less gets the first again, not to be counted."""
    mine = [(one, True) for one in share(items, processes)]
    most = -(-len(items) // processes.count)
    return [*mine, (items[0], False)] if processes.sharding and len(mine) < most else mine


class OfProcesses(Protocol):
    """What `together` decorates the verbs of."""

    _processes: Processes


class Alone:
    """One process."""

    rank = 0
    count = 1
    local_rank = 0
    sharding: Sharding | None = None

    def __init__(self, *, launched: bool = False) -> None:
        """`launched`: it draws what several would, so that their number changes nothing."""
        self.launched = launched

    def ordered(self, verb: str, arguments: Sequence[Any], more: Mapping[str, Any]) -> AbstractContextManager[None]:
        return nullcontext()

    def gathered(self, work: Callable[[], T], doing: str) -> list[T]:
        return [work()]

    def agreed(self, work: Callable[[], T], doing: str) -> T:
        return work()

    def add_up(self, tensors: Sequence[Any]) -> None:
        """Nothing to add."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class Launched:
    """One of several processes that a launcher started. Use it in a `with`: the first tells the others when it is over."""

    launched = True

    def __init__(self, environment: Mapping[str, str], *, wait_s: float = WAIT_S) -> None:
        """Meets the others. Raises `EngineRefused` for what is launched and not done, `EngineFailed` where they do not come."""
        try:
            import torch
        except ImportError as error:
            raise EngineRefused(f"The engine `local` needs torch ({error}); install coderl[train].") from error
        self.sharding = _sharding(environment)
        self.rank, self.count = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        self.local_rank = int(environment["LOCAL_RANK"])
        self._torch, self._dist, self._wait_s = torch, torch.distributed, wait_s
        self._sound = True
        self._status = 1
        atexit.register(self._leave)
        if not self._dist.is_available() or not self._dist.is_gloo_available():
            raise EngineRefused("This torch was built without gloo, by which several processes talk; install one with it.")
        on_gpus = torch.cuda.is_available() and self._dist.is_nccl_available()
        wait = timedelta(seconds=wait_s)
        with self._waiting("the others to start"):
            self._dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=wait)
            self._words = self._dist.new_group(backend="gloo", timeout=wait)

    @contextmanager
    def ordered(self, verb: str, arguments: Sequence[Any], more: Mapping[str, Any]) -> Iterator[None]:
        if self.rank == 0:
            with self._waiting("the others to take an order"):
                self._dist.broadcast_object_list([(verb, arguments, more)], src=0, group=self._words)
        try:
            yield
        except KeyboardInterrupt:
            self._sound = False  # anywhere in the work
            raise
        except RuntimeError as error:
            if self.sharding is None or isinstance(error, TrainerError):
                raise
            self._sound = False  # a gathering of weights that another did not come to ends so
            raise EngineFailed(f"Process {self.rank} of {self.count} failed in {verb}: {_said(error)}.") from error

    def next_order(self) -> tuple[str, Sequence[Any], Mapping[str, Any]] | None:
        """What the first process does next; None = it is over. Raises `EngineFailed` where it does not say."""
        told: list[Any] = [None]
        with self._waiting("the next order of the first process"):
            self._dist.broadcast_object_list(told, src=0, group=self._words)
        order: tuple[str, Sequence[Any], Mapping[str, Any]] | None = told[0]
        return order

    def gathered(self, work: Callable[[], T], doing: str) -> list[T]:
        mine, error = self._tried(work)
        told: list[Any] = [None] * self.count
        with self._waiting(f"the others while {doing}"):
            self._dist.all_gather_object(told, (mine, None if error is None else _said(error)), group=self._words)
        if error is not None:
            self._sound &= isinstance(error, EngineRefused)
            raise error
        for rank, (_, words) in enumerate(told):
            if words:
                self._sound = False
                raise EngineFailed(f"Process {rank} of {self.count} failed while {doing}: {words}")
        return [one for one, _ in told]

    def agreed(self, work: Callable[[], T], doing: str) -> T:
        kept: list[T] = []
        self.gathered(lambda: kept.append(work()), doing)
        return kept[0]

    def add_up(self, tensors: Sequence[Any]) -> None:
        start = 0
        while start < len(tensors):
            end, numbers = start + 1, tensors[start].numel()
            while end < len(tensors) and numbers + tensors[end].numel() <= _AT_ONCE:
                numbers, end = numbers + tensors[end].numel(), end + 1
            some = tensors[start:end]
            flat = self._torch.cat([one.reshape(-1) for one in some])
            with self._waiting("the others while adding up gradients"):
                self._dist.all_reduce(flat)
            for one, total in zip(some, flat.split([one.numel() for one in some]), strict=True):
                one.copy_(total.view_as(one))
            start = end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After an error in the middle of common work the others end by themselves: they heard of it, or lose this process. The
        program then ends with status 1, after Ctrl-C with 130, and without being taken apart (`_leave`)."""
        if not self._sound:
            self._status = 130 if kind is KeyboardInterrupt else 1  # as the command line has it
            return
        if self.rank == 0:
            with suppress(EngineFailed), self._waiting("the others to end"):
                self._dist.broadcast_object_list([None], src=0, group=self._words)
        self._dist.destroy_process_group()

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """gloo's threads may still wait for a process that is lost. Where one of them wants Python's lock while Python is being
        taken apart, C++ ends the program with SIGABRT, so it is left before."""
        if not self._sound:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(self._status)

    def _tried(self, work: Callable[[], T]) -> tuple[T | None, Exception | None]:
        """With sharded weights the others wait in the middle of the work, where nothing can be told: an error ends this one."""
        try:
            return work(), None
        except Exception as error:
            if self.sharding is None or isinstance(error, EngineRefused):
                return None, error
            self._sound = False
            raise

    @contextmanager
    def _waiting(self, what: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self._sound = False
            late = "timed out" in str(error).lower()
            how = f"waited {self._wait_s:.0f} s in vain for" if late else "lost a process while it waited for"
            raise EngineFailed(f"Process {self.rank} of {self.count} {how} {what} ({_said(error)}).") from error


def launched(environment: Mapping[str, str] = os.environ, *, wait_s: float = WAIT_S) -> Alone | Launched:
    """The processes that this one was launched with. Raises `EngineRefused` and `EngineFailed`."""
    if not all(environment.get(name) for name in _LAUNCHED):
        return Alone()
    if environment["WORLD_SIZE"] == "1":
        _sharding(environment)  # refuses what is not done; there is nothing to shard
        return Alone(launched=True)
    return Launched(environment, wait_s=wait_s)


def follow(processes: Launched, make: Callable[..., Any]) -> None:
    """What every process but the first does: whatever verbs the first one is asked for, of an engine that `make` makes. Raises
    `EngineFailed` where something fails or the first process is gone."""
    engine: Any = None
    while (order := processes.next_order()) is not None:
        verb, arguments, more = order
        try:
            if verb == MAKE:
                engine = make(*arguments, processes)
            else:
                getattr(engine, verb)(*arguments, **more)
        except EngineRefused:
            continue  # the first process refuses the same, and says so


def together(verb: Callable[Concatenate[E, P], R]) -> Callable[Concatenate[E, P], R]:
    """A verb of an engine that all processes carry out: where this one leads, the others are ordered to do the same."""

    @wraps(verb)
    def ordered(engine: E, /, *arguments: P.args, **more: P.kwargs) -> R:
        with engine._processes.ordered(verb.__name__, arguments, more):
            return verb(engine, *arguments, **more)

    return ordered


def _sharding(environment: Mapping[str, str]) -> Sharding | None:
    def said(name: str) -> bool:
        return environment.get(name, "").lower() == "true"

    for name, (what, instead) in _UNHEEDED.items():
        if said(name):
            raise EngineRefused(f"The launcher asks for {what}, which the engine `local` does not do: {instead}.")
    if environment.get("ACCELERATE_MIXED_PRECISION", "no") != "no":
        raise EngineRefused(
            "The launcher asks for mixed precision, which the engine `local` does not do: say mixed_precision: no."
        )
    if not said("ACCELERATE_USE_FSDP"):
        return None
    if environment.get("FSDP_VERSION", "2") != "2":
        raise EngineRefused("The engine `local` shards by FSDP2: say fsdp_version: 2.")
    return Sharding(environment.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() == "true")


def _said(error: Exception) -> str:
    """The first line of an error, without the place in gloo's source that it may begin with; or its kind."""
    return re.sub(r"^\[\S+\] ", "", (str(error).splitlines() or [type(error).__name__])[0]).rstrip(".")
