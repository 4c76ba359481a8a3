"""What an arm cost: steps, images, seconds, operations and memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reports.lineage import spent
from reports.run_folder import Run


@dataclass(frozen=True)
class Effort:
    """What an arm cost, averaged over its seeds, memory at its highest; None where no record tells."""

    step: int | None
    images: float | None
    seconds: float | None
    flops: float | None
    images_per_second: float | None
    peak_memory_gib: float | None


def effort(run: Run, lane: str) -> Effort:
    """Last step, images seen, and of its own steps: wall seconds, operations, images per second and peak memory."""

    def mean(values: list[float | None]) -> float | None:
        known = [float(value) for value in values if value is not None and np.isfinite(value)]
        return float(np.mean(known)) if known else None

    curves = [curve for (arm, _), curve in run.curves.items() if arm == lane]
    states = [state for (arm, _), state in run.status.items() if arm == lane]
    images = [float(curve["images"].values.max()) if "images" in curve else None for curve in curves]
    memory = [float(state.peak_memory_gib) for state in states if state.peak_memory_gib is not None]
    steps = [step for seed in run.seeds if (step := _reached(run, lane, seed)) is not None]
    return Effort(
        step=max(steps, default=None),
        images=mean(images),
        seconds=mean([state.seconds for state in states]),
        flops=mean([_own_flops(run, lane, seed) for seed in run.seeds]),
        images_per_second=mean([state.images_per_second for state in states]),
        peak_memory_gib=max(memory, default=None),
    )


def _reached(run: Run, lane: str, seed: int) -> int | None:
    """The last step that was taken: logged, or saved where no log tells more; None where nothing was begun."""
    status, curve = run.status.get((lane, seed)), run.curves.get((lane, seed), {})
    logged = int(curve["step"].values.max()) if "step" in curve else None
    saved = status.step if status is not None else None
    return max((step for step in (logged, saved) if step is not None), default=None)


def _own_flops(run: Run, lane: str, seed: int) -> float | None:
    """Of the steps that were taken, whatever was asked for."""
    line, reached = spent(run, lane, seed, "flops"), _reached(run, lane, seed)
    if line is None or reached is None:
        return None
    start, stop = np.interp([run.part(lane, seed).start, reached], *line)
    return float(stop - start)
