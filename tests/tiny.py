"""A tiny experiment with everything on, and what tests do with it: change settings, copy weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from harness.state import State

HEAD = {"hidden": 24, "bottleneck": 16, "prototypes": 16}
TINY: dict[str, Any] = {
    "name": "tiny",
    "steps": 6,
    "device": "cpu",
    "arms": {"plain": {}, "anchored": {"gram.weight": 2.0, "gram.start_step": 1}},
    "model": {
        "name": "vit_small_patch16_dinov3_qkvb",
        "args": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 0.1, "num_reg_tokens": 1},
        "rope_rescale": 2.0,
    },
    "dino": {"head": HEAD},
    "ibot": {"head": HEAD},
    "teacher": {"momentum": 0.9},
    "crops": {"global_size": 32, "local_size": 16, "local_count": 2},
    "data": {"sources": {"scenes": {"kind": "scenes", "size": 32, "count": 24}}, "batch_size": 4},
    "evals": {"every": 1000, "size": 32},
    "runtime": {"checkpoint_every": 1000, "log_every": 1, "draw": False},  # most tests look at no drawing
}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, one over the other; the arms are replaced whole."""
    found = dict(base)
    for key, value in over.items():
        deeper = isinstance(value, Mapping) and isinstance(found.get(key), Mapping) and key not in ("arms", "tasks")
        found[key] = merged(found[key], value) if deeper else value
    return found


def changed(settings: Any, values: Mapping[str, Any]) -> Any:
    """A copy of frozen settings with other values at dotted keys; a mapping takes the place of a whole dictionary."""
    sections: dict[str, dict[str, Any]] = {}
    own: dict[str, Any] = {}
    for key, value in values.items():
        head, _, rest = key.partition(".")
        if rest:
            sections.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    for head, inner in sections.items():
        below = getattr(settings, head)
        own[head] = changed(below, inner) if dataclasses.is_dataclass(below) else below | inner
    return dataclasses.replace(settings, **own)


def snapshot(state: State) -> dict[str, torch.Tensor]:
    """See `weights`."""
    modules = {"student": state.student, "teacher": state.teacher, "anchor": state.gram_teacher}
    found = {
        f"{part}.{name}": tensor.detach().clone()
        for part, module in modules.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }
    for group in state.optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for moment, value in state.optimizer.state.get(parameter, {}).items():
                found[f"optimizer.{moment}.{name}"] = torch.as_tensor(value).detach().clone()
    return found
