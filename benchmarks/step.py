"""A training step against the plain one of benchmarks/plain_step.py: images a second, share of the peak, memory.

    python benchmarks/step.py [--model vits nano] [--gram off 1 2] [--precision float32 bfloat16] [--compile]
        [--recompute]

Both take the same step on the same weights and the same made-up batch, in turns and in a process each; that their
losses agree is checked first. Memory is the most that its process held, libraries included. Our process is set as
every command of the project sets its own (`common.heap`); with `--both-keep` the plain one's is, too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count, product
from math import inf
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import in_turns, note, peak_rate, resident, wait
from benchmarks.plain_step import Heads, Plain, plain_step
from benchmarks.told import Parser
from common.heap import keep_freed_memory
from common.machine import peak_memory_gib, pick_device
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
    recomputed: bool = False

    def __str__(self) -> str:
        gram = "without Gram" if self.gram == "off" else f"Gram ×{self.gram}"
        how = f"{', compiled' if self.compiled else ''}{', recomputed' if self.recomputed else ''}"
        return f"{self.model}, {gram}, {self.precision}{how}"


def settings_of(case: Case) -> Experiment:
    """The model's experiment with all losses, and without what the plain step has not: draws and stochastic depth."""
    gram = [] if case.gram == "off" else [f"gram.weight={GRAM}", "gram.start_step=0", f"gram.resolution={case.gram}"]
    own = ["model.rope_rescale=null", "model.drop_path=0", f"precision={case.precision}", "optimizer.clip=3"]
    own += [f"runtime.compile={str(case.compiled).lower()}", f"runtime.recompute={str(case.recomputed).lower()}"]
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


def refuse_other_work(runs: Mapping[str, Callable[[], dict[str, float]]], case: Case) -> None:
    """Exits unless the losses of the first step of both agree."""
    found = {name: run() for name, run in runs.items()}
    for term, value in found["plain"].items():
        mine = found["ours"][term]
        if not abs(mine - value) <= AGREE[case.precision] * abs(value) < inf:  # nor where one is not finite
            sys.exit(f"{case}: {term} is {mine:.6g} by our step and {value:.6g} by the plain one: not the same work")


@contextmanager
def hushed() -> Iterator[None]:
    """Inside, what a library itself writes to stderr goes nowhere: torch's profiler tells there that it begins."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def where_time_goes(run: Callable[[], Any]) -> dict[str, float]:
    """Shares of a step's time on the processor, by kind of operation."""
    with hushed(), profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        run()
    spent = Counter[str]()
    for event in profiler.key_averages():
        name = event.key.lower()
        kind = next((part for part, marks in PARTS.items() if any(mark in name for mark in marks)), "element-wise")
        spent[kind] += event.self_cpu_time_total
    return {kind: time / sum(spent.values()) for kind, time in spent.most_common()}


class Beside:
    """A step that a process of its own takes when it is asked to, on as many threads as this one has."""

    def __init__(self, case: Case, which: str, device: torch.device, *, keeps: bool) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        told = (theirs, case, which, device, torch.get_num_threads(), keeps)
        context.Process(target=serve, args=told, daemon=True).start()
        theirs.close()

    def __call__(self) -> dict[str, float]:
        return self.ask("step")

    def ask(self, what: str) -> Any:
        """The answer to one of the questions of `serve`."""
        self.pipe.send(what)
        return self.pipe.recv()


def serve(pipe: Connection, case: Case, which: str, device: torch.device, threads: int, keeps: bool) -> None:
    """In that process, until nobody asks any more. keeps: memory that was freed."""
    torch.set_num_threads(threads)
    if keeps:
        keep_freed_memory()
    run = STEPS[which](case, device)

    def step() -> dict[str, float]:
        terms = run()
        wait(device)
        return terms

    memory, shares = partial(peak_memory, device), partial(where_time_goes, run)
    answers = {"step": step, "memory": memory, "time": shares, "threads": torch.get_num_threads}
    with suppress(EOFError):
        while True:
            pipe.send(answers[pipe.recv()]())


def peak_memory(device: torch.device) -> float:
    """GiB that this process held at most."""
    if device.type == "cpu" and sys.platform.startswith("linux"):
        return resident("VmHWM") / 1024
    return peak_memory_gib(device)


def measure(case: Case, device: torch.device, *, seconds: float, both_keep: bool) -> dict[str, Any]:
    """All that is told of a case."""
    runs = {name: Beside(case, name, device, keeps=both_keep or name == "ours") for name in STEPS}
    refuse_other_work(runs, case)
    best = in_turns(runs, seconds=seconds)
    memory = {name: run.ask("memory") for name, run in runs.items()}
    settings = settings_of(case)
    flops, peak = step_cost(settings, gram=case.gram != "off").flops, peak_rate(device, case.precision)
    images = settings.data.batch_size
    return {
        "images_per_second": images / best["ours"],
        "plain_images_per_second": images / best["plain"],
        "ratio": best["plain"] / best["ours"],
        "of_peak": flops / best["ours"] / peak,
        "peak_gflops": peak / 1e9,
        "memory_gib": memory["ours"],
        "plain_memory_gib": memory["plain"],
        "time": runs["ours"].ask("time") if device.type == "cpu" else {},
    }


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=[*MODELS], help="default: both")
    parser.add_argument("--gram", nargs="+", choices=["off", "1", "2"], default=["off", "1", "2"], help="default: all")
    parser.add_argument("--precision", nargs="+", choices=[*AGREE], default=["float32"], help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each of both steps (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="our blocks by torch.compile (runtime.compile)")
    parser.add_argument("--recompute", action="store_true", help="our blocks on the way back anew (runtime.recompute)")
    parser.add_argument("--both-keep", action="store_true", help="the plain step keeps memory that was freed, too")
    given = parser.parse_args(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    device = pick_device(given.device)
    every = product(given.model, given.gram, given.precision)
    cases = [Case(*one, compiled=given.compile, recomputed=given.recompute) for one in every]
    print(machine_line(device))
    print(f"{'':34}{'images/s':>10}{'plain':>8}{'ratio':>7}{'of peak':>9}{'GiB':>7}{'plain':>7}  where the time goes")
    for case in cases:
        found = measure(case, device, seconds=given.seconds, both_keep=given.both_keep)
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["time"].items())
        rates = f"{found['images_per_second']:10.2f}{found['plain_images_per_second']:8.2f}{found['ratio']:7.2f}"
        held = f"{100 * found['of_peak']:8.0f} %{found['memory_gib']:7.2f}{found['plain_memory_gib']:7.2f}"
        print(f"{case!s:34}{rates}{held}  {shares}", flush=True)
        if before := note("step", str(case), found, device=device):
            print(f"{'':34}{before}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
