"""The parts of a reward, each a pure function of one answer. `coderl_trainer.rewards` puts them together.

Every part has the same first three arguments: the task, the text of the answer as the extractor left it, and what the judge
said of it (`Judgement`, `Ungraded`, or None where nobody asked). A part answers with a number, or with None where it has
nothing to say: of an ungraded program nothing is known, and a part without its data stays silent. All parts lie in [0, 1] but
`seconds_saved`, which is in seconds.

Only visible tests are read. Hidden ones are measured elsewhere and make no reward. What the parts do not cover: whether the
visible tests say what the task means. `compiles` parses text with this process' own parser and runs nothing.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, TypeAlias

from coderl_gate.costs import CostParameters, costs_of
from coderl_generator.extract import Extracted
from coderl_generator.stop_rules import Reason

from .types import Task
from .verdicts import Judgement, Ungraded

Verdict: TypeAlias = Judgement | Ungraded | None

SYNTAX: Final = "invalid-syntax"
"""What a linter calls a program that is none."""
GRID: Final = 32
"""`partial` is a multiple of 1/GRID."""
_ENDED: Final = frozenset({Reason.END, Reason.STOP_TEXT, Reason.LINE, Reason.BLOCK, Reason.SYNTAX, Reason.DUPLICATE})
"""Reasons for which a text is whole. A block before text that goes on is ended by what already stands there (DUPLICATE)."""
_LONGEST: Final = 4000
"""Characters of a text that are compared; both comparisons take time quadratic in it, by machine words."""


# -- tests ------------------------------------------------------------------------------------------------------------------


def binary(task: Task, text: str, verdict: Verdict) -> float | None:
    """1 where every visible test passes, else 0."""
    graded = _graded(verdict)
    return None if graded is None else float(graded.passed)


def fractional(task: Task, text: str, verdict: Verdict) -> float | None:
    """(visible tests passed) / (visible tests)."""
    graded = _graded(verdict)
    return None if graded is None else sum(test.passed for test in graded.visible) / len(graded.visible)


def partial(task: Task, text: str, verdict: Verdict, *, weights: Sequence[float]) -> float | None:
    """Σ w_j over the visible tests that pass, w of `weights_of_tests`: hard tests count more than easy ones.

    Rounded to a multiple of 1/32, and 1 only where every test passes. Raises `ValueError` where there is not one weight a test.
    """
    graded = _graded(verdict)
    if graded is None:
        return None
    if graded.passed:
        return 1.0
    earned = sum(weight for weight, test in zip(weights, graded.visible, strict=True) if test.passed)
    return min(round(earned * GRID), GRID - 1) / GRID


def weights_of_tests(passes: Sequence[int], answers: int) -> tuple[float, ...]:
    """(J,) weights of J tests of which test j was passed by `passes[j]` of `answers` answers; they sum to 1.

        ρ_j = (passes_j + 1) / (answers + 2)        smoothed pass rate
        w_j ∝ (1 − ρ_j) / m_j                       m_j: how many tests have just this pass rate

    The difficulty of a test is measured while training, as in VeRPO (Wang et al. 2026, arXiv 2601.03525). Tests that are
    equally hard share one weight, because many easy tests together would outweigh the one that separates the answers (its
    "cardinality bias"). The idea is the paper's, the formulas are ours: its own were not at hand.
    """
    alike = Counter(passes)
    raw = [(1 - Fraction(count + 1, answers + 2)) / alike[count] for count in passes]
    total = sum(raw)
    return tuple(float(one / total) for one in raw)


def passes_per_test(verdicts: Sequence[Verdict]) -> tuple[tuple[int, ...], int]:
    """(How many answers pass each visible test, how many answers were graded) of one task's answers."""
    graded = [one for one in map(_graded, verdicts) if one is not None]
    return tuple(sum(test.passed for test in column) for column in zip(*(one.visible for one in graded), strict=True)), len(
        graded
    )


# -- the text that was kept -------------------------------------------------------------------------------------------------


