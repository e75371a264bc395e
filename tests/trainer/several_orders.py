"""What the processes of tests/trainer/test_processes.py run: `python several_orders.py WAIT_S VERB`, a verb of `Doll`."""

from __future__ import annotations

import sys
import time
from typing import Any

from coderl_trainer.errors import EngineFailed, EngineRefused
from coderl_trainer.processes import MAKE, Launched, Processes, follow, launched, together


class Doll:
    """In the place of an engine; it needs no model."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    @together
    def add(self, numbers: int) -> list[float]:
        """`numbers` tensors, of which the sums are told."""
        import torch

        tensors = [torch.full((2, 3), float(at + self._processes.rank)) for at in range(numbers)]
        self._processes.add_up(tensors)
        return [float(one.mean()) for one in tensors]

    @together
    def name(self) -> list[int]:
        return self._processes.gathered(lambda: self._processes.rank, "counting")

    @together
    def refuse(self) -> None:
        raise EngineRefused("this is asked for in vain")

    @together
    def fail_on_the_second(self) -> None:
        def work() -> None:
            if self._processes.rank:
                raise ValueError("no memory is left")

        self._processes.gathered(work, "learning")

    @together
    def rest(self) -> None:
        """Short common works, one after another, so that a process can be ended in the middle."""
        for number in range(10_000):
            self._processes.gathered(lambda: time.sleep(0.01), "resting")
            if not number and not self._processes.rank:
                print("ready", flush=True)


def lead(processes: Processes, verb: str) -> Any:
    with processes.ordered(MAKE, (), {}):
        doll = Doll(processes)
    if verb == "idle":
        print("ready", flush=True)
        time.sleep(600)
    if verb == "all":
        try:
            doll.refuse()
        except EngineRefused:
            return doll.name(), doll.add(numbers=3)
    return getattr(doll, verb)()


def main() -> None:
    wait_s, verb = float(sys.argv[1]), sys.argv[2]
    try:
        with launched(wait_s=wait_s) as processes:
            if isinstance(processes, Launched) and processes.rank:
                follow(processes, Doll)
            else:
                print(lead(processes, verb))
    except EngineFailed as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
