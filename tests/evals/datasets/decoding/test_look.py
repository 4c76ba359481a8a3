import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.checking.check import check
from evals.datasets.decoding.image_file import read_rgb
from evals.datasets.decoding.look import LOOKED
from evals.datasets.reading import Reading, UnfitFiles
from evals.datasets.settings import Set, open_one
from tests.evals.datasets.decoding.tiff_writer import write_tiff

RAMP = np.arange(20).reshape(4, 5)


def fill(folder, tops, *, least=0, dtype=np.uint16):
    """A 16-bit grey PNG for each greatest level, from the least level up."""
    folder.mkdir(exist_ok=True)
    for number, top in enumerate(tops):
        Image.fromarray((least + RAMP * (top - least) // 19).astype(dtype)).save(folder / f"{number:03d}.png")
    return folder


def opened(folder, **reading):
    return open_set("folder", root=folder, reading=Reading(**reading))


def test_twelve_bits_in_sixteen_are_asked_for_when_the_set_is_opened(tmp_path):
    fill(tmp_path / "ct", [4001, 3000, 3500])
    with pytest.raises(UnfitFiles) as caught:
        opened(tmp_path / "ct")
    told = str(caught.value)
    assert told.startswith(
        "got images of 16-bit integers in set 'ct' whose levels reach 4001 in the 3 that were looked"
    )
    assert "000.png" in told
    assert told.endswith(
        "want to know whether white is 4095 or 65535; set bits: 12 or bits: 16, or range: [0, WHITE], clip: true where "
        "other sets of their kind reach further (docs/my-data.md says where)"
    )
    assert opened(tmp_path / "ct", bits=12).image(0).max() == 249  # 4001 of 4095
    assert opened(tmp_path / "ct", bits=16).image(0).max() == 16
    assert opened(tmp_path / "ct", range=(1000, 4000), clip=True).image(0).max() == 255


@pytest.mark.parametrize(("top", "bits"), [(1, 1), (200, 8), (1000, 10), (4095, 12), (16000, 14)])
def test_the_smallest_usual_number_of_bits_is_named(tmp_path, top, bits):
    fill(tmp_path / "set", [top] * 2)
    with pytest.raises(UnfitFiles, match=f"set bits: {bits} or bits: 16"):
        opened(tmp_path / "set")


def test_a_dark_picture_keeps_the_scale_of_its_set(tmp_path):
    dataset = opened(fill(tmp_path / "set", [65535, 250, 1]))
    assert [int(dataset.image(index).max()) for index in range(3)] == [255, 1, 0]
    twelve = opened(tmp_path / "set", range=(0, 65535))
    np.testing.assert_array_equal(twelve.image(0), dataset.image(0))


def test_only_a_few_pictures_are_looked_at_and_none_of_eight_bits_is_decoded(tmp_path, monkeypatch):
    for number in range(50):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number:02d}.png")
    looked, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda path, **how: looked.append(path) or real(path, **how))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_prepare", lambda image: pytest.fail("decoded"))
    dataset = opened(tmp_path)
    assert len(looked) == LOOKED
    assert str(dataset.look) == ""
    assert dataset.look.scale is None


