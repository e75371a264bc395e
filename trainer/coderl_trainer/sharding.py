"""A model in pieces over several processes, by torch's `fully_shard` (FSDP2).

Each process holds an n-th of every weight, of its gradient and of the optimizer's state; a layer's weights are gathered when it
is at work. Weights that are trained and weights that are not may lie in one layer, so adapters need nothing of their own.

This is ZeRO-3 (Rajbhandari et al. 2020, arXiv 1910.02054) where layers are gathered again for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .processes import Processes


def scorer(torch: Any, model: Any) -> Any:
    """The model as one module that gives logits where they are wanted: what is sharded must go through one forward pass."""

    class Scorer(torch.nn.Module):  # type: ignore[misc]  # torch is imported when an engine is made
        def __init__(self) -> None:
            super().__init__()
            self.causal = model

        def forward(self, tokens_1L: Any, positions_1L: Any, allowed_11LL: Any, sources_N: Any) -> Any:
            """(N, V) logits at the positions `sources_N`."""
            seen = self.causal.model(
                input_ids=tokens_1L, position_ids=positions_1L, attention_mask=allowed_11LL, use_cache=False
            )
            return self.causal.lm_head(seen.last_hidden_state[0][sources_N]).float()

    return Scorer()


def shard(scored: Any, processes: Processes, device_type: str) -> None:
    """Cut the weights of a `scorer` into pieces, layer by layer; its parameters are others afterwards, of the same names."""
    assert processes.sharding is not None
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device_type, (processes.count,))
    again = processes.sharding.reshard_after_forward
    for layer in scored.causal.model.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=again)
    fully_shard(scored, mesh=mesh, reshard_after_forward=again)


def let_go(scored: Any) -> None:
    """Forget weights that were gathered: after a pass without a backward one they would outlive a change of the pieces."""
    for module in scored.modules():
        if hasattr(module, "reshard"):
            module.reshard()


def whole(tensor: Any) -> Any:
    """A tensor with the pieces of all processes, where it lies in pieces; all must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole_state(module: Any, kept: Callable[[Any], Any], part: str) -> dict[str, Any]:
    """The tensors of a module whose names hold `part`, as `kept` gives them; one with two names stays one tensor."""
    found: dict[int, Any] = {}
    state: dict[str, Any] = {}
    for name, one in module.state_dict(keep_vars=True).items():
        if part in name:
            if id(one) not in found:
                found[id(one)] = kept(one.detach())
            state[name] = found[id(one)]
    return state


def as_lies(tensor: Any, model: Any) -> Any:
    """A whole tensor in pieces as `model` is, where that is; all must ask."""
    if not hasattr(model, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, model.device_mesh, model.placements)
