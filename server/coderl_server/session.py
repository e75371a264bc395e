"""What the server remembers of one editor session. Mutable, one per process; handlers get frozen captures of it.

Everything here is cheap bookkeeping on the session's clock: what was accepted lately, what was rejected where, what is snoozed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from coderl_gate.adaptation import RECENT as ADAPTED_RECENT
from coderl_gate.adaptation import Adaptation, Judged, adaptation
from coderl_gate.pace import OnlinePace
from coderl_store.records import Origin

from .edit_history import EditHistory
from .positions import Edit
from .rhythm import KEY_CHARS, PAUSE_S, Rhythm
from .settings import Settings
from .shape import RECENT_BLOCKS, RECENT_BLOCKS_S
from .touched import Touched

RECENT = 10
"""How many outcomes the gate's history features look back on."""
HOUR_S = 3600.0
REJECTIONS = 5
REJECTION_CHARS = 400
"""How many texts that were not kept the gate compares a suggestion with, and how much of each."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who and what this session is."""

    session_id: str
    user_key: str
    salt: bytes = field(repr=False)
    origin: Origin = Origin.EDITOR
    seed: int | None = None


@dataclass(slots=True)
class Session:
    """The mutable state. Times are seconds of the session's clock."""

    identity: Identity
    settings: Settings
    started_s: float
    rhythm: Rhythm = field(default_factory=Rhythm)
    edits: EditHistory = field(default_factory=EditHistory)
    touched: Touched = field(default_factory=Touched)
    pace: OnlinePace = field(default_factory=OnlinePace)
    recent_accepts: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))
    judged: deque[Judged] = field(default_factory=lambda: deque(maxlen=ADAPTED_RECENT))
    """What adaptation looks back on: outcomes of suggestions that came unasked, with the estimate they were shown with."""
    blocks: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=RECENT_BLOCKS))
    """Suggestions over several lines that got their outcome: when, and whether they were kept."""
    last_edit_s: float | None = None
    last_outcome_s: float | None = None
    last_dismissal_s: float | None = None
    not_kept: deque[str] = field(default_factory=lambda: deque(maxlen=REJECTIONS))
    """Texts that were seen and not kept, oldest first."""
    snoozed_until_s: float = 0.0
    cooldown_until_s: float = 0.0
    several_cursors: bool = False
    """The last change wrote the same text at several places: the protocol tells of several cursors in no other way."""
    _explored_s: deque[float] = field(default_factory=deque)
    _rejections: deque[tuple[str, tuple[str, ...]]] = field(default_factory=deque)

    def may_explore(self, now_s: float) -> bool:
        """Random trials: not within the cooldown after a dismissal, not beyond the cap of the last hour."""
        while self._explored_s and now_s - self._explored_s[0] > HOUR_S:
            self._explored_s.popleft()
        return now_s >= self.cooldown_until_s and len(self._explored_s) < self.settings.explore_per_hour

    def edited(self, now_s: float, uri: str, edits: Sequence[Edit]) -> None:
        """The programmer changed a document. Keystrokes that follow on each other move the pace (`Rhythm` says what a
        keystroke is)."""
        gap_s = None if self.last_edit_s is None else now_s - self.last_edit_s
        if gap_s is not None and 0.0 <= gap_s < PAUSE_S and len(edits) == 1 and len(edits[0].new_text) <= KEY_CHARS:
            self.pace = self.pace.keyed(now_s, gap_s)
        self.last_edit_s = now_s
        self.edits.edited(now_s, uri, edits)
        self.touched.edited(uri, edits)
        # Equal keys of one cursor, which come in one change where they are typed fast, stand side by side.
        apart = any(edit.start != before.new_end and edit.end != before.start for before, edit in pairwise(edits))
        self.several_cursors = apart and len({edit.new_text for edit in edits}) == 1

    def explored(self, now_s: float) -> None:
        """A trial was made."""
        self._explored_s.append(now_s)

    def seen(self, kept: bool, now_s: float, text: str = "", p: float | None = None) -> None:
        """A suggestion the programmer saw got its outcome. `text` is what it read, where that is still known; `p` = P(kept) it
        was shown with, None where it was asked for: that says nothing of how much to say unasked."""
        self.recent_accepts.append(kept)
        self.last_outcome_s = now_s
        if "\n" in text:
            self.blocks.append((now_s, kept))
        if not kept and text:
            self.not_kept.append(text[:REJECTION_CHARS])
        if p is not None:
            self.judged.append(Judged(now_s, p, kept))

    def recent_blocks(self, now_s: float) -> tuple[bool, ...]:
        """Whether the last suggestions over several lines were kept, oldest first (`coderl_server.shape`)."""
        return tuple(kept for at_s, kept in self.blocks if now_s - at_s <= RECENT_BLOCKS_S)

    def adaptation(self, now_s: float) -> Adaptation:
        """How the last outcomes move the dial now, whether the setting lets them or not."""
        return adaptation(self.judged, now_s)

    def dismissed(self, uri: str, line_prefix: str, text: str, now_s: float) -> None:
        """The programmer said no: quiet for a while, and not this text here again."""
        self.cooldown_until_s = now_s + self.settings.cooldown_s
        self.last_dismissal_s = now_s
        self._rejections.append((uri, _lines(line_prefix + text)))
        while len(self._rejections) > self.settings.remember_rejections:
            self._rejections.popleft()

    def rejected_before(self, uri: str, prefix: str, text: str) -> bool:
        """Whether `text` after `prefix` (the line's, or more of the document) would put a rejected text where it was rejected.

        Compared are whole lines without their blanks, as they would stand: so it does not matter how much of the text has been
        typed meanwhile, over how many lines, nor how it is indented.
        """
        if not self._rejections:
            return False
        stand = _lines(prefix + text)
        return any(where == uri and stand[-len(lines) :] == lines for where, lines in self._rejections)


def since_ms(then_s: float | None, now_s: float) -> float | None:
    """Milliseconds from `then_s` to `now_s`; None where `then_s` is not known."""
    return None if then_s is None else round((now_s - then_s) * 1000, 3)


def _lines(text: str) -> tuple[str, ...]:
    """The lines that hold something, without blanks and whatever their line ends."""
    return tuple(bare for line in text.splitlines() if (bare := "".join(line.split())))
