from __future__ import annotations

from dataclasses import fields, replace

import pytest

from evals.protocol import Protocol
from evals.suite import TASKS

PROTOCOLS = [task.protocol() for task in TASKS.values()]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.id)
def test_every_setting_changes_the_hash(protocol: Protocol):
    original = protocol.hash(64)
    for field in fields(protocol):
        value = getattr(protocol, field.name)
        other = f"{value}x" if isinstance(value, str) else value * 2 or 7
        assert replace(protocol, **{field.name: other}).hash(64) != original, field.name
    assert protocol.hash(128) != original


def test_hashes_are_stable_and_distinct():
    assert len({p.hash(64) for p in PROTOCOLS}) == len(PROTOCOLS)
    assert [task.protocol().hash(64) for task in TASKS.values()] == [p.hash(64) for p in PROTOCOLS]
    assert [p.id for p in PROTOCOLS] == ["knn-quick-v1", "linear-quick-v1", "segmentation-quick-v1", "depth-quick-v1"]
