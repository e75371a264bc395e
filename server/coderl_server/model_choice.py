"""Which model file a command means."""

from __future__ import annotations

from .errors import InputError


def model_file(name: str) -> str:
    """The model's file, looked for in the data folder and not in `--home`, which is for the log. Raises InputError for a path
    that is no model, ModelMissing and ModelDamaged for the embedded one."""
    from coderl_generator.errors import ModelDamaged, ModelMissing
    from coderl_generator.models import EMBEDDED
    from coderl_generator.promotion import find_active
    from coderl_store.home import home

    try:
        return str(find_active(home(), name))
    except (ModelMissing, ModelDamaged) as error:
        if name in ("embedded", EMBEDDED.name):
            raise
        raise InputError(f"--model cannot be used: {error}.") from error
