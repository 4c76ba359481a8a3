"""Settings of the projection head that a loss on prototypes looks through."""

from __future__ import annotations

from dataclasses import dataclass

from common.limits import require


@dataclass(frozen=True)
class Head:
    """A projection head: three linear layers, unit-length bottleneck, prototypes without bias (§3.2)."""

    hidden: int = 2048
    bottleneck: int = 256
    prototypes: int = 65536
    unit_prototypes: bool = False

    def __post_init__(self) -> None:
        for key in ("hidden", "bottleneck", "prototypes"):
            require(getattr(self, key) >= 1, f"head {key}={getattr(self, key)}: want at least 1")
