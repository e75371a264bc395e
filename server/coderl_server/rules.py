"""The programmer's own rules, checked before any model is asked. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from coderl_generator.globs import matches
from coderl_store.records import Reason, Trigger

from .settings import Settings


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rules look at, at the moment of the request. Times are seconds of the session's clock."""

    uri: str
    language: str
    document_chars: int
    trigger: Trigger
    now_s: float
    snoozed_until_s: float = 0.0
    cooldown_until_s: float = 0.0
    several_cursors: bool = False


def place_objection(uri: str, language: str, document_chars: int, settings: Settings) -> Reason | None:
    """The first rule that keeps a document from being read at all, or None: for suggestions in it, and as context elsewhere."""
    if matches(uri, settings.secret_globs):
        return Reason.SECRET_FILE
    if not settings.enabled or not settings.languages.get(language, True):
        return Reason.DISABLED
    if settings.disable_globs and matches(uri, settings.disable_globs):
        return Reason.DISABLED
    if document_chars > settings.max_document_chars:
        return Reason.TOO_LARGE
    return None


def objection(situation: Situation, settings: Settings) -> Reason | None:
    """The first rule that forbids a suggestion, or None.

    Asking by hand lifts the rules of timing (snooze, cooldown, manual-only) but never those of place: a secret file
    is not read because a key was pressed.
    """
    unreadable = place_objection(situation.uri, situation.language, situation.document_chars, settings)
    if unreadable is not None:
        return unreadable
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
    return None
