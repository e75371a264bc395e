"""Why a request ended as it did: the words of the log, each with its sentence for the programmer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Reason(StrEnum):
    """Why a request ended as it did; `coderl/why` says `sentence` to the programmer."""

    # shown
    WORTH_SHOWING = "worth_showing"
    CONFIDENT_DRAFT = "confident_draft"
    EXPLORED = "explored"
    ASKED_FOR = "asked_for"
    ALWAYS_SHOWN = "always_shown"
    TYPED_ALONG = "typed_along"
    # withheld by a model
    UNLIKELY_BEFORE = "unlikely_before"
    BELOW_THRESHOLD = "below_threshold"
    NEVER_SHOWN = "never_shown"
    # withheld by the user's own rules
    DISABLED = "disabled"
    SNOOZED = "snoozed"
    MANUAL_ONLY = "manual_only"
    SECRET_FILE = "secret_file"
    TOO_LARGE = "too_large"
    COOLDOWN = "cooldown"
    REJECTED_BEFORE = "rejected_before"
    UNDOES_EDIT = "undoes_edit"
    CREDENTIAL = "credential"
    UNKNOWN_DOCUMENT = "unknown_document"
    MULTI_CURSOR = "multi_cursor"
    # nothing to show
    EMPTY = "empty"
    DUPLICATE = "duplicate"
    REPETITION = "repetition"
    TOO_SHORT = "too_short"
    NO_MODEL = "no_model"
    SUPERSEDED = "superseded"
    TIMED_OUT = "timed_out"
    GENERATOR_FAILED = "generator_failed"
    GATE_FAILED = "gate_failed"
    INTERNAL_ERROR = "internal_error"

    @property
    def sentence(self) -> str:
        """One sentence a person can read."""
        return _SENTENCES[self]


_SENTENCES: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.WORTH_SHOWING: "The suggestion is likely enough to be kept to be worth the time it takes to read.",
        Reason.CONFIDENT_DRAFT: "The place alone makes an accept so likely that a short line was shown without a second check.",
        Reason.EXPLORED: "Shown although the gate would have stayed silent: a rare random trial, so that the gate can learn.",
        Reason.ASKED_FOR: "You asked for it, so it was shown whatever the gate thinks.",
        Reason.ALWAYS_SHOWN: "The rule `always_show` is set: everything is shown, whatever the gate thinks.",
        Reason.TYPED_ALONG: "You type what is suggested, so the suggestion stays; nothing was decided anew.",
        Reason.NEVER_SHOWN: "The rule `never_show` is set: nothing is shown, whatever the gate thinks.",
        Reason.UNLIKELY_BEFORE: "At this place a suggestion is so unlikely to be kept that none was generated.",
        Reason.BELOW_THRESHOLD: "A suggestion was generated, but reading it would probably have cost more time than it saves.",
        Reason.DISABLED: "Suggestions are switched off here (by language, by path or altogether).",
        Reason.SNOOZED: "Suggestions are snoozed.",
        Reason.MANUAL_ONLY: "Suggestions are set to come only when you ask for them.",
        Reason.SECRET_FILE: "This file looks as if it holds secrets, so it is never read.",
        Reason.TOO_LARGE: "The document or the suggestion is larger than the size limit in the settings.",
        Reason.COOLDOWN: "You dismissed a suggestion a moment ago, so it is quiet for a while.",
        Reason.REJECTED_BEFORE: "You rejected this very text at this place before.",
        Reason.UNDOES_EDIT: "The suggestion would have put back what you had just deleted here.",
        Reason.CREDENTIAL: "The suggestion held something that looks like a credential.",
        Reason.UNKNOWN_DOCUMENT: "The editor never opened this document with the server.",
        Reason.MULTI_CURSOR: "Several cursors are active.",
        Reason.EMPTY: "The generator had nothing to say here.",
        Reason.DUPLICATE: "The suggestion only repeated what already stands around the place.",
        Reason.REPETITION: "The suggestion went round in circles.",
        Reason.TOO_SHORT: "The suggestion was quicker to type than to read.",
        Reason.NO_MODEL: "No model is installed: run `coderl models install`.",
        Reason.SUPERSEDED: "You typed on before the answer was ready.",
        Reason.TIMED_OUT: "The generator did not answer in time.",
        Reason.GENERATOR_FAILED: "The generator failed; the log has the error.",
        Reason.GATE_FAILED: "The gate failed; the log has the error.",
        Reason.INTERNAL_ERROR: "CodeRL itself broke on this request (a bug of ours); the log has the error.",
    }
)
