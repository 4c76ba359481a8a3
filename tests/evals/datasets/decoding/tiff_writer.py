"""Writes TIFF of any number of channels and kind of number, which Pillow does not."""

import struct
from pathlib import Path

import numpy as np


def write_tiff(path: Path, values: np.ndarray, *, photometric: int | None = None, extra: int | None = None,
               planar: int = 1, orientation: int = 1) -> Path:  # fmt: skip
    """One strip of values [H, W, C] without compression; `extra` is what the channels beyond the colours are."""
    height, width, count = values.shape
    data = (values.transpose(2, 0, 1) if planar == 2 else values).tobytes()
    bits, kind = values.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    colours = 3 if count >= 3 else 1
    photometric = (2 if count in (3, 4) else 1) if photometric is None else photometric
    tags = {256: [width], 257: [height], 258: [bits] * count, 259: [1], 262: [photometric], 273: None, 277: [count],
            278: [height], 279: [len(data)], 284: [planar], 339: [kind] * count}  # fmt: skip
    if orientation != 1:
        tags[274] = [orientation]
    if planar == 2:
        tags |= {279: [len(data) // count] * count}
    if extra is not None and count > colours:
        tags[338] = [extra] * (count - colours)
    first = 8 + 2 + 12 * len(tags) + 4
    longer, entries = b"", b""
    start = first + 8 * count * 4
    for tag, numbers in sorted(tags.items()):
        numbers = numbers or [start + part * (len(data) // count) for part in range(count if planar == 2 else 1)]
        letter, code = ("I", 4) if tag in (256, 257, 273, 278, 279) else ("H", 3)
        packed = struct.pack(f"<{len(numbers)}{letter}", *numbers)
        if len(packed) > 4:
            place = struct.pack("<I", first + len(longer))
            longer += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, code, len(numbers)) + place
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4 + longer
    path.write_bytes(head.ljust(start, b"\0") + data)
    return path
