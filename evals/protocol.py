"""What every evaluation's settings share: a name, a version and a hash that each result row carries."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

Layout = Literal["crop", "whole"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Settings of one evaluation; a changed setting changes the hash, a changed meaning must raise the version.

    `layout` says what the backbone sees. "crop": the short side becomes `size` (bicubic, antialiased), then the
    centre square. "whole": the short side becomes `size`, the aspect is kept and both sides are rounded to a
    multiple of the backbone's stride, so that nothing is cut off.
    """

    family: str
    name: str
    version: int
    layout: Layout

    @property
    def id(self) -> str:
        return f"{self.name}-v{self.version}"

    def hash(self, size: int) -> str:
        """Eight hex digits over all settings and the input size: values compare only where this agrees."""
        content = json.dumps({**asdict(self), "size": size}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:8]
