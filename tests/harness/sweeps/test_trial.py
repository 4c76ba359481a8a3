"""What one trial of a sweep has cost."""

import json
import math

from harness.config import load
from harness.graph import jobs
from harness.sweeps.trial import seconds


def test_hours_are_those_of_a_jobs_own_steps_also_where_it_begins_between_logged_ones(write_tiny):
    """Trunk and plain are one segment, logged every four steps: 2 s for the first four, and 8 s for the next."""
    arms = {"plain": {}, "anchored": {"gram.weight": 2.0}}
    found = jobs(load(write_tiny(trunk={"steps": 3}, steps=8, arms=arms)), fingerprint=lambda _: {})
    trunk, plain, anchored = found
    assert trunk.folder == plain.folder
    plain.folder.mkdir(parents=True)
    assert math.isnan(seconds(plain))
    lines = [{"step": 4, "seconds": 2.0}, {"step": 8, "seconds": 9.0}, {"step": 8, "seconds": 10.0}]
    (plain.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert (seconds(trunk), seconds(plain)) == (1.5, 8.5)
    anchored.folder.mkdir()
    (anchored.folder / "metrics.jsonl").write_text('{"step": 8, "seconds": 7.5}\n')
    assert seconds(anchored) == 7.5
