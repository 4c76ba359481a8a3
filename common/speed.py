"""How fast this machine is in each precision and on so many threads, and which of them to choose for that.

What is measured is a block of a ViT, forwards and backwards. A bare matrix product would not do: at width 96 it is five
times as fast in bfloat16 on a CPU with units for it, and yet a training step is slower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common import machine
from common.products import fast_linear

WORTH = 1.5  # bfloat16 is chosen from so many times float32's rate on: the rest of a step gains less than its blocks
NEAR = 0.95  # of the best rate is near enough: the cores that it would take are left to others
SLOWED = 0.8  # of the rate of fewer threads; small work alone does not cost more threads that much
TOKENS = 64  # of an image in a measured block

Clock = Callable[[], float]


def block_rate(
    device: torch.device,
    *,
    width: int = 384,
    precision: str = "float32",
    seconds: float = 0.3,
    clock: Clock = time.perf_counter,
) -> float:
    """Operations a second in the matrix products of a block, on torch's present threads.

    Batches grow from one image until they are as large as a step's usual ones or take 50 ms, so that a precision
    without units of its own, at 1 GFLOP/s, holds nobody up; nor do the widest models, whose rate is that of width 768.
    """
    width = 32 * max(1, min(width, 768) // 32)
    shapes = ((3 * width, width), (width, width), (4 * width, width), (width, 4 * width))  # outputs, inputs
    weights = [torch.full(shape, 0.01, device=device, requires_grad=True) for shape in shapes]
    usual = 2 ** (18 if device.type == "cpu" else 23) // (TOKENS * width)
    images, turns, end = 1, list[float](), time.perf_counter() + seconds
    while not turns or time.perf_counter() < end:
        turns.append(_turn(weights, images, precision, clock))
        if images < usual and turns[-1] < 0.05:
            images, turns = min(4 * images, usual), []
    products = 3 * 2 * sum(w.numel() for w in weights) * images * TOKENS  # backwards twice as many as forwards
    return products * len(turns) / sum(turns)


def _turn(weights: list[Tensor], images: int, precision: str, clock: Clock) -> float:
    """Seconds of a block; of plain operations, since a module's start draws from torch's global random state."""
    into, out, up, down = weights
    width, device = len(out), out.device
    started = clock()
    x = torch.linspace(-1, 1, images * TOKENS * width, device=device).view(images, TOKENS, width)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"), fast_linear():
        heads = F.linear(F.layer_norm(x, (width,)), into).unflatten(-1, (-1, 32 if width % 64 else 64)).transpose(1, 2)
        q, k, v = heads.chunk(3, 1)
        x = x + F.linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), out)
        x = x + F.linear(F.gelu(F.linear(F.layer_norm(x, (width,)), up)), down)
        loss = x.square().mean()
    loss.backward()
    loss.item()  # waits for the device
    return clock() - started


def precision_rates(device: torch.device, *, width: int = 384, seconds: float = 2) -> dict[str, float]:
    """The best rate of a block in float32 and in bfloat16, in turns for about so many seconds.

    On a CPU by its own time and on one thread, which other processes disturb least. Each runs once before that, since
    on a GPU what is first loads libraries and kernels.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    rates = {"float32": 0.0, "bfloat16": 0.0}
    with _threads(1):
        for name in rates:
            block_rate(device, width=width, precision=name, seconds=0, clock=clock)
        end = time.perf_counter() + seconds
        while not all(rates.values()) or time.perf_counter() < end:
            for name, best in rates.items():
                rates[name] = max(best, block_rate(device, width=width, precision=name, seconds=0.05, clock=clock))
    return rates


def thread_rates(*, width: int = 384) -> dict[int, float]:
    """The rate of a block on 1, 2, 4, … threads, up to all cores, as a run meets it: other processes included."""
    most, found = machine.cores(), {}
    for count in sorted({*(2**n for n in range(most.bit_length())), most}):
        with _threads(count):
            found[count] = block_rate(torch.device("cpu"), width=width)
    return found


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_precision(rates: Mapping[str, float]) -> tuple[Literal["float32", "bfloat16"], str]:
    """What `auto` is, "float32" or "bfloat16", and why."""
    chosen = "bfloat16" if rates["bfloat16"] >= WORTH * rates["float32"] else "float32"
    return chosen, f"{chosen}, chosen by auto: {bfloat16_words(rates)}; it is taken from {WORTH:g} times on"


def bfloat16_words(rates: Mapping[str, float]) -> str:
    """How fast bfloat16 is beside float32."""
    ratio = rates["bfloat16"] / rates["float32"]
    both = f"{rates['bfloat16'] / 1e9:.3g} against {rates['float32'] / 1e9:.3g} GFLOP/s"
    return f"bfloat16 runs at {ratio:.2g} times the rate of float32 here ({both})"


def choose_threads(rates: Mapping[int, float]) -> tuple[int, str]:
    """The fewest threads that are near the best rate, and why."""
    chosen = min(count for count, rate in rates.items() if rate >= NEAR * max(rates.values()))
    others = {count: rate / rates[chosen] for count, rate in rates.items() if count != chosen}
    if not others:
        return chosen, "on one core"
    listed = ", ".join(f"{count} at {ratio:.2g}" for count, ratio in others.items())
    slowed = any(count > chosen and ratio < SLOWED for count, ratio in others.items())
    return chosen, f"measured: {listed} times its rate" + (", as where other processes keep the cores busy" * slowed)


def machine_line(device: torch.device) -> str:
    """The machine in one line, for the head of what was measured on it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine.cpu_name()
    return f"{name}, {machine.cores()} cores; {bfloat16_words(precision_rates(device))}"
