"""The state of the engine `local` in a folder: weights, optimizer and random numbers in one file, a manifest beside it, last.

What is written is whole, also where the engine's tensors lie in pieces over several processes (`coderl_trainer.sharding`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from .engine import MANIFEST
from .errors import EngineRefused
from .run_files import write_whole
from .sharding import as_lies

_STATE = "state.pt"
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps in the shape of its weight."""


def write_state(torch: Any, folder: Path, state: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Write both; there is never one state's manifest beside another's weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    torch.save(state, folder / _STATE)
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))


def read_state(torch: Any, folder: Path, engine_id: str, shapes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """(state, the loop's part), of the engine with this id and weights of these shapes. Raises `EngineRefused`."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        written_by, loop_state = manifest["engine_id"], dict(manifest["loop_state"])
        state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        found = {name: one.shape for name, one in state["weights"].items()}
        complete = state.keys() >= {"optimizer", "random", "torch_random", "version"}
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, UnpicklingError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EngineRefused(f"{folder} holds no state of an engine that could be read: {why}") from error
    if written_by != engine_id:
        raise EngineRefused(f"{folder} was written by {written_by}, this engine is {engine_id}.")
    if not complete or found != shapes:
        raise EngineRefused(f"The weights in {folder} are not those of this engine's model.")
    return state, loop_state


def whole_optimizer(torch: Any, optimizer: Any, kept: Callable[[Any], Any]) -> dict[str, Any] | None:
    """The state of AdamW, each tensor as `kept` gives it; None where there was no step yet."""
    if optimizer is None:
        return None
    state: dict[str, Any] = optimizer.state_dict()
    of_all = {
        index: {name: kept(one) if torch.is_tensor(one) else one for name, one in of_one.items()}
        for index, of_one in state["state"].items()
    }
    return {**state, "state": of_all}


def restored_optimizer(torch: Any, trained: Sequence[Any], state: Mapping[str, Any] | None) -> Any:
    """AdamW over `trained` with what `whole_optimizer` gave, in pieces where they are."""
    if state is None:
        return None
    optimizer = torch.optim.AdamW(trained)
    of_all = {
        index: {name: as_lies(one, trained[index]) if name in _MOMENTS else one for name, one in of_one.items()}
        for index, of_one in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": of_all})
    return optimizer
