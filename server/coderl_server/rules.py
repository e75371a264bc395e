"""The programmer's own rules, checked before any model is asked. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from coderl_store.records import Reason, Trigger

from .globs import matches
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rules look at, at the moment of the request. Times are seconds of the session's clock."""

    uri: str
    language: str
    document_chars: int
    trigger: Trigger
    now_s: float
    since_edit_ms: float | None
    snoozed_until_s: float = 0.0
    cooldown_until_s: float = 0.0
    several_cursors: bool = False


def objection(situation: Situation, settings: Settings) -> Reason | None:
    """The first rule that forbids a suggestion, or None.

    Asking by hand lifts the rules of timing (snooze, idle time, cooldown, manual-only) but never those of place: a secret file
    is not read because a key was pressed.
    """
    if matches(situation.uri, settings.secret_globs):
        return Reason.SECRET_FILE
    if not settings.enabled or not settings.languages.get(situation.language, True):
        return Reason.DISABLED
    if settings.disable_globs and matches(situation.uri, settings.disable_globs):
        return Reason.DISABLED
    if situation.document_chars > settings.max_document_chars:
        return Reason.TOO_LARGE
    if situation.several_cursors:
        return Reason.MULTI_CURSOR
    if situation.trigger is Trigger.INVOKED:
        return None
    if settings.manual_only:
        return Reason.MANUAL_ONLY
    if situation.now_s < situation.snoozed_until_s:
        return Reason.SNOOZED
    if situation.now_s < situation.cooldown_until_s:
        return Reason.COOLDOWN
    if situation.since_edit_ms is not None and situation.since_edit_ms < settings.min_idle_ms:
        return Reason.TOO_SOON
    return None
