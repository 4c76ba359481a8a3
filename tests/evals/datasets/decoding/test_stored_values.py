import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from evals.datasets.catalogue import open_set
from evals.datasets.decoding.depth_file import read_depth
from evals.datasets.decoding.mask_file import mask_values, read_mask
from evals.datasets.reading import Reading
from tests.evals.datasets.decoding.tiff_writer import write_tiff
from tests.evals.datasets.told import told

SMALL = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], dtype=np.uint8)


def packed(values, bits):
    """Rows of values of so few bits, as bytes."""
    digits = np.unpackbits(values[..., None], axis=2)[..., 8 - bits :]
    return [np.packbits(row.ravel()).tobytes() for row in digits]


def write_grey_png(path, values, bits):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row for row in packed(values, bits))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_grey_tiff(path, values, bits, photometric):
    rows = b"".join(packed(values, bits))
    tags = {256: values.shape[1], 257: values.shape[0], 258: bits, 259: 1, 262: photometric, 273: 122, 277: 1}
    tags |= {278: values.shape[0], 279: len(rows)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4) + rows)


def write_pgm(path, values, top, *, plain=False):
    data = " ".join(map(str, values.ravel())).encode() if plain else values.astype("u1" if top < 256 else ">u2")
    head = f"P{2 if plain else 5}\n# by hand\n{values.shape[1]} {values.shape[0]}\n{top}\n".encode()
    path.write_bytes(head + bytes(data))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_grey_of_few_bits_has_the_values_that_were_written(tmp_path, bits):
    values = SMALL * (2**bits // 4)
    values[0, 3] = 2**bits - 1
    write_grey_png(tmp_path / "a.png", values, bits)
    write_grey_tiff(tmp_path / "black.tif", values, bits, 1)
    write_grey_tiff(tmp_path / "white.tif", values, bits, 0)
    for name in ("a.png", "black.tif", "white.tif"):
        read = mask_values(tmp_path / name)
        assert (name, read.dtype, read.tolist()) == (name, np.uint8, values.tolist())
    write_grey_png(tmp_path / "a.png", SMALL, bits)
    assert read_mask(tmp_path / "a.png", ["a", "b", "c"]).tolist() == [[255, 0, 1, 2], [2, 1, 0, 255]]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("top", [3, 10, 255, 256, 4095, 40_000, 65_535])
def test_a_pgm_has_the_values_that_were_written_whatever_its_greatest(tmp_path, top, plain):
    values = SMALL.astype(np.int64)
    values[1, 3] = top
    write_pgm(tmp_path / "a.pgm", values, top, plain=plain)
    assert mask_values(tmp_path / "a.pgm").tolist() == values.tolist()
    if top > 255:
        wanted = (values.astype(np.float32) / np.float32(1000)).tolist()
        assert read_depth(tmp_path / "a.pgm").tolist() == wanted


def test_depth_in_millimetres_is_read_from_a_pgm_whose_greatest_is_no_power_of_two(tmp_path):
    write_pgm(tmp_path / "a.pgm", np.array([[1000, 2500, 0]]), 40_000)
    assert read_depth(tmp_path / "a.pgm").tolist() == [[1, 2.5, 0]]


def test_a_pgm_with_more_than_its_header_says_is_refused(tmp_path):
    write_pgm(tmp_path / "a.pgm", SMALL, 2)
    message = told(lambda: mask_values(tmp_path / "a.pgm"))
    assert "got value 3 in" in message
    assert message.endswith("a.pgm: want at most 2, as its header says; replace it")


@pytest.mark.parametrize("format", ["WEBP", "JPEG2000", "AVIF"])
def test_formats_that_may_blur_are_refused_whatever_their_suffix(tmp_path, format):
    Image.fromarray(SMALL).save(tmp_path / "a.png", format)
    assert f"a.png, a {format}, for a mask: want a format that keeps values" in told(
        lambda: mask_values(tmp_path / "a.png")
    )


def test_a_tiff_of_jpeg_is_refused_and_one_that_is_packed_without_loss_is_read(tmp_path):
    for how in ("jpeg", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        Image.fromarray(SMALL).save(tmp_path / f"{how}.tif", compression=how)
    assert "a TIFF of jpeg, for a mask" in told(lambda: mask_values(tmp_path / "jpeg.tif"))
    for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        assert mask_values(tmp_path / f"{how}.tif").tolist() == SMALL.tolist()


def shown(folder, **reading):
    dataset = open_set("folder", root=folder, reading=Reading(**reading))
    return dataset.image(0)[0, :, 0].tolist(), str(dataset.look)


@pytest.mark.parametrize("plain", [False, True])
def test_white_of_a_pgm_picture_is_what_its_header_says_unless_the_set_says_otherwise(tmp_path, plain):
    values = np.array([[0, 200, 2000, 4000]])
    write_pgm(tmp_path / "a.pgm", values, 4095, plain=plain)
    wanted = [0, 12, 125, 249]
    assert shown(tmp_path) == (wanted, "levels 0 to 4095 (12-bit integers)")
    assert shown(tmp_path, bits=12) == (wanted, "levels 0 to 4095 (bits: 12)")
    assert shown(tmp_path, bits=16)[0] == [0, 1, 8, 16]
    write_pgm(tmp_path / "a.pgm", values, 4000, plain=plain)
    assert shown(tmp_path) == ([0, 13, 128, 255], "levels 0 to 4000 (12-bit integers up to 4000)")
    write_pgm(tmp_path / "a.pgm", values, 65_535, plain=plain)
    assert "white is 4095 or 65535; set bits: 12 or bits: 16" in told(lambda: shown(tmp_path))
    assert shown(tmp_path, bits=12)[0] == wanted
    write_pgm(tmp_path / "a.pgm", values // 400, 10, plain=plain)
    assert shown(tmp_path) == ([0, 0, 128, 255], "")


def test_deep_white_that_is_zero_keeps_its_values_too(tmp_path):
    values = SMALL.astype(np.uint16)[..., None] * 1000
    write_tiff(tmp_path / "a.tif", values, photometric=0)
    assert mask_values(tmp_path / "a.tif").tolist() == values[..., 0].tolist()
