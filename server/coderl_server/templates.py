"""Which prompt template a session uses: the one that is named, else the one that fits what the model says of itself."""

from __future__ import annotations

import logging
from pathlib import Path

from coderl_generator.errors import ModelDamaged, ModelMissing
from coderl_generator.families import PLAIN, ModelMetadata, family_of, lacking
from coderl_generator.fim_templates import PREFIX_ONLY, TEMPLATES
from coderl_generator.models import EMBEDDED
from coderl_generator.promotion import find_active

from .errors import InputError

AUTO = "auto"

logger = logging.getLogger(__name__)


def chosen_template(named: str, backend: str, model: str, home: Path) -> tuple[str, str]:
    """(Name of the template, a sentence for the programmer where something is wrong with it, else empty).

    `named` by the command line wins, even over a vocabulary without its tokens, which is then said. For a GGUF file its header
    is read, for a server its model's name alone; of other backends nothing is known. Raises InputError for an unknown template.
    """
    if named not in ("", AUTO, *TEMPLATES):
        raise InputError(f"--template must be one of {', '.join((AUTO, *TEMPLATES))}, not {named!r}.")
    explicit = "" if named == AUTO else named
    try:
        metadata = _metadata(backend, model, home, explicit)
    except (ModelMissing, ModelDamaged) as error:
        logger.info("Nothing is known of the model's prompt template: %s", error)  # the backend says the same, aloud
        return explicit or PLAIN, ""
    if not explicit:
        return family_of(metadata), ""
    missing = () if explicit in PREFIX_ONLY else lacking(explicit, metadata.vocabulary)
    if not missing:
        return explicit, ""
    return explicit, (
        f"The model's vocabulary does not hold the control tokens of the template `{explicit}` ({', '.join(missing)}): "
        "suggestions will be poor. Leave --template out, or name another one."
    )


def _metadata(backend: str, model: str, home: Path, explicit: str) -> ModelMetadata:
    if backend == "openai":
        return ModelMetadata((model,))
    if backend != "llamacpp" or explicit in PREFIX_ONLY:
        return ModelMetadata(())
    path = find_active(home, model)
    if path.name == EMBEDDED.file_name and not explicit:
        return ModelMetadata((EMBEDDED.name,))  # known; its header need not be read at every start
    from coderl_generator.gguf_header import read_metadata

    try:
        return read_metadata(path)
    except (ModelDamaged, OSError, ValueError) as error:
        logger.warning("The prompt template is `plain` unless --template names one: %s", error)
        return ModelMetadata(())