def agreement(task: Task, text: str, verdict: Verdict) -> float | None:
    """2·LCS(s, k) / (|s| + |k|) of the text s and the text k that was finally kept (the reference), in characters.

    LCS: length of the longest common subsequence. Blanks at the end do not count. Only for tasks that no test can judge, such
    as those from the log; elsewhere None, since agreement with one of many right answers is no outcome.
    """
    if task.visible_tests or task.reference is None or isinstance(verdict, Ungraded):
        return None
    return likeness(text.rstrip(), task.reference.rstrip())


def seconds_saved(
    task: Task, text: str, verdict: Verdict, *, costs: CostParameters, full_chars: float = 80.0, waited_s: float = 0.0
) -> float | None:
    """Seconds saved by showing the text (`docs/architecture.md` §4); an empty text is silence and saves 0.

        r = (1 − ρ)·(m/v + k·lines·m/N) − (t_wait + a + b·n)        m = min(useful, full_chars)

    n: characters shown. N and `lines`: of the reference, which is what would have been written by hand (of the text where there
    is none). useful: N where the tests pass, 0 where they fail; for tasks without tests, the characters from the beginning on
    that equal the text kept, which is what a programmer takes word by word.

    So length does no harm: padding earns nothing (N is not the policy's to choose) and costs reading time, a short right answer
    saves as much as a long one, and what a wrong one costs is its reading. Rewarding acceptance alone is best served by one
    token, rewarding retained characters without bound by −1/ln q of them, where q is the chance that one more is right.
    """
    shown = text.strip()
    if isinstance(verdict, Ungraded):
        return None
    if not shown:
        return 0.0
    wanted = (task.reference or "").strip() or shown
    graded = _graded(verdict)
    if graded is not None:
        useful = len(wanted) if graded.passed else 0
    elif task.visible_tests or task.reference is None:
        return None
    else:
        useful = _same_beginning(shown, wanted)
    useful_chars = min(float(useful), full_chars)
    written = costs_of(useful_chars, _lines(wanted) * useful_chars / len(wanted), costs)
    shown_costs = costs_of(len(shown), _lines(shown), costs, waited_s)
    return written.t_write_s - written.t_edit_s - shown_costs.t_wait_s - shown_costs.t_verify_s


# -- compile and form -------------------------------------------------------------------------------------------------------


def compiles(task: Task, text: str, verdict: Verdict) -> float | None:
    """1 where the program is of the language's grammar, else 0: as the judge saw it, else by parsing it here (Python only).

    None where even the reference does not make a program, as with the cut windows of the log.
    """
    if isinstance(verdict, Ungraded):
        return None
    if verdict is not None:
        return float(verdict.compiled)
    if task.language != "python" or (task.reference is not None and not _parses(task.program(task.reference))):
        return None
    return float(_parses(task.program(text)))


def well_formed(task: Task, text: str, verdict: Verdict, *, extracted: Extracted | None = None) -> float | None:
    """The part `format`: 1 where there is text and its generation came to an end of its own, else 0.

    0 for what ran into a limit, repeated itself, began a Markdown fence, leaked a control token or did not continue the place's
    indentation. Without `extracted` only emptiness is known.
    """
    if not text.strip():
        return 0.0
    return 1.0 if extracted is None else float(extracted.reason in _ENDED)


# -- trace ------------------------------------------------------------------------------------------------------------------


def efficiency(
    task: Task,
    text: str,
    verdict: Verdict,
    *,
    reference_cpu_ms: float | None = None,
    slack: float = 1.5,
    noise_ms: float = 5.0,
) -> float | None:
    """min(1, (slack·t_ref + noise) / t) where the visible tests pass, else 0; t: processor time of the program, ms.

    After ACECode (Yang et al. 2024, arXiv 2412.17264): only right programs are compared, by their time against the
    reference's. Below `slack` times the reference there is no difference: that much is noise on a busy machine, and noise must
    not become an advantage. None where one of the times is not known.
    """
    graded = _graded(verdict)
    if graded is None or reference_cpu_ms is None:
        return None
    if not graded.passed:
        return 0.0
    if graded.cpu_ms is None:
        return None
    allowed_ms = slack * reference_cpu_ms + noise_ms
    return 1.0 if graded.cpu_ms <= allowed_ms else allowed_ms / graded.cpu_ms


