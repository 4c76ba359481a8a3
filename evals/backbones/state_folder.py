"""A training state as a folder, in which each of several processes has written its parts of the tensors.

The parts are safetensors of `torch.distributed.checkpoint` (its `HuggingFaceStorageWriter`), so no code is executed to
read them. `header.json` says what the header of a single file says, and the SHA-256 of each of the files. Whatever
number of processes wrote it, one reads it as if it were a single file.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.disk import checksum, read_json
from common.errors import BadInput, first_line
from evals.backbones.digest import refuse_changed

HEADER, SUFFIX, FILES = "header.json", ".safetensors", "files"
_SHA256 = re.compile("[0-9a-f]{64}")
_UNFIT = (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError)


def header_of(folder: Path) -> dict[str, Any]:
    """What the header says, `files` to the SHA-256 of each among it.

    Raises `BadInput` for a header that is not what was written, and where other files lie there than it names.
    """
    header = read_json(folder / HEADER, remedy="copy the folder again")
    refuse_changed(header, {}, source=f"{HEADER} of {folder.name}", before=())
    files = header.get(FILES)
    if not isinstance(files, dict) or not all(
        isinstance(one, str) and _SHA256.fullmatch(one) for one in files.values()
    ):
        raise BadInput(
            f"got a {HEADER} without {FILES} and their SHA-256: want what was written; copy the folder again"
        )
    there = {path.name for path in folder.glob(f"*{SUFFIX}")}
    for name in sorted(there ^ files.keys()):
        lies = "lies in it, which its header does not name" if name in there else "of it is not there"
        raise BadInput(f"got {name}, which {lies}: want the files that were written; copy the folder again")
    return header


def refuse_changed_files(folder: Path, files: Mapping[str, str], names: Iterable[str]) -> None:
    """Raises `BadInput` where the SHA-256 of one of the named files is not the one that it was written with."""
    for name in names:
        if (now := checksum(folder / name)) != files[name]:
            raise BadInput(
                f"got {name} that is not what was written, its SHA-256 {files[name][:12]} but now {now[:12]}: want it "
                "as it was; copy the folder again"
            )


def forms_of(folder: Path) -> dict[str, Tensor]:
    """Every tensor by its name, on the meta device. Raises `BadInput` for files that do not fit together."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader  # takes half a second

    try:
        held = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        for name, one in held.items():
            if sum(math.prod(part.sizes) for part in one.chunks) != math.prod(one.size):  # pyright: ignore
                raise ValueError(f"{name} has gaps")
        return {
            name: torch.empty(one.size, dtype=one.properties.dtype, device="meta")  # pyright: ignore
            for name, one in held.items()
        }
    except _UNFIT as error:
        raise _unfit(error) from error


def fill(folder: Path, tensors: dict[str, Tensor], *, together: bool) -> None:
    """Read tensors in place, of those that are cut this process's parts.

    together: with all processes, each of which reads its own parts. Raises `BadInput` as `forms_of`, by all of them.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as is asked for
            load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not together)
    except CheckpointException as error:
        why = next(iter(error.failures.values()))[0]
        raise _unfit(why) from error


def _unfit(error: BaseException) -> BadInput:
    return BadInput(
        f"got files that do not fit together ({first_line(error)}): want a whole one; copy the folder again"
    )


def checked(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header as that of a single file, and all tensors on the meta device, of files that are what was written.

    Raises `BadInput`, OSError for a damaged one.
    """
    header = header_of(folder)
    files = header.pop(FILES)
    refuse_changed_files(folder, files, files)
    return header, forms_of(folder)


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header as that of a single file, and all tensors whole. Raises as `checked`."""
    header, forms = checked(folder)
    tensors = {name: torch.empty_like(form, device="cpu") for name, form in forms.items()}
    fill(folder, tensors, together=False)
    return header, tensors
