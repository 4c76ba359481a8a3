"""Files that are made to harm, or are no pictures under a picture's name: each ends in one line."""

import io
import struct
import warnings
import zlib
from functools import partialmethod

import cv2
import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile, TiffImagePlugin

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.decoding.depth_file import read_depth
from evals.datasets.decoding.image_file import FORMATS, opened, read_rgb, upright_size
from evals.datasets.decoding.look import look
from evals.datasets.decoding.mask_file import read_mask
from evals.datasets.reading import Reading
from tests.evals.datasets.decoding.tiff_writer import write_tiff

FRAMES = 20  # that are looked for in a file of any number of them, at most


@pytest.fixture
def frames(monkeypatch):
    """Counts how often Pillow looks for a frame, which takes minutes where it looks for each of a million."""
    sought = []
    for kind in (GifImagePlugin.GifImageFile, TiffImagePlugin.TiffImageFile):
        monkeypatch.setattr(kind, "_seek", partialmethod(_counted, kind._seek, sought))
    yield
    assert len(sought) <= FRAMES


def _counted(image, seek, sought, *given):
    sought.append(image)
    return seek(image, *given)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(side: int, *more: bytes, data: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def directory(following: int, side: int = 8) -> bytes:
    """One directory of a TIFF whose pixels lie at 122."""
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 122, 277: 1, 278: side, 279: side * side}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<H", 9) + entries + struct.pack("<I", following)


def tiff(following: int, side: int = 8) -> bytes:
    return b"II*\0" + struct.pack("<I", 8) + directory(following, side) + b"\7" * 64


def jpeg_of(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def endless_pages() -> bytes:
    data = bytearray(tiff(186))
    for number in range(50_000):
        data += directory(186 + (number + 1) * 114)
    return bytes(data)


TEXT = zlib.compress(b"0" * 100_000_000)
LINES = (b"\0" + b"\1" * 12) * 4
BOMBS = {
    "header.png": (png(100_000), "of 100000 x 100000 pixels, 10,000 million: want at most 179 million"),
    "most.png": (png(2**31 - 1), "want at most 179 million; set max_megapixels"),
    "header.jpg": (jpeg_of(65535), "of 65535 x 65535 pixels, 4,295 million"),
    "header.gif": (b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0," + bytes(8) + b"\0\2;", "4,295 million"),
    "header.tif": (tiff(0, 60_000), "of 60000 x 60000 pixels"),
    "header.bmp": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 10**5, 10**5, 1, 24, *[0] * 6),
        "10,000 m",
    ),
    "header.ppm": (b"P6 100000 100000 255\n", "10,000 million"),
    "text.png": (png(4, chunk(b"zTXt", b"a\0\0" + TEXT), data=LINES), "Decompressed data too large"),
    "profile.png": (png(4, chunk(b"iCCP", b"a\0\0" + TEXT), data=LINES), "Decompressed data too large"),
    "texts.png": (
        png(4, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(b"0" * 10**6))] * 100, data=LINES),
        "Too much memory used in text chunks",
    ),
    "pages.tif": (endless_pages(), "several pages"),
    "tags.tif": (b"II*\0" + struct.pack("<IH", 8, 65535) + b"\xff" * 500, "no image"),
    "sizes.tif": (b"II*\0" + struct.pack("<IHHHII", 8, 1, 256, 4, 2**32 - 1, 8) + bytes(4), "no image"),
    "ps.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", r"\(no image but PostScript\)"),
    "photoshop.jpg": (b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30000, 30000, 8, 3), "a Photoshop file"),
    "fli.png": (struct.pack("<IHH", 128, 0xAF12, 1) + bytes(140), r"\(no image\)"),
    "wmf.png": (b"\xd7\xcd\xc6\x9a\0\0" + bytes(40), r"\(no image\)"),
    "paper.png": (b"%PDF-1.4\n", "no image but PDF"),
    "page.jpg": (b"\n<!DOCTYPE html><html>", "no image but text such as a web page"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull fetches the file"),
    "phone.jpg": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC: convert it to JPEG or PNG"),
    "film.jpg": (b"\0\0\0\x18ftypisom" + bytes(99), "no image but video: take frames from it"),
    "scan.png": (bytes(128) + b"DICM" + bytes(99), "DICOM: convert it to 16-bit PNG"),
    "array.tif": (b"\x93NUMPY" + bytes(99), "no image but array: write it as PNG or TIFF"),
}


@pytest.mark.usefixtures("frames")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_or_no_picture_ends_in_one_line(tmp_path, name, capfd):
    data, told = BOMBS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=told) as caught:
        read_rgb(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=name):
        read_mask(tmp_path / name, ["a", "b"])
    assert capfd.readouterr() == ("", "")


def test_postscript_starts_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen.__init__", lambda *given, **how: pytest.fail("a program was started"))
    (tmp_path / "a.jpg").write_bytes(BOMBS["ps.jpg"][0])
    with pytest.raises(BadInput, match="PostScript"):
        read_rgb(tmp_path / "a.jpg")
    assert not {"EPS", "PSD", "FLI", "WMF", "PDF", "FITS", "HDF5", "GRIB"} & set(FORMATS)


@pytest.mark.parametrize("kind", [TypeError, AttributeError, NameError, KeyError, MemoryError])
def test_a_mistake_in_a_program_is_not_told_as_a_damaged_image(tmp_path, kind):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(kind, match="ours"), opened(tmp_path / "a.png"):
        raise kind("ours")


