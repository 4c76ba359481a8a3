"""Files that are no pictures: what they are, by their suffix or their first bytes, and what to do about them."""

from __future__ import annotations

from pathlib import Path

_DICOM = "DICOM: convert it to 16-bit PNG"
_HEIC = "HEIC: convert it to JPEG or PNG"
_VIDEO = "video: take frames from it"
_RAW = "raw file of a camera: convert it to JPEG or PNG"
_VOLUME = "volume: write its slices as 16-bit PNG"
_ARRAY = "array: write it as PNG or TIFF"
_BEGINNINGS = (  # where a file says what it is, by what, and what that is
    (0, b"version https://git-lfs", "a pointer of Git LFS: git lfs pull fetches the file"),
    (0, b"<", "text such as a web page"),
    (0, b"%!PS", "PostScript"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\x89HDF", _ARRAY),
    (0, b"\x93NUMPY", _ARRAY),
    (0, b"PK", "an archive: unpack it"),
    (4, b"ftyphei", _HEIC),
    (4, b"ftypmif1", _HEIC),
    (4, b"ftypavi", "AVIF that is damaged"),
    (4, b"ftyp", _VIDEO),
    (128, b"DICM", _DICOM),
)
_SUFFIXES = {
    (".dcm", ".dicom"): _DICOM,
    (".heic", ".heif"): _HEIC,
    (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".bag"): _VIDEO,
    (".dng", ".nef", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2"): _RAW,
    (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"): _VOLUME,
    (".npy", ".npz", ".h5", ".hdf5", ".mat", ".nc", ".fits"): _ARRAY,
    (".exr", ".hdr"): "of high range: convert it to float TIFF",
}


def what_is(path: Path) -> str:
    """What a file under a picture's name is, in words, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(160)
    found = next((words for place, mark, words in _BEGINNINGS if start[place:].lstrip().startswith(mark)), "")
    return "empty" if not start else f"no image but {found}" if found else "no image"


def by_suffix(name: str) -> str:
    """What a file is that has no picture's suffix, in words, by its name."""
    return next((words for ends, words in _SUFFIXES.items() if name.lower().endswith(ends)), "no picture by its suffix")
