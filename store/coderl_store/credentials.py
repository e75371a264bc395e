"""What looks like a credential in a text: the formats of well-known services, and long random values of a telling name. Pure.

It lies in the store because everything that keeps, shows or exports text may ask it; the store itself asks nothing yet.

The formats and the entropy of 3.5 bits are facts taken from gitleaks (`gitleaks/gitleaks`, `config/gitleaks.toml`). Covered: a
name and a value on one line, a value of which only the end is new. Not covered: short or pronounceable passwords, values put
together from pieces, formats that are not listed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

ENTROPY_BITS = 3.5
"""A value below this many bits per character is a word or a placeholder (gitleaks `generic-api-key`)."""
BEFORE_CHARS = 400
"""How much of the text before is looked at together with a text."""

_FORMATS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "private key": re.compile(r"-----BEGIN[ A-Z0-9_-]{0,100}PRIVATE KEY"),
        "AWS access key": re.compile(r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b(?<!EXAMPLE)"),
        "GitHub token": re.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_\w{36})"),
        "GitLab token": re.compile(r"\bglpat-[\w-]{20}"),
        "Slack token": re.compile(r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}\d"),
        "Stripe key": re.compile(r"\b[rs]k_(?:live|test|prod)_[0-9A-Za-z]{10,}"),
        "Google key": re.compile(r"\bAIza[\w-]{35}"),
        "model service key": re.compile(r"\bsk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}"),
        "package registry token": re.compile(r"\b(?:npm_[0-9A-Za-z]{36}|pypi-[\w-]{50,}|hf_[A-Za-z]{34})"),
        "JSON web token": re.compile(r"\bey[A-Za-z0-9]{17,}\.ey[A-Za-z0-9/\\_-]{17,}\.[\w-]{10,}"),
    }
)
_NAMED = re.compile(
    r"(?:passwd|password|pwd|secret|token|credential|auth|api_?key|access_?key|private_?key)\w*[\"'\]]*"
    r"\s*(?::=|=>|[:=])\s*[a-z]?[\"'`]([^\"'`\s]{16,})",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s:/@'\"]+:([^\s:/@'\"]{3,})@")
_PLACEHOLDER = re.compile(
    r"[<>{}$%*]|\.\.\.|your|example|placeholder|changeme|dummy|sample|fake|xxx|^(?:pass\w*|pwd|secret|user|admin|root|postgres|test)$",
    re.IGNORECASE,
)


def credential_in(text: str, before: str = "") -> str | None:
    """What kind of credential a text seems to hold; None where it holds none, or only one that lies wholly in `before`."""
    whole = before[-BEFORE_CHARS:] + text
    new = len(whole) - len(text)
    for kind, pattern in _FORMATS.items():
        if any(found.end() > new for found in pattern.finditer(whole)):
            return kind
    for found in _NAMED.finditer(whole):
        if found.end() > new and _random(found[1]):
            return "value of a secret name"
    for found in _IN_ADDRESS.finditer(whole):
        if found.end(1) > new and not _PLACEHOLDER.search(found[1]):
            return "password in an address"
    return None


def entropy_bits(text: str) -> float:
    """Shannon entropy per character, from the text's own frequencies."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def _random(value: str) -> bool:
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return mixed and not _PLACEHOLDER.search(value) and entropy_bits(value) > ENTROPY_BITS
