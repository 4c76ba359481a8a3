"""The digest of a file of weights: over all that it says, to the last bit, so that damage shows when it is read."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from common.disk import checksum
from common.errors import BadInput, first_line

log = logging.getLogger("gramlab")

KEY = "digest"
LARGE = 2**18  # bytes from which on a tensor is worth a thread; a smaller one is hashed sooner than it is handed over


def sealed(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What a file says beside its tensors (JSON values), with the digest of it all."""
    return {**about, KEY: digest(about, tensors)}


def refuse_changed(
    said: Mapping[str, Any], tensors: Mapping[str, Tensor], *, source: str, before: Collection[str]
) -> bool:
    """Whether a file bears a digest; False for one from before there were any.

    Args:
        said: what the file says beside its tensors, its digest included.
        source: for the message: whose content it is.
        before: the entries that files had before they had a digest: one of others has lost it.

    Raises:
        BadInput: the file's content is not what was written.
    """
    about = {key: value for key, value in said.items() if key != KEY}
    if KEY not in said and about.keys() <= {*before}:
        return False
    told, found = str(said.get(KEY, "none")), digest(about, tensors)
    if told != found:
        raise BadInput(
            f"got {source} that is not what was written, its digest {told[:12]} but now {found[:12]}: want it as it "
            "was; do make or copy it again"
        )
    return True


def digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 in hex of what is said of tensors (JSON values) and of the SHA-256 of each of them."""
    large = {name: tensor for name, tensor in tensors.items() if tensor.nbytes >= LARGE}
    with ThreadPoolExecutor() as pool:  # hashlib lets other threads run
        found = pool.map(_of_one, large.items())
        parts = [*map(_of_one, (item for item in tensors.items() if item[0] not in large)), *found]
    return hashlib.sha256(json.dumps([about, sorted(parts)], sort_keys=True).encode()).hexdigest()


def _of_one(item: tuple[str, Tensor]) -> str:
    found = hashlib.sha256()
    add(found, *item)
    return f"{item[0]}:{found.hexdigest()}"


def add(found: Any, name: str, tensor: Tensor) -> None:
    """Take name, type, shape and bytes of a tensor into a hash of hashlib."""
    found.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
    found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def content_of(path: Path) -> str:
    """What tells the content of a safetensors file: its digest, or SHA-256 in hex of its bytes where it bears none.

    Of two files of the same content the bytes may differ: safetensors writes what a header says in any order.

    Raises:
        BadInput: a file of another kind, or a damaged one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"got {path}, which is no safetensors file ({first_line(error)}): want one") from error
    return told or checksum(path)


def refuse_other_step(named: int | None, step: int | None, *, source: str) -> None:
    """Raises `BadInput` where the name of a file bears another step than its content; None where one bears none."""
    if None not in (named, step) and named != step:
        raise BadInput(
            f"got {source}, which holds step {step}: want the step that its name bears; do give it back its name"
        )


@cache
def tell_of_no_digest(source: Path) -> None:
    """One line on a file that is taken as it is, once in the life of this process."""
    log.warning("%s has no digest, as it is from before there were any: it is taken as it is", source)