@pytest.mark.parametrize("top", [3800, 65535])
@pytest.mark.parametrize("colours", [False, True])
def test_a_deep_picture_that_was_not_looked_at_is_asked_for_when_it_is_read(tmp_path, top, colours):
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(20):
        Image.new("L", (5, 4)).save(folder / f"{number:03d}.png")
    values = (RAMP * (top // 19)).astype(np.uint16)
    cv2.imwrite(str(folder / "001.png"), np.stack([values] * 3, axis=2) if colours else values)
    dataset = opened(folder)
    message = (
        r"got \S*001.png of 16-bit integers in set 'set', whose images have 8 bits where they were looked at: want to "
        "know its levels of black and white; set bits: 16, or what its levels have, or convert it to 8 bits"
    )
    with pytest.raises(UnfitFiles, match=message):
        dataset.image(1)
    with pytest.raises(
        BadInput, match=r"set/train: got \S*001.png .*want to know its levels of black and white; set bits: 16"
    ):
        check(dataset)
    bits, wanted = (12, 237) if top == 3800 else (16, 255)
    assert opened(folder, bits=bits).image(1).max() == wanted


def test_kinds_of_number_of_two_scales_are_refused_in_one_set(tmp_path):
    fill(tmp_path / "set", [65535] * 2)
    write_tiff(tmp_path / "set" / "f.tif", (RAMP[..., None] / 19).astype(np.float32))
    message = (
        r"got \S*000.png of levels 0 to 65535 \(16-bit integers\) beside \S*f.tif of levels 0 to 1 \(floats\): want "
        "one scale in a set; make them one kind, or two sets, each with its bits or range"
    )
    with pytest.raises(UnfitFiles, match=message):
        opened(tmp_path / "set")
    (tmp_path / "set" / "f.tif").unlink()
    write_tiff(tmp_path / "set" / "f.tif", (RAMP[..., None] * 3449).astype(np.uint16))
    assert opened(tmp_path / "set").image(2).max() == opened(tmp_path / "set").image(0).max() == 255


def test_a_file_that_was_not_looked_at_has_the_scale_of_those_that_were(tmp_path):
    folder = fill(tmp_path / "set", [65535] * 20)
    write_tiff(folder / "0001.tif", (RAMP[..., None] / 19).astype(np.float32))
    dataset = opened(folder)
    message = (
        r"got \S*0001.tif of levels 0 to 1 \(floats\) in a set of levels 0 to 65535 \(16-bit integers\) where it was "
        "looked at: want one scale in a set; make them one kind, or two sets, each with its bits or range"
    )
    with pytest.raises(UnfitFiles, match=message):
        dataset.image(1)
    assert dataset.image(2).max() == 255


def test_deep_colours_that_were_not_looked_at_in_a_set_of_floats_are_refused(tmp_path):
    for number in range(20):
        write_tiff(tmp_path / f"{number:03d}.tif", (RAMP[..., None] / 19).astype(np.float32))
    cv2.imwrite(str(tmp_path / "0001.png"), np.full((4, 5, 3), 40000, np.uint16))
    dataset = opened(tmp_path)
    with pytest.raises(UnfitFiles, match=r"got \S*0001.png of levels 0 to 65535 .* in a set of levels 0 to 1 "):
        dataset.image([path.name for path in dataset._images].index("0001.png"))


def test_the_line_of_a_set_of_deep_and_other_images_says_for_which_the_scale_holds(tmp_path):
    fill(tmp_path / "set", [4000] * 2)
    Image.new("L", (5, 4), 200).save(tmp_path / "set" / "eight.png")
    dataset = opened(tmp_path / "set", bits=12)
    assert str(dataset.look) == "levels 0 to 4095 (bits: 12), 8-bit images as they are"
    assert [int(dataset.image(index).max()) for index in range(3)] == [249, 249, 200]


def test_a_level_above_the_scale_is_refused_by_file_value_and_setting(tmp_path):
    fill(tmp_path / "set", [4000] * 20)
    Image.fromarray((RAMP * 300).astype(np.uint16)).save(tmp_path / "set" / "001.png")
    dataset = opened(tmp_path / "set", bits=12)
    with pytest.raises(BadInput, match=r"got levels 0 to 5700 in .*001.png \(16-bit integers\): want levels 0 to 4095 "
                                       r"\(bits: 12\); set range: \[0, 16383\] or"):  # fmt: skip
        dataset.image(1)
    assert opened(tmp_path / "set", bits=12, clip=True).image(1).max() == 255


def test_floats_are_shares_of_one_unless_a_range_is_set(tmp_path):
    write_tiff(tmp_path / "a.tif", (RAMP[..., None] * 100.0).astype(np.float32))
    with pytest.raises(
        UnfitFiles, match=r"levels 0 to 1900 in .*a.tif \(32-bit floats\): want levels 0 to 1 \(floats\)"
    ):
        opened(tmp_path)
    assert opened(tmp_path, range=(0, 1900)).image(0)[0, :, 0].tolist() == [0, 13, 27, 40, 54]
    write_tiff(tmp_path / "a.tif", (RAMP[..., None] / 19).astype(np.float32) * np.float32(1.000001))
    assert opened(tmp_path).image(0).max() == 255


def test_no_data_is_black_where_it_is_no_number_or_cut_away(tmp_path):
    values = (RAMP[..., None] / 19).astype(np.float32)
    values[0, 0], values[3, 4] = np.nan, -9999
    write_tiff(tmp_path / "a.tif", values)
    with pytest.raises(
        UnfitFiles,
        match=r"got levels -9999 to .*set range: \[0, 1\], clip: true, which cuts what lies outside \(-9999 looks",
    ):
        opened(tmp_path)
    read = opened(tmp_path, range=(0, 1), clip=True).image(0)
    assert (read[0, 0].tolist(), read[3, 4].tolist(), read[3, 3].tolist()) == ([0] * 3, [0] * 3, [242] * 3)


@pytest.mark.parametrize("empty", [-9999, -32768, -3.4028235e38, -np.inf])
@pytest.mark.parametrize(("top", "offers"), [
    (0.4, "range: [0, 1], clip: true"),
    (0.1, "range: [0, 1], clip: true or range: [0, 0.1], clip: true"),
    (3000, "range: [0, 3000], clip: true"),
])  # fmt: skip
def test_no_data_is_never_offered_as_black(tmp_path, empty, top, offers):
    """A quarter of reflectance without data."""
    values = (np.arange(400).reshape(20, 20, 1) * (top / 399)).astype(np.float32)
    values[:5] = empty
    for name in "abc":
        write_tiff(tmp_path / f"{name}.tif", values)
    with pytest.raises(UnfitFiles) as caught:
        opened(tmp_path)
    told = str(caught.value)
    assert f"; set {offers}, which cuts what lies outside ({np.float32(empty):g} looks like no data)" in told
    dataset = opened(tmp_path, range=(0, 1 if top < 1 else 3000), clip=True)
    shown = dataset.image(0)[[0, 19], [0, 19], 0].tolist()
    assert shown == [0, {0.4: 102, 0.1: 26, 3000: 255}[top]]


def test_the_range_that_is_offered_is_round_and_that_of_all_files_that_were_looked_at(tmp_path):
    """Hounsfield units as floats: the first file lacks air."""
    steps = np.linspace(0, 1, 400).reshape(20, 20, 1)
    for name, low in zip("abc", (-968.627, -1000, -1000), strict=True):
        write_tiff(tmp_path / f"{name}.tif", (low + steps * (1023 - low)).astype(np.float32))
    with pytest.raises(UnfitFiles) as caught:
        opened(tmp_path)
    told = str(caught.value)
    assert "got levels -968.627 to 1023 in" in told
    assert "; set range: [-1000, 1100] or what the whole set has, or range: [-1000, 1100], clip: true, which" in told
    assert opened(tmp_path, range=(-1000, 1100)).image(1)[[0, 19], [0, 19], 0].tolist() == [0, 246]


def test_no_data_outside_of_a_range_that_is_set_wants_no_other_range(tmp_path):
    values = (np.arange(400).reshape(20, 20, 1) / 399).astype(np.float32)
    values[:5] = -9999
    write_tiff(tmp_path / "a.tif", values)
    with pytest.raises(UnfitFiles, match=r"; set clip: true beside range: \[0.0, 1.0\], which cuts what lies outside"):
        opened(tmp_path, range=(0, 1))
    write_tiff(tmp_path / "a.tif", np.where(values < 0, -32768, values * 3000).astype(np.int16))
    with pytest.raises(UnfitFiles, match=r"set range: \[0, 3000\], clip: true, .*\(-32768 looks like no data\)"):
        opened(tmp_path)


def test_floats_that_fill_a_small_part_of_their_scale_are_asked_for(tmp_path):
    steps = np.linspace(0, 1, 400).reshape(20, 20, 1)
    for name, top in zip("abc", (0.002, 0.01, 0.007), strict=True):
        write_tiff(tmp_path / f"{name}.tif", (steps * top).astype(np.float32))
    with pytest.raises(UnfitFiles) as caught:
        opened(tmp_path)
    told = str(caught.value)
    assert told.startswith(
        f"got images of 32-bit floats in set '{tmp_path.name}' whose levels reach 0.01 in the 3 that"
    )
    assert "b.tif): want to know whether white is 0.01 or 1; set range: [0, 0.01], clip: true or range: [0, 1]" in told
    assert opened(tmp_path, range=(0, 0.01), clip=True).image(1)[19, 19, 0] == 255
    assert opened(tmp_path, range=(0, 1)).image(1)[19, 19, 0] == 3
    write_tiff(tmp_path / "c.tif", (steps * 0.26).astype(np.float32))
    assert opened(tmp_path).image(2)[19, 19, 0] == 66


def test_the_line_of_a_set_says_how_much_is_no_number(tmp_path):
    values = (np.arange(400).reshape(20, 20, 1) * (0.3 / 399)).astype(np.float32)
    values[:5] = np.nan
    write_tiff(tmp_path / "a.tif", values)
    dataset = opened(tmp_path)
    assert str(dataset.look) == "levels 0 to 1 (floats), up to 0.3 where looked at, 25% NaN there, which is black"
    assert str(dataset.look) in str(check(dataset))
    assert dataset.image(0)[[0, 19], [0, 19], 0].tolist() == [0, 77]
    assert "25% NaN there" in str(opened(tmp_path, range=(0, 0.3)).look)


def test_numbers_with_a_sign_want_a_range(tmp_path):
    write_tiff(tmp_path / "a.tif", (RAMP[..., None] * 100 - 1000).astype(np.int16))
    with pytest.raises(
        UnfitFiles, match=r"integers with a sign: want the levels of black and white \(-1000 to 900 here\)"
    ):
        opened(tmp_path)
    assert opened(tmp_path, range=(-160, 240), clip=True).image(0)[1].T[0].tolist() == [0] * 4 + [38]
    assert opened(tmp_path, range=(-1024, 3071)).image(0)[0, 0, 0] == 1


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("count", [3, 4])
def test_deep_colours_have_the_scale_of_their_set(tmp_path, name, count):
    values = (np.arange(60).reshape(4, 5, 3) * 69).astype(np.uint16)
    cover = np.full((4, 5, 1), 65535, np.uint16)
    cover[0, 0] = 0
    cv2.imwrite(str(tmp_path / name), np.concatenate([values[..., ::-1], cover][: count - 2], axis=2))
    with pytest.raises(UnfitFiles, match=r"levels reach 4071 .*bits: 12 or bits: 16"):
        opened(tmp_path)
    read = opened(tmp_path, bits=12).image(0)
    wanted = (values * (255 / 4095) + 0.5).astype(np.uint8)
    if count == 4:
        wanted[0, 0] = 255
    np.testing.assert_array_equal(read, wanted)
    with Image.open(tmp_path / name) as image:  # as it was read before there was a setting: the upper bytes
        np.testing.assert_array_equal(opened(tmp_path, bits=16).image(0)[1:], np.asarray(image.convert("RGB"))[1:])


def test_channels_that_are_no_transparency_are_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (30, 40, 4), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "rgbn.png")
    with pytest.raises(UnfitFiles, match=r"got 4 channels in .*rgbn.png: want to know whether the last of them is "
                                         r"transparency; set channels: \[1, 2, 3\] if it is none, or"):  # fmt: skip
        opened(tmp_path)
    np.testing.assert_array_equal(opened(tmp_path, channels=[1, 2, 3]).image(0), values[..., :3])
    np.testing.assert_array_equal(opened(tmp_path, channels=[4, 1, 2]).image(0), values[..., [3, 0, 1]])
    np.testing.assert_array_equal(opened(tmp_path, channels=[2]).image(0), values[..., [1, 1, 1]])
    white = Image.new("RGBA", (40, 30), "white")
    white.alpha_composite(Image.fromarray(values))
    np.testing.assert_array_equal(opened(tmp_path, channels=[1, 2, 3, 4]).image(0), np.asarray(white.convert("RGB")))
    with pytest.raises(BadInput, match=r"got 4 channels in .*rgbn.png: want 5, as channels: \[5, 1, 2\] asks"):
        opened(tmp_path, channels=[5, 1, 2])
    assert str(opened(tmp_path, channels=[4, 1, 2]).look) == "channels 4, 1, 2"


@pytest.mark.parametrize("deep", [False, True])
def test_two_channels_of_a_png_are_asked_for_as_two(tmp_path, deep):
    """Radar: VV and VH, neither of which is transparency."""
    values = np.random.default_rng(0).integers(30, 250, (20, 30, 2), dtype=np.uint8)
    if deep:
        write_grey_and_alpha(tmp_path / "a.png", values.astype(np.uint16) * 257)
    else:
        Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.raises(UnfitFiles) as caught:
        opened(tmp_path)
    assert (
        "a.png: want to know whether the last of them is transparency; set channels: [1] or channels: [2] if it is "
        "none, or channels: [1, 2] if it is"
    ) in str(caught.value)
    assert str(caught.value).startswith("got 2 channels in ")
    for channel in (1, 2):
        wanted = values[..., [channel - 1] * 3]
        np.testing.assert_array_equal(opened(tmp_path, channels=[channel]).image(0), wanted)
    white = Image.new("RGBA", (30, 20), "white")
    white.alpha_composite(Image.fromarray(values).convert("RGBA"))
    np.testing.assert_array_equal(opened(tmp_path, channels=[1, 2]).image(0), np.asarray(white.convert("RGB")))


def write_grey_and_alpha(path, values):
    """A PNG of 16 bits and two channels, which neither Pillow nor OpenCV writes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_true_transparency_is_not_asked_for(tmp_path):
    values = np.full((30, 40, 4), 90, dtype=np.uint8)
    values[..., 3] = np.where(np.arange(40) < 15, 0, 255)
    values[:, 14:18, 3] = 120
    Image.fromarray(values).save(tmp_path / "cut.png")
    assert opened(tmp_path).image(0)[0, [0, 39], 0].tolist() == [255, 90]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("count", [2, 4])
def test_untold_channels_of_tiff_are_colours_or_refused_but_never_another_picture(tmp_path, dtype, count):
    values = (np.arange(20 * count).reshape(4, 5, count) * 3).astype(dtype)
    write_tiff(tmp_path / "a.tif", values, extra=0)
    deep = {"range": (0, 255)} if dtype != np.uint8 else {}
    if count == 2:
        with pytest.raises(
            UnfitFiles, match=r"(got 2 channels in .*a.tif: want to know|a.tif of 2 channels.*want 1, 3)"
        ):
            opened(tmp_path, **deep)
        return
    np.testing.assert_array_equal(opened(tmp_path, **deep, channels=[1, 2, 3]).image(0), values[..., :3])
    np.testing.assert_array_equal(opened(tmp_path, **deep, channels=[4, 1, 2]).image(0), values[..., [3, 0, 1]])


@pytest.mark.parametrize(
    ("values", "how", "got"),
    [
        (np.zeros((4, 5, 8), np.uint8), {}, "of 8 channels, 8-bit integers"),
        (np.zeros((4, 5, 3), np.uint16), {"planar": 2}, "of 3 channels in planes of their own, 16-bit integers"),
        (np.zeros((4, 5, 1), np.float16), {}, "of 1 channel, 16-bit floats"),
    ],
)
def test_tiff_that_nobody_reads_says_into_what_to_convert_it(tmp_path, values, how, got):
    write_tiff(tmp_path / "a.tif", values, **how)
    with pytest.raises(
        UnfitFiles, match=f"got .*a.tif {got}: want 1, 3 or 4 interleaved channels .*; convert it, as by"
    ):
        opened(tmp_path)


def test_twelve_bits_that_a_tiff_declares_are_no_question(tmp_path):
    packed = bytes([0x12, 0x3F, 0xFF] * 24)  # pairs of 291 and 4095
    tags = {256: 12, 257: 4, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: 4, 279: 72}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, 9) + entries + bytes(4) + packed)
    dataset = opened(tmp_path)
    assert dataset.image(0)[0, :2, 0].tolist() == [18, 255]
    assert "levels 0 to 4095 (12-bit integers)" in str(check(dataset))


def test_inks_are_read_as_colours_whether_stored_as_they_are_or_turned_round(tmp_path):
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # red
    inks.save(tmp_path / "inks.tif")
    inks.save(tmp_path / "adobe.jpg", quality=95)  # Pillow writes it as Adobe does: 255 is no ink
    for name in ("inks.tif", "adobe.jpg"):
        assert np.abs(read_rgb(tmp_path / name)[8, 8].astype(int) - [255, 0, 0]).max() <= 3


def test_deep_grey_whose_zero_is_white_is_turned_round(tmp_path):
    write_tiff(tmp_path / "a.tif", (RAMP[..., None] * 3449).astype(np.uint16), photometric=0)
    assert opened(tmp_path).image(0)[[0, 3], [0, 4], 0].tolist() == [255, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_deep_colours_are_turned_upright(tmp_path, orientation, name):
    eight = np.zeros((16, 24, 3), np.uint8)
    eight[:8, :8, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(eight).save(tmp_path / f"eight{name[1:]}", exif=exif)
    wanted = opened(tmp_path).image(0)
    (tmp_path / f"eight{name[1:]}").unlink()
    deep = (eight[..., ::-1] // 255).astype(np.uint16) * 4095
    if name == "a.png":
        cv2.imwrite(str(tmp_path / "deep.png"), deep)
        data = (tmp_path / "deep.png").read_bytes()
        Image.new("RGB", (1, 1)).save(tmp_path / "small.png", exif=exif)
        small = (tmp_path / "small.png").read_bytes()
        start = small.index(b"eXIf") - 4
        chunk = small[start : start + 12 + int.from_bytes(small[start : start + 4], "big")]
        (tmp_path / "deep.png").write_bytes(data[:33] + chunk + data[33:])
        (tmp_path / "small.png").unlink()
    else:
        write_tiff(tmp_path / "deep.tif", deep[..., ::-1], orientation=orientation)
    np.testing.assert_array_equal(opened(tmp_path, bits=12).image(0), wanted)


def test_a_stack_of_pages_is_refused_and_a_preview_behind_a_picture_is_not(tmp_path):
    first, small = Image.new("L", (8, 6), 7), Image.new("L", (4, 3))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[small])
    assert opened(tmp_path).image(0)[0, 0].tolist() == [7] * 3
    first.save(tmp_path / "a.tif", save_all=True, append_images=[first] * 4)
    with pytest.raises(UnfitFiles, match=r"got several pages in .*a.tif: want one picture in a file; write each page"):
        opened(tmp_path)


def test_a_photo_with_a_preview_behind_it_is_not_called_animated(tmp_path):
    """As many phones write: a JPEG that is an MPO."""
    photo, preview = Image.new("RGB", (16, 8), "red"), Image.new("RGB", (8, 4), "blue")
    photo.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    dataset = opened(tmp_path)
    assert str(dataset.look) == ""
    assert dataset.image(0)[4, 8].tolist() == [254, 0, 0]


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_animated_pictures_show_their_first_frame_and_say_so(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    dataset = opened(tmp_path)
    assert dataset.image(0)[0, 0].tolist() == [255, 0, 0]
    assert "the first frame of animated images" in str(check(dataset))


def test_a_check_says_which_scale_was_taken(tmp_path):
    folder = fill(tmp_path / "set", [4000] * 3)
    assert "3 images, all readable, levels 0 to 4095 (bits: 12)" in str(check(opened(folder, bits=12)))
    assert "levels 100 to 4000.5 (range: [100.0, 4000.5])" in str(check(opened(folder, range=(100, 4000.5), clip=True)))
    fill(folder, [65535] * 3)
    assert "all readable, levels 0 to 65535 (16-bit integers)" in str(check(opened(folder)))
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    for number in range(3):
        (folder / f"{number:03d}.png").unlink()
    Image.new("L", (4, 4)).save(folder / "a.png")
    assert "8 bits where looked at, so without bits" in str(check(opened(folder, bits=12)))


def test_settings_of_a_set_reach_its_files_and_its_fingerprint(tmp_path):
    folder = fill(tmp_path / "set", [4000] * 3)
    twelve = Set(kind="folder", root=str(folder), bits=12)
    found = open_one("set", twelve, cache=None)
    assert found.image(0).max() == 249
    sixteen = open_one("set", Set(kind="folder", root=str(folder), bits=16), cache=None)
    larger = open_one("set", Set(kind="folder", root=str(folder), bits=12, max_megapixels=500.0), cache=None)
    assert found.fingerprint() != sixteen.fingerprint()
    assert found.fingerprint() == larger.fingerprint()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"bits": 12, "range": (0, 4095)}, "bits=12: want no `bits` beside `range`"),
        ({"clip": True}, "clip=true: want `bits` or `range` beside it"),
        ({"range": (5, 5)}, "range"),
        ({"channels": [0]}, "channels"),
        ({"channels": [1, 2, 3, 4, 5]}, "channels"),
        ({"bits": 0}, "bits=0: want a whole number, from 1 to 32, or null"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given, told):
    with pytest.raises(BadInput) as caught:
        Reading(**given)
    assert told in str(caught.value)


def test_an_unreadable_picture_among_those_looked_at_is_left_to_its_reader(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    dataset = opened(tmp_path)
    with pytest.raises(BadInput, match="got unreadable image"):
        dataset.image(1)
