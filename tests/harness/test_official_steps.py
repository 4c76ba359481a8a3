"""Ten training steps against those of the official implementation, facebookresearch/dinov3 at 6876159.

`official_steps.json` holds what it computes in float64 (its losses in float32): multi-crop, masks, Sinkhorn, DINO,
iBOT, KoLeo, a Gram teacher on larger crops that is renewed on the way, layer decay, the slower patch embedding, the
frozen last layer, AdamW and the EMA. Gradients stay below the limit there, so nothing is clipped. Weights and crops
come from a formula. These numbers are never written anew: where they differ, our step has left the official one.
"""

import json
import math
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.beginning import fresh_state
from harness.config import load
from harness.data.batches import Batch
from harness.schedules import at
from harness.state import State
from harness.step import train_step

ROOT = Path(__file__).resolve().parents[2]
OFFICIAL = json.loads((ROOT / "tests" / "golden" / "official_steps.json").read_text())
TERMS = ("loss", "dino_global", "dino_local", "ibot", "koleo", "gram")
SCHEDULED = {  # the file's name: ours
    "lr": "lr",
    "last_layer_lr": "last_layer_lr",
    "temperature": "temperature",
    "momentum": "momentum",
    "renew_gram_teacher": "renew_gram_teacher",
}


@pytest.fixture(scope="module")
def ours():
    """The same ten steps by our code, in the layout of the official file."""
    settings = load(ROOT / "experiments" / "vits_smoke.yaml", OFFICIAL["overrides"])
    state = filled_state(settings)
    gradients = watch_gradients(state.student)
    steps = [take_step(state, settings, step, gradients) for step in range(len(OFFICIAL["steps"]))]
    return {"steps": steps, "student_norms": norms(state.student), "teacher_norms": norms(state.teacher)}


def take_step(state: State, settings, step: int, gradients: dict[str, float]) -> dict:
    now = at(settings, step)
    gradients.clear()
    terms = train_step(state, batch(step), now, settings, seed=0)
    return {
        **{name: terms[name].item() for name in TERMS},
        **{name: getattr(now, mine) for name, mine in SCHEDULED.items()},
        "grad_norm": joined(gradients, part),
        "joint_grad_norm": terms["grad_norm"].item(),
    }


def filled_state(settings) -> State:
    """In float64 but for the table of RoPE, whose rounding is less than that of the official losses."""
    state = fresh_state(settings, 0, torch.device("cpu"))
    student, teacher = state.student.double(), state.teacher.double()
    with torch.no_grad():
        for (name, weight), followed in zip(student.named_parameters(), teacher.parameters(), strict=True):
            weight.copy_(fill(f"weights/{name}", weight.shape, *bounds(name)))
            followed.copy_(weight + 0.02 * fill(f"teacher/{name}", weight.shape))
    return state


def batch(step: int) -> Batch:
    masked = [[c % 2 == 0 and (5 * c + 3 * p) % 7 < 2 + c // 4 for p in range(16)] for c in range(8)]
    return Batch(
        globals=fill(f"globals/{step}", (2, 4, 3, 64, 64), -2, 2),
        locals=fill(f"locals/{step}", (3, 4, 3, 32, 32), -2, 2),
        gram=fill(f"gram/{step}", (2, 4, 3, 128, 128), -2, 2),
        masks=torch.tensor(masked),
        indices=torch.arange(4),
        component=None,
    )


def fill(name: str, shape: tuple[int, ...], low: float = -1, high: float = 1) -> torch.Tensor:
    key = int.from_bytes(sha256(name.encode()).digest()[:16], "little")
    uniform = np.random.Generator(np.random.Philox(key=key)).random(math.prod(shape))
    return torch.from_numpy(low + (high - low) * uniform).view(*shape)


def bounds(name: str) -> tuple[float, float]:
    if "gamma" in name:
        return 0.2, 0.6
    if "norm" in name and name.endswith("weight"):
        return 0.8, 1.2
    if name.endswith("bias") or name == "mask_token":
        return -0.1, 0.1
    return -0.12, 0.12


def watch_gradients(network: torch.nn.Module) -> dict[str, float]:
    """The norm of every gradient by its weight's name, filled in by each backward pass: before any clipping."""
    found: dict[str, float] = {}
    for name, weight in network.named_parameters():
        weight.register_post_accumulate_grad_hook(lambda w, name=name: found.update({name: w.grad.norm().item()}))
    return found


def norms(network: torch.nn.Module) -> dict[str, float]:
    return joined({name: weight.norm().item() for name, weight in network.named_parameters()}, official_name)


def joined(norms: dict[str, float], key) -> dict[str, float]:
    """The norms of what bears one key together."""
    groups: dict[str, list[float]] = {}
    for name, norm in norms.items():
        groups.setdefault(key(name), []).append(norm)
    return {name: math.hypot(*group) for name, group in groups.items()}


def official_name(name: str) -> str:
    """Query and value biases are one weight there, with zeros for the keys between them."""
    return name.replace(".q_bias", ".qkv.bias").replace(".v_bias", ".qkv.bias")


def part(name: str) -> str:
    """The mask token belongs to the backbone there."""
    return name.split(".")[0] if "_head." in name else "backbone"


@pytest.mark.parametrize("term", TERMS)
def test_every_term_of_the_loss_is_the_official_one(ours, term):
    found, official = ([row[term] for row in rows["steps"]] for rows in (ours, OFFICIAL))
    assert found == pytest.approx(official, rel=2e-6, abs=1e-7)  # theirs are rounded to float32


@pytest.mark.parametrize("value", SCHEDULED)
def test_every_scheduled_value_is_the_official_one(ours, value):
    found, official = ([row[value] for row in rows["steps"]] for rows in (ours, OFFICIAL))
    assert found == pytest.approx(official, rel=1e-12)


def test_gradients_of_each_part_have_the_official_norms_before_clipping(ours):
    for mine, theirs in zip(ours["steps"], OFFICIAL["steps"], strict=True):
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-6)
        assert mine["joint_grad_norm"] == pytest.approx(math.hypot(*theirs["grad_norm"].values()), rel=1e-6)


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_every_weight_ends_with_its_official_norm(ours, network):
    found, official = ours[f"{network}_norms"], OFFICIAL[f"{network}_norms"]
    assert found == pytest.approx(official, rel=1e-6)
