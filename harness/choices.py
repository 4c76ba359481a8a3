"""What a run leaves to the machine that it starts on: torch's threads, and its precision where that is `auto`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from common import machine, speed
from common.errors import BadInput
from harness.model import sizes_of
from harness.settings import Experiment, Precision

EACH = 16  # threads for each core are more than ever helped
Threads = tuple[int, str]  # how many, and why
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # variables that torch heeds as it starts


def settle(
    experiment: Experiment, device: torch.device, *, record: Mapping[str, Any], share: Threads | None = None
) -> tuple[Experiment, list[str]]:
    """The experiment with nothing left to choose, torch's threads set, and lines that tell of both in the plan.

    Args:
        record: what the run's folder holds of an earlier start.
        share: the threads of a job where nobody named them, since it is not alone here; None = they are measured.
    """
    threads = settle_threads(experiment, device, record=record, share=share)  # first: a precision's rate hangs on them
    experiment, precision = settle_precision(experiment, device, record=record)
    return experiment, [threads, *precision]


def settle_precision(
    experiment: Experiment, device: torch.device, *, record: Mapping[str, Any]
) -> tuple[Experiment, list[str]]:
    """The experiment with every `precision: auto` in it, trunk and arms included, made float32 or bfloat16.

    It must come before jobs are made, since precision enters their identities. An `auto` is what the run's `record`
    holds in its place; else it is measured. Nothing is measured where nothing asks for anything but float32.

    Returns:
        The experiment, and lines for the plan: what was chosen and why, or how fast the bfloat16 is that was asked for.
    """
    asked, lines = _precisions(experiment), list[str]()
    config, arms = record.get("config", {}), record.get("arms", {})
    experiment = _settled(
        experiment,
        whole=_own(config),
        trunk=_own(config.get("trunk", {}).get("overrides", {})),
        arms={arm: _own(arms.get(arm, {}).get("overrides", {})) for arm in experiment.arms},
    )
    known = _precisions(experiment)
    if kept := {now for before, now in zip(asked, known, strict=True) if before != now}:
        lines.append(f"precision: {' and '.join(sorted(kept))}, as this run had before")
    if "auto" in known or "bfloat16" in asked:
        seconds = 2 if "auto" in known else 0.5  # where it is only told, a rough number will do
        rates = speed.precision_rates(device, width=sizes_of(experiment.model).width, seconds=seconds)
        chosen, why = speed.choose_precision(rates)
        lines.append(f"precision: {why if 'auto' in known else speed.bfloat16_words(rates)}")
        experiment = _settled(experiment, whole=chosen, trunk=chosen, arms=dict.fromkeys(experiment.arms, chosen))
    return experiment, lines


def _own(settings: Mapping[str, Any]) -> Precision:
    """The precision among settings or overrides; `auto` where they have none."""
    return settings.get("precision", "auto")


def _precisions(experiment: Experiment) -> list[str]:
    """Those of the experiment, of its trunk and of each arm; empty where these name none of their own."""
    parts = (experiment.trunk.overrides, *experiment.arms.values())
    return [experiment.precision, *(overrides.get("precision", "") for overrides in parts)]


def _settled(
    experiment: Experiment, *, whole: Precision, trunk: Precision, arms: Mapping[str, Precision]
) -> Experiment:
    """The experiment with these precisions where it has `auto`."""

    def own(overrides: dict[str, Any], precision: Precision) -> dict[str, Any]:
        return {**overrides, "precision": precision} if overrides.get("precision") == "auto" else overrides

    return replace(
        experiment,
        precision=whole if experiment.precision == "auto" else experiment.precision,
        trunk=replace(experiment.trunk, overrides=own(experiment.trunk.overrides, trunk)),
        arms={arm: own(overrides, arms[arm]) for arm, overrides in experiment.arms.items()},
    )


def settle_threads(
    experiment: Experiment, device: torch.device, *, record: Mapping[str, Any], share: Threads | None = None
) -> str:
    """Set torch's threads, and say for the plan how many and why.

    They are measured where nobody named them and there is no `share`, and on the CPU alone.
    """
    idle = [f"; {name}={os.environ[name]!r} is no number and is not heeded" for name in THREADS if _is_odd(name)]
    most = EACH * machine.cores()
    if experiment.runtime.threads and experiment.runtime.threads > most:
        raise BadInput(f"runtime.threads={experiment.runtime.threads}: want at most {most} on {machine.cores()} cores")
    named = named_threads(experiment, device, record=record)
    if found := named or share:
        count, words = found
    elif device.type != "cpu":
        count, words = torch.get_num_threads(), "torch's own choice"
    else:
        count, words = speed.choose_threads(speed.thread_rates(width=sizes_of(experiment.model).width))
    torch.set_num_threads(count)
    return f"threads: {count}, {words}{''.join(idle)}"


def named_threads(experiment: Experiment, device: torch.device, *, record: Mapping[str, Any]) -> Threads | None:
    """The threads of a job and who named them: a setting, a variable, or the run's last start, whose bits depend on
    their number; None where nobody did."""
    named = next((name for name in THREADS if _is_count(os.environ.get(name, ""))), None)
    begun = record.get("environment", {}).get("threads", 0)
    if experiment.runtime.threads:
        return experiment.runtime.threads, "by runtime.threads"
    if named:
        return torch.get_num_threads(), f"by {named}"
    if device.type == "cpu" and 1 <= begun <= machine.cores():
        return begun, "as this run had before: with others its bits would differ"
    return None


def _is_count(text: str) -> bool:
    """Whether torch takes a variable's value: a number, of the outermost level where there are several."""
    return re.fullmatch(r"\s*[1-9]\d{0,8}\s*(,.*)?", text) is not None


def _is_odd(name: str) -> bool:
    return name in os.environ and not _is_count(os.environ[name]) and os.environ[name] != ""
