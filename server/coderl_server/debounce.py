"""How long a request waits for the next key before a generation is begun for it.

A generation that the next key ends was paid for nothing. So the answer should come no sooner than the next key would, if there
were one: the wait is so many mean gaps between keys, less the time since the last key and the time that the generator takes.
A likely accept waits less. The form is Tabby's (`clients/tabby-agent/src/codeCompletion/debouncer.ts`: rate · mean gap − mean
server time, 1.5 to 3 gaps by how acceptable the place looks, 100 to 1,000 ms); ours has P(kept) for the look of the place, and
shorter limits, because generations here go on while what is typed agrees with them.

Disagreements come in runs: whoever writes a comment that the model cannot guess begins and ends a generation with each key. So
after each one that was given up the next waits `MISS_GAPS` more, up to `MOST_MISS_GAPS`, until one comes to its end: a run of
keys then begins few, and whoever stops to think still gets an answer.

Nobody stops to think behind the first letters of a word: an answer is not missed there, and the next letter says more of what
is wanted. So a word of at most `BEGUN_CHARS` letters waits `BEGUN_GAPS` more. (Tabby halves its wait where the last sign is
none of a word; p1 knows that too, but it says what is kept, not when the next key comes.)
"""

from __future__ import annotations

from typing import Final

from coderl_store.records import Trigger

SURE_GAPS: Final = 0.5
UNSURE_GAPS: Final = 1.5
"""Mean gaps between keys that pass before an answer, where an accept is certain, and where it is out of the question."""
MISS_GAPS: Final = 0.5
MOST_MISS_GAPS: Final = 1.0
"""Mean gaps between keys that a generation waits more for each one before it that was given up, and at most."""
BEGUN_CHARS: Final = 4
BEGUN_GAPS: Final = 1.0
"""Letters of a word that has only begun, and mean gaps that are waited for its next one."""
MEMORY: Final = 0.8
"""Weight of the mean answer time so far against the newest."""


class Debounce:
    """Keeps the mean time that generations take; in milliseconds throughout."""

    def __init__(self) -> None:
        self._answer_ms: float | None = None

    def answered(self, answer_ms: float) -> None:
        """A generation was begun for a request and took so long."""
        known = self._answer_ms
        self._answer_ms = answer_ms if known is None else MEMORY * known + (1 - MEMORY) * answer_ms

    def delay_ms(
        self,
        p1: float,
        interval_ms: float | None,
        since_edit_ms: float | None,
        most_ms: float,
        *,
        misses: int = 0,
        word_chars: float = 0.0,
    ) -> float:
        """How long to wait, in [0, `most_ms`]; 0 where nobody has typed yet.

        `p1`: P(kept) by the place alone. `interval_ms`: mean gap between the last keys. `since_edit_ms`: how long ago the last
        one was when the request came. `misses`: so many generations in a row were given up. `word_chars`: of the word that
        ends at the cursor, 0 where none does.
        """
        if interval_ms is None or since_edit_ms is None:
            return 0.0
        gaps = UNSURE_GAPS + (SURE_GAPS - UNSURE_GAPS) * p1
        waited_ms = max(0.0, gaps * interval_ms - (self._answer_ms or 0.0))
        more_gaps = min(MOST_MISS_GAPS, MISS_GAPS * misses) + (BEGUN_GAPS if 1 <= word_chars <= BEGUN_CHARS else 0.0)
        waited_ms += more_gaps * interval_ms
        return min(most_ms, max(0.0, waited_ms - since_edit_ms))


def idle_s(min_idle_ms: float, since_edit_ms: float | None, trigger: Trigger) -> float:
    """How much of the minimum idle time is still to pass; nothing where a suggestion was asked for by hand."""
    if trigger is Trigger.INVOKED or since_edit_ms is None:
        return 0.0
    return max(0.0, min_idle_ms - since_edit_ms) / 1000
