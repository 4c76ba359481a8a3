from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import BadInput
from evals.results.outcomes import ABOUT, load_outcomes, save_outcomes
from evals.results.table import Measurement
from tests.evals.toys import ROW


def test_outcomes_read_back_by_image(tmp_path: Path):
    outcomes = {"keys": np.array(["a/1", "b/2"]), "correct": np.array([True, False])}
    place = {name: getattr(ROW, name, "aa") for name in (*ABOUT, "metric")}
    measured = Measurement(**place, value=0.5, low=0.0, high=1.0, images=2, outcomes=outcomes)
    (path,) = save_outcomes(tmp_path, [measured, replace(measured, metric="top5")])
    found = load_outcomes(path)
    assert found.keys() == {*outcomes, *ABOUT, "metrics"}
    assert all((found[name] == outcomes[name]).all() for name in outcomes)
    assert {name: found[name].item() for name in ABOUT} == {name: place[name] for name in ABOUT}
    assert found["metrics"].tolist() == ["top1", "top5"]
    assert [p.name for p in tmp_path.iterdir()] == ["knn-scenes-val-knn-quick-v1-64px-0a1b2c3d.npz"]
    assert measured.row(run="trial", arm="plain", seed=0, step=1).value == 0.5


def test_damaged_outcomes_are_named(tmp_path: Path):
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BadInput, match=r"unreadable outcomes .*torn\.npz"):
        load_outcomes(tmp_path / "torn.npz")
