"""Twenty steps of a tiny run with everything on, against the curve that is stored beside the tests.

A change that is meant to alter training renews it: GRAMLAB_GOLDEN=write python -m pytest tests/harness/test_golden.py
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from harness.data.pool import Pool
from harness.losses.gram import Gram

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tiny_curve.json"
EVERYTHING = {
    "gram": Gram(weight=2.0, start_step=6, warmup_steps=3, teacher_step=4, update_every=5, resolution=2.0),
    "model.drop_path": 0.2,
    "model.rope_shift": 0.1,
    "model.rope_jitter": 1.2,
    "dino.head.unit_prototypes": True,
    "data.homogeneous_share": 0.5,
    "optimizer.warmup_steps": 5,
    "optimizer.freeze_last_layer_steps": 2,
    "teacher.temperature_warmup_steps": 8,
    "steps": 20,
}


class Stripes:
    """Sixteen coloured gratings in four directions: no renderer, whose pixels a new version may change."""

    name, split, classes = "stripes", "train", ("0", "45", "90", "135")

    def __len__(self) -> int:
        return 16

    def key(self, index: int) -> str:
        return str(index)

    def label(self, index: int) -> int:
        return index % 4

    def image(self, index: int) -> np.ndarray:
        rows, columns = np.mgrid[:40, :48]
        along = (rows, rows + columns, columns, rows - columns)[index % 4]
        return np.stack([(along * (5 + index) + shift * index) % 256 for shift in (0, 31, 77)], axis=-1).astype(
            np.uint8
        )

    def fingerprint(self) -> str:
        return "stripes"


def test_twenty_steps_give_the_stored_curve(tiny, change, take_steps):
    _, rows = take_steps(change(tiny, EVERYTHING), 20, pool=Pool({"stripes": Stripes()}))
    if os.environ.get("GRAMLAB_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps({name: float(f"{value:.7g}") for name, value in row.items()}) for row in rows)
        GOLDEN.write_text(f"[\n{lines}\n]\n")
    stored = json.loads(GOLDEN.read_text())
    assert len(stored) == len(rows) == 20
    for step, (row, expected) in enumerate(zip(rows, stored, strict=True)):
        assert row.keys() == expected.keys(), f"step {step}"
        norm, expected_norm = row.pop("grad_norm"), expected.pop("grad_norm")
        assert row == pytest.approx(expected, rel=1e-4), f"step {step}"
        assert norm == pytest.approx(expected_norm, rel=1e-3), f"step {step}"  # rounding shows tenfold in gradients
