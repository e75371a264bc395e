"""Path patterns, gitignore style: which files are never read, and where suggestions are off.

A pattern without a slash matches any name on the way to the file (`*.pem`, `id_rsa*`); one that ends in a slash matches folders
only (`.ssh/`); one with a slash inside matches a run of names at any depth (`config/secrets.*`), `**` standing for any
number of folders. `!` takes back what an earlier pattern matched; the last match wins. Blank patterns and `#` comments are
skipped. Case never matters.

Covered: `file:` and other URIs, percent-encoding (once), Windows drives and backslashes, UNC hosts, plain paths.
Not covered: symbolic links are not resolved, the *content* of a file is not looked at, a secret pasted into an ordinary file
is not noticed, names encoded twice are not decoded twice, and there is no workspace root, so a leading slash does not anchor.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

DEFAULT_SECRET_GLOBS: tuple[str, ...] = (
    ".env*",
    "*.env",
    ".envrc",
    ".dev.vars*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".htpasswd",
    ".git-credentials",
    "credentials",
    "credentials.*",
    "secrets",
    "secrets.*",
    "*.tfvars",
    "*.tfstate*",
    ".aws/",
    ".ssh/",
    ".gnupg/",
    ".kube/",
    ".docker/config.json",
)
"""Files that hold keys by convention. Peers use such lists: Zed's `disabled_globs` (`.env*`, `*.pem`, `*.key`, `*.cert`,
`*.crt`, `.dev.vars`, `secrets.yml`) and Continue's `core/indexing/ignore.ts` (`.env*`, `id_rsa`, `.aws/`, `secrets/` …).
Left out on purpose: certificates (public by nature) and Continue's `settings.json`/`config.json` (too common)."""

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:")


def matches(uri: str, globs: Sequence[str]) -> bool:
    """Whether a URI (or plain path) falls under the patterns; the last pattern that matches decides."""
    return _matches(uri, tuple(globs))


@lru_cache(maxsize=1024)
def _matches(uri: str, globs: tuple[str, ...]) -> bool:
    """Remembered, because it is asked with every key of the same few documents."""
    segments = path_segments(uri)
    caught = False
    for negated, pattern in _compiled(globs):
        if caught == negated and pattern.search(segments):
            caught = not negated
    return caught


def is_secret(uri: str, globs: Sequence[str] = DEFAULT_SECRET_GLOBS) -> bool:
    """Whether a file looks as if it holds secrets, by its path alone."""
    return matches(uri, globs)


def is_ignored(path: str, lines: Sequence[str], *, folder: bool = False) -> bool | None:
    """Whether an ignore file (gitignore(5)) with these lines names a path relative to its own folder; None = it says nothing.

    A pattern with a slash before its end is bound to that folder. The path alone is looked at: that everything below an ignored
    folder is ignored too is for the caller. Not covered: backslashes that quote anything but a leading `#` or `!`.
    """
    segments = "/" + path.strip("/").casefold() + ("/" if folder else "")
    said = None
    for negated, pattern in _compiled(tuple(lines), bound=True):
        if pattern.search(segments):
            said = not negated
    return said


def path_segments(uri: str) -> str:
    """The path of a URI, folded to lower case, with forward slashes, one before each name: `/c:/users/x/.env`."""
    path = uri
    if _SCHEME.match(uri):
        path = uri.split(":", 1)[1].split("#", 1)[0].split("?", 1)[0]
        path = unquote(path)
    names = [name for name in path.replace("\\", "/").split("/") if name not in ("", ".")]
    return "/" + "/".join(names).casefold()


@lru_cache(maxsize=256)
def _compiled(globs: tuple[str, ...], *, bound: bool = False) -> tuple[tuple[bool, re.Pattern[str]], ...]:
    """`bound`: as an ignore file means them, from its own folder on."""
    compiled = []
    for glob in globs:
        text = glob.strip()
        negated = text.startswith("!")
        text = text[1:].strip() if negated else text
        if text.strip("/") and not text.startswith("#"):
            text = text[1:] if bound and text.startswith(("\\#", "\\!")) else text
            start = "^" if bound and "/" in text.rstrip("/") else ""
            compiled.append((negated, re.compile(start + _expression(text.casefold(), inside=bound))))
    return tuple(compiled)


def _expression(glob: str, *, inside: bool = False) -> str:
    """A regular expression for `path_segments`. Every name in it stands behind a slash, so borders are slashes.

    `inside`: a `**` at the end needs something that it stands for."""
    folder = glob.endswith("/")
    names = glob.strip("/").split("/")
    parts = []
    for at, name in enumerate(names):
        some = "+" if inside and at == len(names) - 1 else "*"
        parts.append(f"(?:/[^/]+){some}" if name == "**" else "/" + _name(name))
    # A matched folder takes everything below with it; a pattern for folders needs something below.
    return "".join(parts) + ("/" if folder else "(?:/|$)")


def _name(glob: str) -> str:
    """One name. fnmatch's wildcards may cross slashes and its form differs between Pythons, so only its classes are used."""
    expression, at = "", 0
    while at < len(glob):
        character = glob[at]
        at += 1
        if character == "*":
            expression += "[^/]*"
        elif character == "?":
            expression += "[^/]"
        elif character == "[" and (end := glob.find("]", at + 1)) > 0:
            expression += "(?=[^/])" + _class(glob[at - 1 : end + 1])
            at = end + 1
        else:
            expression += re.escape(character)
    return expression


def _class(glob: str) -> str:
    # fnmatch knows how to quote a class and what an inverted range means; it wraps it as (?s:CLASS)\Z or, newer, \z.
    translated = fnmatch.translate(glob)
    return translated[len("(?s:") : translated.rindex(")")]
