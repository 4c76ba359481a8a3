import io
import struct
import warnings
import zipfile

import numpy as np
import pytest

from common.errors import BadInput
from evals.datasets.decoding.array_file import read_array
from evals.datasets.decoding.depth_file import read_depth
from evals.datasets.decoding.mask_file import read_mask
from evals.datasets.reading import Reading

VALUES = np.arange(6, dtype=np.uint16).reshape(2, 3)


def header(text, data=b""):
    """An .npy file of any header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def claiming(shape, kind="<f8"):
    return header(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n")


def zipped(data, *, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("depth.npy", data)
    return file.getvalue()


def spoiled(data):
    """A zip whose packed bytes are no deflate stream."""
    place = data.index(b"depth.npy") + len(b"depth.npy")
    return data[:place] + b"\xff" * 20 + data[place + 20 :]


def stored(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


HOSTILE = {
    "huge.npy": (claiming("(1000000, 1000000)"), "of 1000000 x 1000000 pixels, 1,000,000 million: want at most 179"),
    "huge.npz": (zipped(claiming("(1000000, 1000000)")), "want at most 179 million; set max_megapixels"),
    "cube.npy": (
        claiming("(1000000, 1000000, 3)"),
        "of 1000000 x 1000000 x 3 values of float64: want rows and columns",
    ),
    "below.npy": (claiming("(-1, 5)"), "of -1 x 5 values of float64: want rows and columns of numbers"),
    "none.npy": (stored(np.zeros((0, 5))), "of 0 x 5 values of float64"),
    "text.npy": (claiming("(2, 2)", "<U400000000"), "want rows and columns of numbers"),
    "cut.npy": (stored(VALUES)[:-1], "unreadable array"),
    "cut.npz": (zipped(stored(VALUES)[:-1]), "unreadable array"),
    "torn.npz": (zipped(stored(VALUES))[:-30], "unreadable array"),
    "zlib.npz": (spoiled(zipped(stored(np.arange(60.0).reshape(6, 10)))), "unreadable array"),
    "token.npy": (header("{'descr': '<f8', 'shape': (2, 2\n"), "unreadable array"),
    "nested.npy": (header("-" * 9000 + "1\n"), "unreadable array"),
    "word.npz": (zipped(b"no array"), "unreadable array"),
    "object.npz": (zipped(claiming("(2, 2)", "|O")), "(objects in place of numbers)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_or_hostile_arrays_end_in_one_line_that_names_them(tmp_path, name, capfd):
    data, message = HOSTILE[name]
    (tmp_path / name).write_bytes(data)
    for read in (read_depth, lambda path: read_mask(path, ["a", "b"])):
        with pytest.raises(BadInput) as caught:
            read(tmp_path / name)
        assert message in str(caught.value)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_header_in_an_old_style_is_read_without_a_word(tmp_path, capfd):
    old = header("{'descr': '<u2', 'fortran_order': False, 'shape': (2L, 3L), }\n", VALUES.tobytes())
    for name, data in (("a.npy", old), ("a.npz", zipped(old))):
        (tmp_path / name).write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read_array(tmp_path / name, megapixels=1).tolist() == VALUES.tolist()
    assert capfd.readouterr() == ("", "")


def test_the_limit_of_pixels_is_that_of_the_set(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((1000, 2000), np.uint8))
    np.savez_compressed(tmp_path / "b.npz", np.ones((1, 1000, 2000), np.uint8))
    for name in ("a.npy", "b.npz"):
        with pytest.raises(BadInput, match="of 2000 x 1000 pixels, 2 million: want at most 1 million; set max_megapi"):
            read_mask(tmp_path / name, ["x"], Reading(max_megapixels=1))
        assert read_mask(tmp_path / name, ["x"], Reading(max_megapixels=2)).shape == (1000, 2000)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">u2", "<i8", "<f2", ">f4", "?"])
def test_every_kind_of_number_and_order_is_read_as_it_was_written(tmp_path, order, dtype):
    values = np.asarray(VALUES.astype(dtype), order=order)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", depth=values[None])
    for name in ("a.npy", "b.npz"):
        assert read_array(tmp_path / name, megapixels=1).tolist() == values.tolist()
