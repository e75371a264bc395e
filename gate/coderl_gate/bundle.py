"""A gate artifact as one piece of bytes, to be sent from a team's server to its editors.

The form is a JSON object: the name of each file of the artifact's folder → its text. The same artifact gives the same bytes.
`unpack` trusts nothing: what it writes has passed `artifact.load`, which checks every hash.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from .artifact import GateArtifact, files_of, load, save
from .errors import ArtifactError

MEDIA_TYPE = "application/vnd.coderl.gate+json"
MOST_BYTES = 64 * 1024 * 1024
"""Larger bundles are refused. The shipped artifact has about half a megabyte."""
_NAME = re.compile(r"artifact\.json|stage[12]\.lgb\.txt")


def pack(artifact: GateArtifact) -> bytes:
    """The bytes of an artifact. Raises ArtifactError."""
    _, texts = files_of(artifact)
    return json.dumps(texts, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def unpack(data: bytes, directory: Path) -> GateArtifact:
    """Check the bytes and write the artifact's folder in place of an older one. After an ArtifactError that is still there."""
    if len(data) > MOST_BYTES:
        raise ArtifactError("The gate that was sent is too large to be one.")
    try:
        texts = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArtifactError("The gate that was sent is damaged: it is not JSON.") from error
    if not isinstance(texts, dict) or not all(_NAME.fullmatch(name) and isinstance(text, str) for name, text in texts.items()):
        raise ArtifactError("The gate that was sent is not one: it holds other files than an artifact does.")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".gate-") as name:
            for file, text in texts.items():
                (Path(name) / file).write_text(text, encoding="utf-8", newline="\n")
            return save(load(Path(name)), directory, replace_existing=True)
    except (OSError, UnicodeEncodeError) as error:
        raise ArtifactError(f"The gate that was sent cannot be written beside {directory}.") from error
