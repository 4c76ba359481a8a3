"""What the settings of a protocol may be: declared once for each method as a table, checked by one function."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from common.errors import BadInput


class Named(Protocol):
    """Settings that say whose they are."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Limit:
    """A finite number from `low` to `high`, or a list of `length` of them.

    Args:
        above: `low` itself is excluded.
        below: `high` itself is excluded.
        rising: no number of the list is below the one before it.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    length: int | None = None
    rising: bool = False

    def list_of(self, length: int, *, rising: bool = False) -> Limit:
        """The same for each number of a list."""
        return replace(self, length=length, rising=rising)

    def holds(self, value: Any) -> bool:
        if self.length is None:
            over = value > self.low if self.above else value >= self.low
            under = value < self.high if self.below else value <= self.high
            return math.isfinite(value) and over and under
        if len(value) != self.length or not all(replace(self, length=None).holds(one) for one in value):
            return False
        return not self.rising or list(value) == sorted(value)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:g}" if math.isfinite(self.low) else ""
        high = f"{'below' if self.below else 'at most'} {self.high:g}" if math.isfinite(self.high) else ""
        number = " and ".join(part for part in (low, high) if part) or "a finite number"
        if self.length is None:
            return number
        return f"{self.length} {'rising ' if self.rising else ''}numbers, each {number}"


FINITE = Limit()
COUNT = Limit(low=1)
NATURAL = Limit(low=0)
POSITIVE = Limit(low=0, above=True)
SHARE = Limit(low=0, high=1)


def check(settings: Named, limits: Mapping[str, Limit]) -> None:
    """Raises BadInput in one line at the first setting that leaves its limit; settings that are None are left out."""
    for name, limit in limits.items():
        value = getattr(settings, name)
        if value is not None and not limit.holds(value):
            refuse(settings, name, str(limit))


def refuse(settings: Named, name: str, want: str) -> None:
    """Raises BadInput that names a setting, its value and the protocol."""
    value = getattr(settings, name)
    shown = list(value) if isinstance(value, tuple) else value
    raise BadInput(f"got {name} {shown} in {settings.name}: want {want}; do correct it")


def pair(values: Sequence[float]) -> tuple[float, float]:
    """A list of two as a tuple whose type says so."""
    first, second = values
    return first, second


def require(ok: bool, message: str) -> None:
    """Raises ValueError with `message` unless `ok`."""
    if not ok:
        raise ValueError(message)
