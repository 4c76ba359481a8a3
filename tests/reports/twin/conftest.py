"""A run that has all that a twin can show."""

import json

import pytest

from tests.reports.conftest import write_run
from tests.reports.features.conftest import EVALUATIONS, THREE

CONFIG = {"evals": {"pictures": 2, "tasks": {"depth": {}}}}


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Three arms, three seeds, two components of the data, a sign of health, mIoU at two sizes; for reading only."""
    folder = write_run(
        tmp_path_factory.mktemp("runs") / "rooms", arms=THREE, seeds=(0, 1, 2), steps=40, trunk_steps=20, every=5,
        components=("scenes", "photos"), evaluations=EVALUATIONS, config=CONFIG,
    )  # fmt: skip
    table = folder / "results.jsonl"
    added = []
    for row in map(json.loads, table.read_text().splitlines()):
        if row["metric"] == "miou":
            plain = {**row, "metric": "locality", "eval": "health", "value": row["value"] / 2, "low": 0.0, "high": 1.0}
            larger = {**row, "size": 128, "protocol_hash": "larger", "value": row["value"] + 0.1}
            larger |= {"low": row["low"] + 0.1, "high": row["high"] + 0.1}
            added += [plain, larger]
    table.write_text(table.read_text() + "".join(json.dumps(row) + "\n" for row in added))
    return folder