def quality(
    task: Task,
    text: str,
    verdict: Verdict,
    *,
    findings: Mapping[str, int] | None = None,
    before: Mapping[str, int] | None = None,
    each: float = 0.25,
) -> float | None:
    """max(0, 1 − each·Σ_c max(0, findings_c − before_c)): what a linter finds beyond what was there already.

    `findings`: rule → how often, in the program with the text; `before`: in the program with the reference, else with an empty
    gap. A program that is none gets 0; None where `before` is none, or nothing was looked at.
    """
    if findings is None or before is None or SYNTAX in before:
        return None
    if SYNTAX in findings:
        return 0.0
    new = sum(max(0, count - before.get(rule, 0)) for rule, count in findings.items())
    return max(0.0, 1.0 - each * new)


def similarity(task: Task, text: str, verdict: Verdict, *, cap: float = 0.8) -> float | None:
    """min(s, cap)/cap, s = Σ_d |d|·likeness(d of the answer, d of the reference) / Σ_d |d|, over d = added and removed lines.

    A tie-breaker. Only lines that change count: on whole diffs, context and headers earn most of a similarity, and a comment in
    the right place came out above a rewritten right fix (CodeRepairRL). Blank lines and comments are left out, blanks inside
    lines are evened out, and nothing is gained above `cap`, so that copying the reference to the letter is no aim. What the
    lines change from: `Task.metadata["before"]`, the program before a repair; for a gap, the program with nothing in it. None
    for repairs without that text, and without a reference.
    """
    before = task.metadata.get("before")
    if task.reference is None or (before is None and task.kind == "repair"):
        return None
    start = task.program("") if before is None else before
    got, wanted = (changed_lines(start, task.program(one)) for one in (text, task.reference))
    return min(alike(got, wanted), cap) / cap


def alike(got: Sequence[str], wanted: Sequence[str]) -> float:
    """Mean likeness of texts, pair by pair, weighed by their lengths, in [0, 1]; 1 where all are empty."""
    sizes = [len(one) + len(other) for one, other in zip(got, wanted, strict=True)]
    if not sum(sizes):
        return 1.0
    return sum(size * likeness(one, other) for size, one, other in zip(sizes, got, wanted, strict=True)) / sum(sizes)


def likeness(one: str, other: str) -> float:
    """2·LCS/(sum of the lengths) of the first 4,000 characters, in [0, 1]; 1 for two empty texts."""
    one, other = one[:_LONGEST], other[:_LONGEST]
    return 1.0 if not one and not other else 2 * longest_common(one, other) / (len(one) + len(other))


def longest_common(one: str, other: str) -> int:
    """Length of the longest common subsequence; a row of its table is one integer (Crochemore et al. 2001, "A fast and
    practical bit-vector algorithm for the longest common subsequence problem")."""
    where: dict[str, int] = {}
    for index, character in enumerate(one):
        where[character] = where.get(character, 0) | (1 << index)
    full = row = (1 << len(one)) - 1
    for character in other:
        met = row & where.get(character, 0)
        row = ((row + met) | (row - met)) & full
    return len(one) - row.bit_count()


def _graded(verdict: Verdict) -> Judgement | None:
    """The judgement, where there is one and it has visible tests."""
    return verdict if isinstance(verdict, Judgement) and verdict.visible else None


def _same_beginning(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _lines(text: str) -> int:
    return text.count("\n") + 1


def changed_lines(before: str, after: str) -> tuple[str, str]:
    """(Added, removed) text from one program to another, line by line; blank lines and comments are left out, blanks inside
    lines evened out."""
    old, new = before.splitlines(), after.splitlines()
    added: list[str] = []
    removed: list[str] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            removed += old[a:b]
            added += new[c:d]
    return _evened(added), _evened(removed)


def _evened(lines: Sequence[str]) -> str:
    return "\n".join(even for line in lines if (even := re.sub(r"\s+", " ", line).strip()) and not even.startswith(("#", "//")))


def _parses(program: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(program)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True
