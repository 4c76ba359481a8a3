import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.decoding.image_file import read_rgb, upright_size

RAMP = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "YCbCr", "RGB"])
def test_any_mode_becomes_rgb_of_the_same_look(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    picture = Image.fromarray(RAMP).convert(mode)
    picture.save(path)
    read = read_rgb(path)
    assert (read.shape, read.dtype) == ((4, 4, 3), np.uint8)
    np.testing.assert_array_equal(read, np.asarray(picture.convert("RGB")))


def test_sixteen_bit_grey_is_scaled_to_eight(tmp_path):
    Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png")[0].tolist() == [[0] * 3, [1] * 3, [255] * 3]


def test_float_grey_between_zero_and_one_is_scaled_up(tmp_path):
    Image.fromarray(np.array([[0, 0.5, 1]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert read_rgb(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 128, 255]


def test_transparent_pixels_lie_on_white(tmp_path):
    Image.fromarray(np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png")[0].tolist() == [[255, 255, 255], [10, 20, 30]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([200, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_rgb(tmp_path / "p.png")[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path, orientation):
    pixels = np.zeros((16, 24, 3), dtype=np.uint8)
    pixels[:8, :8, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    stored = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    read = read_rgb(tmp_path / "a.png")
    assert read[stored[orientation]].tolist() == [255, 0, 0]
    assert read.shape[:2] == upright_size(tmp_path / "a.png") == ((16, 24) if orientation < 5 else (24, 16))


def test_unreadable_pictures_are_named(tmp_path):
    Image.fromarray(RAMP.repeat(40, 0).repeat(40, 1)).save(tmp_path / "cut.jpg")
    Image.fromarray(RAMP.repeat(40, 0).repeat(40, 1)).save(tmp_path / "cut.png")
    for name in ("cut.jpg", "cut.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:300])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture at all")
    for name, reason in (
        ("cut.jpg", "runcated"),
        ("cut.png", ""),
        ("empty.png", r"\(empty\)"),
        ("text.png", r"\(no image\)"),
    ):
        with pytest.raises(BadInput, match=f"got unreadable image .*{name}.*{reason}.*want a whole image") as caught:
            read_rgb(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=r"got no file .*gone\.png"):
        read_rgb(tmp_path / "gone.png")
