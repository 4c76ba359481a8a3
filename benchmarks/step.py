"""A training step against the plain one of benchmarks/plain_step.py: images a second, share of the peak, memory.

    python benchmarks/step.py [--model vits nano] [--gram off 1 2] [--precision float32 bfloat16] [--compile]

Both take the same step on the same weights and the same made-up batch, in turns; that their losses agree is checked
first. Memory is the most that a process of its own held, libraries included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count, product
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # what torch's profiler would say of a missing GPU

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import in_turns, note, peak_rate
from benchmarks.plain_step import Heads, Plain, plain_step
from common.machine import pick_device
from common.speed import machine_line
from harness.beginning import fresh_state
from harness.config import load
from harness.cost import step_cost
from harness.counted import shapes
from harness.data.batches import Batch
from harness.model import patch_size
from harness.schedules import at
from harness.settings import Experiment
from harness.state import renewed
from harness.step import train_step

MODELS = {"vits": "vits_smoke.yaml", "nano": "gram_ablation.yaml"}
AGREE = {"float32": 2e-3, "bfloat16": 5e-2}  # of a loss; KoLeo of fresh weights is of differences near zero
RATE, TEMPERATURE, MOMENTUM, GRAM = 1e-4, 0.07, 0.994, 2.0
PARTS = {  # of a step's time, by what an operation's name holds; all else is element-wise
    "products": ("mm", "linear", "conv"),
    "attention": ("attention",),
    "optimizer": ("adamw", "lerp", "foreach"),
}


class Case(NamedTuple):
    """What is measured: "vits" or "nano", Gram "off", "1" or "2" times as large, and the precision."""

    model: str
    gram: str
    precision: str
    compiled: bool = False

    def __str__(self) -> str:
        gram = "without Gram" if self.gram == "off" else f"Gram ×{self.gram}"
        return f"{self.model}, {gram}, {self.precision}{', compiled' if self.compiled else ''}"


def settings_of(case: Case) -> Experiment:
    """The model's experiment with all losses, and without what the plain step has not: draws and stochastic depth."""
    gram = [] if case.gram == "off" else ["gram.weight=2", "gram.start_step=0", f"gram.resolution={case.gram}"]
    own = ["model.rope_rescale=null", "model.drop_path=0", f"precision={case.precision}", "optimizer.clip=3"]
    own += [f"runtime.compile={str(case.compiled).lower()}"]
    own += ["dino.local_weight=1", "ibot.weight=1", "koleo.weight=0.1"]
    return load(ROOT / "experiments" / MODELS[case.model], [*own, *gram])


def made_up(settings: Experiment, patch: int, device: torch.device) -> Batch:
    """A batch of noise, its masks as large as usual."""
    batch, draw = shapes(settings, patch), torch.Generator().manual_seed(0)
    images = {
        name: torch.randn(tensor.shape, generator=draw).to(device)
        for name in ("globals", "locals", "gram")
        if (tensor := getattr(batch, name)) is not None
    }
    return batch._replace(**images)


def ours(case: Case, device: torch.device) -> Callable[[], dict[str, float]]:
    """Our step, from fresh weights."""
    settings = settings_of(case)
    state = fresh_state(settings, 0, device)
    if case.gram != "off":
        state.gram_teacher = renewed(state, settings)
    batch = made_up(settings, patch_size(state.student.backbone), device)
    now = at(settings, 0)._replace(lr=RATE, last_layer_lr=RATE, temperature=TEMPERATURE, momentum=MOMENTUM)
    now = now._replace(factors={**now.factors, **({"gram": GRAM} if case.gram != "off" else {})})
    taken = count(1)

    def step() -> dict[str, float]:
        found = train_step(state, batch, now._replace(step=next(taken)), settings, seed=0)
        return {name: float(value) for name, value in found.items()}

    return step


def plain(case: Case, device: torch.device) -> Callable[[], dict[str, float]]:
    """The plain one, from the same weights."""
    settings = settings_of(case)
    network = fresh_state(settings, 0, device).student
    batch = made_up(settings, patch_size(network.backbone), device)
    heads = Heads(0.1, TEMPERATURE, settings.dino.head.unit_prototypes, ibot_weight=1.0, gram_weight=GRAM)
    state = Plain.of(network, heads, lr=RATE, gram=case.gram != "off")
    half = case.precision == "bfloat16"
    return lambda: plain_step(state, batch, momentum=MOMENTUM, clip=3.0, bfloat16=half)


