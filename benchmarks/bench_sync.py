"""Text synchronisation: what one didChange costs, here and in pygls' own document, in the same run.

`run()` returns milliseconds (medians) for: a batch of 200 changes on 10,000 lines (a rename, a format), one keystroke on 2,000,
10,000 and 50,000 lines, and one snapshot. Target of the house: the batch in at most 20 ms.

    python benchmarks/bench_sync.py
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence

from lsprotocol import types
from pygls.workspace import PositionCodec, TextDocument

from coderl_server.documents import Change, Document
from coderl_server.positions import Encoding

BATCH_LINES, BATCH_CHANGES = 10_000, 200
SIZES = (2_000, 10_000, 50_000)
TARGET_BATCH_MS = 20.0
PREFIX_CHARS, SUFFIX_CHARS = 6_000, 2_000


def source(lines: int) -> str:
    """A document of about 46 characters a line; every hundredth line is not ASCII, as real code is."""
    return "".join(
        f"    value_{i} = compute(value_{i - 1}, {i}){'  # größer 😀' if i % 100 == 0 else ''}\n" for i in range(lines)
    )


def batch(lines: int, count: int) -> list[Change]:
    """A rename: `count` replacements spread over the document, from the last to the first, as editors send them."""
    step = lines // count
    return [Change((line, 4, line, 9), "renamed") for line in reversed(range(0, step * count, step))]


def _median_ms(prepare: Callable[[], Callable[[], object]], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        work = prepare()
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _ours(text: str, changes: Sequence[Change]) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        document = Document("file:///a.py", "python", 1, text)
        return lambda: document.apply(changes, 2, Encoding.UTF16)

    return prepare


def _theirs(text: str, changes: Sequence[Change]) -> Callable[[], Callable[[], object]]:
    events = []
    for change in changes:
        assert change.range is not None
        a, b, c, d = change.range
        where = types.Range(start=types.Position(a, b), end=types.Position(c, d))
        events.append(types.TextDocumentContentChangePartial(range=where, text=change.text))

    def prepare() -> Callable[[], object]:
        codec = PositionCodec(types.PositionEncodingKind.Utf16)
        document = TextDocument("file:///a.py", text, 1, "python", position_codec=codec)

        def work() -> str:
            for event in events:
                document.apply_change(event)
            return document.source

        return work

    return prepare


def _snapshot(text: str, lines: int) -> Callable[[], Callable[[], object]]:
    document = Document("file:///a.py", "python", 1, text)
    place = iter(range(1_000_000))

    def prepare() -> Callable[[], object]:
        # Far jumps from one line to another: the worst case for the remembered offset.
        line = (lines - 2) if next(place) % 2 else 1
        return lambda: document.snapshot(line, 8, Encoding.UTF16, PREFIX_CHARS, SUFFIX_CHARS)

    return prepare


def run(quick: bool = False) -> dict[str, object]:
    """Measure; `quick` repeats less often. Raises RuntimeError where the batch is too slow or the two texts differ."""
    repeats = 3 if quick else 7
    text, changes = source(BATCH_LINES), batch(BATCH_LINES, BATCH_CHANGES)
    ours = Document("file:///a.py", "python", 1, text)
    ours.apply(changes, 2, Encoding.UTF16)
    ours_ms, theirs_ms = _median_ms(_ours(text, changes), repeats), _median_ms(_theirs(text, changes), 1 if quick else 3)
    if _theirs(text, changes)()() != ours.text():
        raise RuntimeError("The batch left another text here than in pygls.")
    if ours_ms > TARGET_BATCH_MS:
        raise RuntimeError(f"The batch took {ours_ms:.1f} ms; at most {TARGET_BATCH_MS:.0f} ms are promised.")
    result: dict[str, object] = {
        "batch": {
            "lines": BATCH_LINES,
            "changes": BATCH_CHANGES,
            "ours_ms": ours_ms,
            "pygls_ms": theirs_ms,
            "ratio": theirs_ms / ours_ms,
            "target_ms": TARGET_BATCH_MS,
        }
    }
    for lines in SIZES:
        text, key = source(lines), [Change((lines // 2, 4, lines // 2, 4), "x")]
        result[f"lines_{lines}"] = {
            "keystroke_ours_ms": _median_ms(_ours(text, key), repeats),
            "keystroke_pygls_ms": _median_ms(_theirs(text, key), repeats),
            "snapshot_ms": _median_ms(_snapshot(text, lines), 40),
        }
    return result


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
