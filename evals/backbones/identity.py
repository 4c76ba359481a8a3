"""Which weights an address names beyond doubt: a name on a hub, or the digest of an official file."""

from __future__ import annotations

from pathlib import Path

import timm

from common.disk import checksum
from common.errors import BadInput


def identity(address: str) -> str | None:
    """`timm:ARCHITECTURE.TAG`, `hf:OWNER/NAME` of the hub, or `sha256:DIGEST` of a file of `dinov2:` or `dinov3:`.

    None for all else: a folder holds whatever somebody put there, one network of a training dump too, and a random
    start is nobody's. What a hub or its cache serves under a name is believed.

    Raises:
        BadInput: a file that cannot be read.
    """
    kind, _, rest = address.partition(":")
    if kind == "timm":
        found = timm.get_pretrained_cfg(rest)  # a name without a tag stands for the first tag of the architecture
        return f"timm:{found.architecture}.{found.tag}" if found and found.tag else None
    if kind == "hf":
        return None if Path(rest).exists() else address
    if kind in ("dinov2", "dinov3") and Path(rest).is_file():
        return f"sha256:{_digest(Path(rest))}"
    return None


def _digest(file: Path) -> str:
    try:
        return checksum(file)
    except OSError as error:
        raise BadInput(f"got {file}, which cannot be read ({error.strerror}): want a file of weights") from error