STEPS = {"ours": ours, "plain": plain}


def refuse_other_work(runs: dict[str, Callable[[], dict[str, float]]], case: Case) -> None:
    """Exits unless the losses of the first step of both agree."""
    found = {name: run() for name, run in runs.items()}
    for term, value in found["plain"].items():
        mine = found["ours"][term]
        if abs(mine - value) > AGREE[case.precision] * abs(value):
            sys.exit(f"{case}: {term} is {mine:.6g} by our step and {value:.6g} by the plain one: not the same work")


def where_time_goes(run: Callable[[], Any]) -> dict[str, float]:
    """Shares of a step's time on the processor, by kind of operation."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        run()
    spent = Counter[str]()
    for event in profiler.key_averages():
        name = event.key.lower()
        kind = next((part for part, marks in PARTS.items() if any(mark in name for mark in marks)), "element-wise")
        spent[kind] += event.self_cpu_time_total
    return {kind: time / sum(spent.values()) for kind, time in spent.most_common()}


def peak_memory(case: Case, which: str, device: torch.device) -> float:
    """GiB that a process of its own holds at most while it takes three steps."""
    command = [sys.executable, __file__, "--alone", which, "--model", case.model, "--gram", case.gram]
    command += ["--compile"] * case.compiled
    command += ["--precision", case.precision, "--device", str(device), "--threads", str(torch.get_num_threads())]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def alone(case: Case, which: str, device: torch.device) -> float:
    """In that process."""
    run = STEPS[which](case, device)
    for _ in range(3):
        run()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    status = Path("/proc/self/status")  # what `resource` tells on Linux may be the parent's from before
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def measure(case: Case, device: torch.device, *, seconds: float) -> dict[str, Any]:
    """All that is told of a case."""
    runs = {name: make(case, device) for name, make in STEPS.items()}
    refuse_other_work(runs, case)
    best = in_turns(runs, seconds=seconds, device=device)
    settings = settings_of(case)
    settings = replace(settings, gram=replace(settings.gram, weight=2.0 if case.gram != "off" else 0.0))
    flops, peak = step_cost(settings, gram=case.gram != "off").flops, peak_rate(device, case.precision)
    images = settings.data.batch_size
    memory = {name: peak_memory(case, name, device) for name in runs}
    return {
        "images_per_second": images / best["ours"],
        "plain_images_per_second": images / best["plain"],
        "ratio": best["plain"] / best["ours"],
        "of_peak": flops / best["ours"] / peak,
        "peak_gflops": peak / 1e9,
        "memory_gib": memory["ours"],
        "plain_memory_gib": memory["plain"],
        "time": where_time_goes(runs["ours"]) if device.type == "cpu" else {},
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=[*MODELS], help="default: both")
    parser.add_argument("--gram", nargs="+", choices=["off", "1", "2"], default=["off", "1", "2"], help="default: all")
    parser.add_argument("--precision", nargs="+", choices=[*AGREE], default=["float32"], help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each of both steps (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="our blocks by torch.compile (runtime.compile)")
    parser.add_argument("--alone", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    device = pick_device(given.device)
    every = product(given.model, given.gram, given.precision)
    cases = [Case(*one, compiled=given.compile) for one in every]
    if given.alone:
        print(alone(cases[0], given.alone, device))
        return 0
    print(machine_line(device))
    print(f"{'':34}{'images/s':>10}{'plain':>8}{'ratio':>7}{'of peak':>9}{'GiB':>7}{'plain':>7}  where the time goes")
    for case in cases:
        found = measure(case, device, seconds=given.seconds)
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["time"].items())
        rates = f"{found['images_per_second']:10.2f}{found['plain_images_per_second']:8.2f}{found['ratio']:7.2f}"
        held = f"{100 * found['of_peak']:8.0f} %{found['memory_gib']:7.2f}{found['plain_memory_gib']:7.2f}"
        print(f"{case!s:34}{rates}{held}  {shares}", flush=True)
        if before := note("step", str(case), found, device=device):
            print(f"{'':34}{before}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
