from __future__ import annotations

import pickle
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


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Sound outcomes of three images."""
    outcomes = {"keys": np.array(["a", "b", "c"]), "correct": np.array([1.0, 0.0, 1.0])}
    place = {name: getattr(ROW, name, "aa") for name in (*ABOUT, "metric")}
    (path,) = save_outcomes(tmp_path, [Measurement(**place, value=0.5, low=0, high=1, images=3, outcomes=outcomes)])
    return path


@pytest.mark.parametrize("kept", [0, 1, 4, 100, -100, -1])
def test_outcomes_cut_short_are_named(saved: Path, kept: int):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(BadInput, match=r"unreadable outcomes .*64px") as error:
        load_outcomes(saved)
    assert "\n" not in str(error.value)


def test_a_flipped_bit_changes_no_outcome_unseen(saved: Path):
    """Whatever byte of the file it is in: what comes back is as it was, or the file is named."""
    sound, raw = load_outcomes(saved), saved.read_bytes()
    named = 0
    for place in range(0, len(raw), 3):
        saved.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
        try:
            found = load_outcomes(saved)
            assert all(array.tolist() == sound[name].tolist() for name, array in found.items())
        except BadInput:
            named += 1
    assert named > len(raw) / 6


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_outcomes_never_run_code(saved: Path, tmp_path: Path):
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.savez_compressed(saved, allow_pickle=True, keys=np.array(["a"]), correct=trap)
    with pytest.raises(BadInput, match=r"unreadable outcomes .*allow_pickle=False"):
        load_outcomes(saved)
    saved.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(BadInput, match="unreadable outcomes"):
        load_outcomes(saved)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"correct": np.array([1.0, 0.0])}, r"correct of shape \(2,\) for 3 images"),
        ({"correct": np.array(1.0)}, r"correct of shape \(\) for 3 images"),
        ({"correct": np.array(["yes", "no", "yes"])}, "correct of type <U3"),
        ({"keys": np.array([1, 2, 3])}, "keys of type int64"),
        ({"size": np.array("64")}, "size of type <U2"),
        ({"size": np.array([64, 64])}, r"size of shape \(2,\)"),
        ({"eval": np.array(7)}, "eval of type int64"),
    ],
)
def test_arrays_that_cannot_be_outcomes_are_named(saved: Path, changed: dict[str, np.ndarray], said: str):
    np.savez_compressed(saved, allow_pickle=False, **{**load_outcomes(saved), **changed})
    with pytest.raises(BadInput, match=rf"64px.*\.npz with {said}"):
        load_outcomes(saved)


def test_what_is_no_archive_and_no_file_is_named(saved: Path):
    with saved.open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(BadInput, match="unreadable outcomes"):
        load_outcomes(saved)
    saved.unlink()
    saved.mkdir()
    with pytest.raises(BadInput, match="got no file at"):
        load_outcomes(saved)
