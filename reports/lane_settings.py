"""The settings in which the lanes of a run differ, and what each of them has there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.run_folder import TRUNK, Run

FORK = ("from", "at", "inherit", "steps")  # of an arm: where it begins and ends, no settings


def lane_settings(run: Run) -> dict[str, dict[str, Any]]:
    """For each lane, by dotted key: what it trains with of all that any lane sets for itself.

    An arm that forks from another arm has that arm's settings beneath its own, one that forks from the trunk, or
    begins at step 0, the experiment's.
    """
    own = {arm: run.overrides.get(arm, {}) for arm in run.arms}
    if TRUNK in run.lanes:
        own[TRUNK] = run.config.get("trunk", {}).get("overrides", {})
    keys = sorted({key for lane in own.values() for key in lane} - {*FORK})
    common = {key: lookup(run.config, key) for key in keys}
    return {lane: {key: value for key, value in _inherited(own, lane, common).items() if key in common} for lane in own}


def setting(run: Run, lane: str, dotted: str) -> Any:
    """What a lane trains with at a dotted key; None where nothing tells."""
    return lane_settings(run).get(lane, {}).get(dotted, lookup(run.config, dotted))


def _inherited(own: Mapping[str, Mapping[str, Any]], lane: str, common: Mapping[str, Any]) -> dict[str, Any]:
    parent = own[lane].get("from")
    if isinstance(parent, str) and parent in own and parent != TRUNK:
        return {**_inherited(own, parent, common), **own[lane]}
    return {**common, **own[lane]}


def lookup(config: Mapping[str, Any], dotted: str, *, absent: Any = None) -> Any:
    """The setting at a dotted key; `absent` where there is none."""
    found: Any = config
    for part in dotted.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return absent
        found = found[part]
    return found
