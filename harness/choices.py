"""What a run leaves to the machine that it starts on: torch's threads, and its precision where that is `auto`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from common import machine, speed
from common.errors import BadInput
from harness.model import width_of
from harness.settings import Experiment, Precision

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # variables that torch heeds as it starts


def settle(experiment: Experiment, device: torch.device, *, record: Mapping[str, Any]) -> tuple[Experiment, list[str]]:
    """The experiment with nothing left to choose, torch's threads set, and lines that tell of both in the plan.

    `record` is what the run's folder holds of an earlier start. Raises `BadInput` as `settle_precision` does.
    """
    threads = settle_threads(experiment, device, record=record)  # first: how fast a precision is hangs on them
    experiment, precision = settle_precision(experiment, device, record=record)
    return experiment, [threads, *precision]


def settle_precision(
    experiment: Experiment, device: torch.device, *, record: Mapping[str, Any]
) -> tuple[Experiment, list[str]]:
    """The experiment with every `precision: auto` in it, trunk and arms included, made float32 or bfloat16.

    It must come before jobs are made, since precision enters their identities. Nothing is measured where nothing asks
    for anything but float32.

    Returns:
        The experiment, and lines for the plan: what was chosen and why, or how fast the bfloat16 is that was asked for.

    Raises:
        BadInput: `auto` has another answer here than where the folder's run, known by its `record`, was begun.
    """
    asked = {experiment.precision}
    asked |= {own.get("precision", "") for own in (experiment.trunk.overrides, *experiment.arms.values())}
    if not asked & {"auto", "bfloat16"}:
        return experiment, []
    rates = speed.precision_rates(device, width=width_of(experiment.model))
    chosen, why = speed.choose_precision(rates)
    before = record.get("config", {}).get("precision", chosen)
    if experiment.precision == "auto" and before != chosen:
        raise BadInput(f"got precision=auto, which is {chosen} here, for a run that was begun in {before} "
                       f"({speed.bfloat16_words(rates)}): want one precision in a run; set precision={before} to go "
                       "on with it, or give this experiment another name=...")  # fmt: skip
    return _settled(experiment, chosen), [f"precision: {why if 'auto' in asked else speed.bfloat16_words(rates)}"]


def _settled(experiment: Experiment, chosen: Precision) -> Experiment:
    def own(overrides: dict[str, Any]) -> dict[str, Any]:
        return {**overrides, "precision": chosen} if overrides.get("precision") == "auto" else overrides

    return replace(
        experiment,
        precision=chosen if experiment.precision == "auto" else experiment.precision,
        trunk=replace(experiment.trunk, overrides=own(experiment.trunk.overrides)),
        arms={arm: own(overrides) for arm, overrides in experiment.arms.items()},
    )


def settle_threads(experiment: Experiment, device: torch.device, *, record: Mapping[str, Any]) -> str:
    """Set torch's threads, and say for the plan how many and why.

    Bits depend on their number, so a run goes on with that of its `record` where the cores suffice. They are measured
    where nobody named them, and on the CPU alone.
    """
    named = next((name for name in THREADS if os.environ.get(name)), None)
    begun = record.get("environment", {}).get("threads", 0)
    if experiment.runtime.threads:
        count, words = experiment.runtime.threads, "by runtime.threads"
    elif named or device.type != "cpu":
        count, words = torch.get_num_threads(), f"by {named}" if named else "torch's own choice"
    elif 1 <= begun <= machine.cores():
        count, words = begun, "as this run had before: with others its bits would differ"
    else:
        count, words = speed.choose_threads(speed.thread_rates(width=width_of(experiment.model)))
    torch.set_num_threads(count)
    return f"threads: {count}, {words}"
