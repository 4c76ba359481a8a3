import re

import numpy as np
import pytest
from PIL import Image

from evals.datasets.decoding.depth_file import read_depth
from evals.datasets.reading import Reading
from tests.evals.datasets.told import told

METRES = np.array([[0, 0.5, 2.5], [4, 6.5, 9]], dtype=np.float32)


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_whole_numbers_are_millimetres(tmp_path):
    found = read_depth(saved(tmp_path / "a.png", (METRES * 1000).astype(np.uint16)))
    assert found.dtype == np.float32
    assert found.tolist() == METRES.tolist()
    assert read_depth(saved(tmp_path / "a.tif", (METRES * 1000).astype(np.int32))).tolist() == METRES.tolist()


@pytest.mark.parametrize("scale", [5000, 256])
def test_another_scale_is_said_by_the_set(tmp_path, scale):
    path = saved(tmp_path / "a.png", (METRES * scale).astype(np.uint16))
    assert read_depth(path, Reading(depth_scale=scale)).tolist() == METRES.tolist()


def test_fractions_are_metres(tmp_path):
    np.save(tmp_path / "a.npy", METRES.astype(np.float64)[..., None])
    np.savez(tmp_path / "a.npz", depth=METRES.astype(np.float16))
    for path in (saved(tmp_path / "a.tif", METRES), tmp_path / "a.npy", tmp_path / "a.npz"):
        assert read_depth(path).tolist() == METRES.tolist()
    assert read_depth(saved(tmp_path / "b.tif", METRES * 1000), Reading(depth_scale=1000)).tolist() == METRES.tolist()


def test_nan_infinity_negative_values_and_those_that_the_set_names_are_unknown(tmp_path):
    odd = np.array([[np.nan, np.inf, -np.inf], [-1, 2.5, 1e39]], dtype=np.float64)
    np.save(tmp_path / "a.npy", odd)
    assert read_depth(tmp_path / "a.npy").tolist() == [[0, 0, 0], [0, 2.5, 0]]
    path = saved(tmp_path / "a.png", np.array([[65535, 2500, 9999]], dtype=np.uint16))
    assert read_depth(path).tolist() == [[np.float32(65.535), 2.5, np.float32(9.999)]]
    assert read_depth(path, Reading(depth_unknown=65535)).tolist() == [[0, 2.5, np.float32(9.999)]]
    assert read_depth(path, Reading(depth_unknown=(65535, 9999))).tolist() == [[0, 2.5, 0]]


def test_eight_bits_want_a_scale(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[0, 25, 250]], dtype=np.uint8))
    np.save(tmp_path / "a.npy", np.array([[0, 25, 250]], dtype=np.uint8))
    for one in (path, tmp_path / "a.npy"):
        found = told(lambda one=one: read_depth(one))
        assert re.search(r"got \S*a\.\w+ (in mode L|of uint8): want 16 bits of millimetres.*depth_scale", found)
        assert read_depth(one, Reading(depth_scale=25)).tolist() == [[0, 1, 10]]


def test_files_that_hold_no_depth_are_refused_by_name(tmp_path):
    saved(tmp_path / "rgb.png", np.zeros((2, 3, 3), dtype=np.uint8))
    saved(tmp_path / "a.jpg", np.zeros((2, 3), dtype=np.uint8))
    pages = [Image.fromarray(METRES), Image.fromarray(METRES)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    np.save(tmp_path / "cube.npy", np.zeros((2, 3, 4)))
    for name, message in {
        "rgb.png": "in mode RGB: want 16 bits of millimetres, or metres as float TIFF or .npy",
        "a.jpg": "a JPEG, for depth",
        "pages.tif": "of several pages for depth",
        "cube.npy": "of 2 x 3 x 4 values of float64",
    }.items():
        found = told(lambda name=name: read_depth(tmp_path / name))
        assert message in found
        assert name in found