def test_what_pillow_raises_of_a_damaged_file_is_told_of_the_file(tmp_path, monkeypatch):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", lambda image: ImageFile.Parser().feed(None))
    with pytest.raises(BadInput, match=r"got unreadable image \S*a.png"):
        read_rgb(tmp_path / "a.png")


def test_the_guard_of_pillow_stays_for_others(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with opened(tmp_path / "a.png"):
        assert Image.MAX_IMAGE_PIXELS == 89_478_485
    with pytest.raises(BadInput, match="got no file"), opened(tmp_path / "b.png"):
        pass
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


@pytest.mark.usefixtures("frames")
def test_a_million_frames_cost_no_more_than_the_first(tmp_path):
    file = io.BytesIO()
    Image.new("P", (8, 6)).save(file, "GIF")
    data = file.getvalue()
    (tmp_path / "a.gif").write_bytes(data[:-1] + data[data.index(b",") : -1] * 1_000_000 + b";")
    assert look([tmp_path / "a.gif"], Reading(), name="set").notes == ("the first frame of animated images",)
    assert read_rgb(tmp_path / "a.gif").shape == (6, 8, 3)


def test_a_directory_that_leads_to_itself_is_one_page(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(8))
    assert read_rgb(tmp_path / "a.tif")[0, 0].tolist() == [7] * 3


def test_more_pixels_than_announced_are_left_out(tmp_path):
    (tmp_path / "a.png").write_bytes(png(4, data=LINES + bytes(100_000_000)))
    assert read_rgb(tmp_path / "a.png").tolist() == [[[1] * 3] * 4] * 4


def test_a_large_picture_is_read_where_a_setting_lets_it(tmp_path):
    Image.new("L", (2000, 1000), 9).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"of 2000 x 1000 pixels, 2 million: want at most 1 million; "
                                       "set max_megapixels: 2 for the set, or shrink or remove it"):  # fmt: skip
        read_rgb(tmp_path / "a.png", Reading(max_megapixels=1))
    assert read_rgb(tmp_path / "a.png", Reading(max_megapixels=2))[-1, -1].tolist() == [9] * 3
    (tmp_path / "b.jpg").write_bytes(jpeg_of(20_000))
    assert upright_size(tmp_path / "b.jpg") == (20_000, 20_000)  # without a word of Pillow, whose own limit is lower


def test_doubtful_metadata_beside_sound_pixels_is_passed_over(tmp_path, capfd):
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.jpg", exif=exif)
    palette = Image.new("P", (8, 6))
    palette.putpalette([9, 9, 9, 8, 8, 8])
    palette.save(tmp_path / "b.png", transparency=bytes([255, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_rgb(tmp_path / "a.jpg").shape == (6, 8, 3)
        assert read_rgb(tmp_path / "b.png")[0, 0].tolist() == [9, 9, 9]
        assert upright_size(tmp_path / "a.jpg") == (6, 8)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_damaged_deep_pictures_are_never_partly_black(tmp_path, suffix):
    values = np.random.default_rng(0).integers(1, 4096, (60, 80, 3)).astype(np.uint16)
    data = cv2.imencode(suffix, values)[1].tobytes()
    (tmp_path / f"a{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match="got unreadable image"):
        read_rgb(tmp_path / f"a{suffix}", Reading(bits=12))


def test_whatever_bytes_are_changed_the_answer_is_a_picture_or_one_line(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    sources = []
    for format in FORMATS:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format)
        sources.append(file.getvalue())
    sources += [cv2.imencode(suffix, pixels.astype(np.uint16) * 200)[1].tobytes() for suffix in (".png", ".tif")]
    sources.append(write_tiff(tmp_path / "f.tif", pixels.astype(np.float32)).read_bytes())
    answers = set()
    for number in range(50 * len(sources)):
        data = bytearray(sources[number % len(sources)])
        for place in rng.integers(0, min(len(data), 150), 3):
            data[place] = rng.integers(0, 256)
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        for reading in (Reading(), Reading(range=(0, 65535), clip=True, channels=[1])):
            try:
                answers.add(read_rgb(path, reading).dtype.name)
            except BadInput as error:
                answers.add(f"refused in {str(error).count(chr(10)) + 1} line")
    assert answers == {"uint8", "refused in 1 line"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("IM1.dcm", "DICOM: convert it to 16-bit PNG"),
        ("IMG_1.HEIC", "HEIC: convert it to JPEG or PNG"),
        ("drive.mp4", "video: take frames from it"),
        ("P1.NEF", "raw file of a camera: convert it to JPEG or PNG"),
        ("ct.nii.gz", "volume: write its slices as 16-bit PNG"),
        ("tile.npy", "array: write it as PNG or TIFF"),
        ("notes.txt", "no picture by its suffix"),
    ],
)
def test_files_that_are_no_pictures_are_told_with_what_to_do(tmp_path, name, told):
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match=rf"got no image in .* \(1 {told} \({name}\)\): want files like"):
        open_set("folder", root=tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert open_set("folder", root=tmp_path).found().skipped == {told: [name]}


def test_the_limit_of_pixels_holds_for_masks_and_depth_too(tmp_path):
    Image.new("L", (2000, 1000), 1).save(tmp_path / "a.png")
    Image.new("I;16", (2000, 1000), 1000).save(tmp_path / "b.png")
    small, large = Reading(max_megapixels=1), Reading(max_megapixels=2)
    for read in (
        lambda how: read_mask(tmp_path / "a.png", ["x"], how),
        lambda how: read_depth(tmp_path / "b.png", how),
    ):
        with pytest.raises(BadInput, match="want at most 1 million; set max_megapixels: 2"):
            read(small)
        assert read(large).shape == (1000, 2000)
