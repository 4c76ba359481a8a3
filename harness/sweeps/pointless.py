"""What a search space holds in vain: settings that no trial can be trained with, or that never change one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

from common.draws import pcg64
from common.errors import BadInput, listing
from common.schema import shown
from harness.impossible import impossible
from harness.losses.table import LOSSES
from harness.pointless import inert, no_renewal
from harness.sweep_settings import counts, needed, ordered
from harness.sweeps.space import samples
from harness.sweeps.trial import EXAMPLE, Trials, content
from harness.timeline import planned_arms

TRIES = 12  # trials that a value is looked at in before it is given up
SAME = "trials are the same without it; want other values, or leave it out"


class Look(NamedTuple):
    """A trial that is not trained: why it cannot be, what it comes to, and which settings do nothing in it."""

    fault: str = ""
    content: str = ""
    inert: tuple[str, ...] = ()


def pointless(trials: Trials) -> list[str]:
    """Notes on values of the space that are of no use, a line for each parameter.

    Raises:
        BadInput: parameters none of whose values is, or that never count.
    """
    space, looks = trials.experiment.sweep.space, Looks(trials)
    refused, notes = [], []
    for key, parameter in space.items():
        if lost := [other for other, values in needed(space, key).items() if not values]:
            refused.append(f"sweep.space.{key}: it never counts: only_if asks for {lost[0]} twice, for unlike choices")
            continue
        known = {shown(value): looks.against(key, value) for value in samples(key, parameter)}
        faults = {value: why for value, why in known.items() if why not in ("", SAME)}
        line = f"sweep.space.{key}: {_told(faults) if faults else SAME}"
        between = parameter.choices is None and faults and SAME in known.values()  # values of a range that may do
        if all(known.values()) and not between:
            refused.append(line)
        elif faults:
            notes.append(f"note: {line}")
    if refused:
        raise BadInput("\n".join(refused))
    return notes


class Looks:
    """Trials of a sweep on its first seed, each looked at once."""

    def __init__(self, trials: Trials):
        self.space = trials.experiment.sweep.space
        self.trials = replace(trials, experiment=replace(trials.experiment, seeds=trials.experiment.seeds[:1]))
        self.known: dict[str, Look] = {}

    def against(self, key: str, value: Any) -> str:
        """Why no trial gains by this value, "" where one does or another parameter alone is to blame."""
        found = []
        for own in self.with_value(key, value):
            if not (why := self.fault(key, own)):
                return ""
            found.append(why)
        return SAME if SAME in found else found[0]

    def fault(self, key: str, own: Mapping[str, Any]) -> str:
        """What is against this parameter in a trial with these overrides."""
        look = self.look(own)
        if look.fault:
            named = [other for other in self.space if _is_named(other, look.fault)]
            return look.fault if key in named or not named else ""
        if line := next((line for line in look.inert if line.startswith(f"{key}=")), ""):
            return line
        return SAME if look.content == self.look({k: v for k, v in own.items() if k != key}).content else ""

    def look(self, own: Mapping[str, Any]) -> Look:
        """The trial with these overrides."""
        asked = json.dumps(own, sort_keys=True)
        if asked not in self.known:
            self.known[asked] = self._look(own)
        return self.known[asked]

    def _look(self, own: Mapping[str, Any]) -> Look:
        try:
            todo = self.trials.jobs_of({EXAMPLE: own})
        except BadInput as error:
            return Look(fault=re.sub(r"^(arms\.trial(: |\.)|got )+", "", " ".join(str(error).split())))
        one = planned_arms(todo)[-1]
        if fault := next(impossible(one), ""):
            return Look(fault=fault)
        off = [
            f"{key}={shown(value)}: {section}.weight is 0 beside it; want it above 0"
            for key, value in own.items()
            if (section := key.partition(".")[0]) in LOSSES
            and not key.endswith(".weight")
            and getattr(one.settings, section).weight == 0
        ]
        return Look(content=content(todo), inert=(*off, *inert(one), *no_renewal(one)))

    def with_value(self, key: str, value: Any) -> Iterator[dict[str, Any]]:
        """Overrides of trials that have the value, the other parameters drawn so that it counts."""
        for number in range(TRIES):
            draws = pcg64(0, f"sweep.space.{key}", number)
            drawn = {other: values[draws.integers(len(values))] for other, values in self.samples.items()}
            drawn |= {other: values[draws.integers(len(values))] for other, values in needed(self.space, key).items()}
            drawn[key] = value
            chosen: dict[str, Any] = {}
            for other in ordered(self.space):
                if counts(self.space[other], chosen):
                    chosen[other] = drawn[other]
            yield chosen

    @cached_property
    def samples(self) -> dict[str, list[Any]]:
        """Some values of each parameter."""
        return {key: samples(key, parameter) for key, parameter in self.space.items()}


def _told(faults: Mapping[str, str]) -> str:
    return f"{listing([*faults])} {'is' if len(faults) == 1 else 'are'} of no use: {next(iter(faults.values()))}"


def _is_named(key: str, line: str) -> bool:
    """Whether a line names a setting, or the one that it is a part of."""
    above = [key.rsplit(".", count)[0] for count in range(max(key.count("."), 1))]
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.]*\w)", line) for name in above)
