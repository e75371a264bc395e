"""Which tests of a task the reward is made of, and which only measure. Pure.

Half of the tests of every task are kept out of the reward: where the visible ones pass and the hidden ones fail, the answer
was fitted to the tests and not to the task (the gap that SpecBench reports, arXiv 2605.21384). Which half is settled by a hash
of the problem's name and the test's text: it does not depend on the order of a file, on the other tasks or on a random seed,
and a test that is hidden in one task of a problem is hidden in all that have the same tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def visible_and_hidden(problem: str, tests: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(Visible, hidden) tests of a task, each in the order given; the same test twice counts once.

    Of n tests the ⌈n/2⌉ with the smallest hashes are visible, so one always is; a single test leaves none hidden. One test more
    moves at most one of the others to the other side.
    """
    different = list(dict.fromkeys(tests))
    ranked = sorted(different, key=lambda test: hashlib.sha256(f"{problem}\0{test}".encode()).digest())
    seen = frozenset(ranked[: -(-len(ranked) // 2)])
    return tuple(test for test in different if test in seen), tuple(test for test in different if test not in seen)
