"""How far a long job is, as lines of JSON on standard error, for the program that started it.

{"done":3,"total":21}
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable


def lines(total: int) -> Callable[[], None]:
    """A function to call after each step. Where nobody reads any more it raises `OSError`, which rightly ends the job."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        sys.stderr.write(json.dumps({"done": done, "total": total}) + "\n")
        sys.stderr.flush()

    return step
