"""How the files of a set are read: what its levels, values of masks and depth mean, and which files are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated

from annotated_types import Ge, Le, Predicate

from common.bounds import About, Count, Flag, Positive, Real, Whole
from common.errors import BadInput
from common.schema import settings

LARGEST = 179.0  # million pixels: what Pillow takes for no bomb


class UnfitFiles(BadInput):
    """Whole files that the set's settings do not fit, found when it is opened: the message names what to set."""


def different_and_rising(values: tuple[float, float]) -> bool:
    """Whether the second value is above the first."""
    return values[0] < values[1]


def one_to_four(values: list[int]) -> bool:
    """Whether there are at least one and at most four values."""
    return 1 <= len(values) <= 4


@settings
class Reading:
    """What the files of a set do not say by themselves; each default is what most sets have."""

    bits: Annotated[
        Annotated[Whole, Ge(1), Le(32)] | None,
        About(
            "of the levels in images of more than 8 bits a channel: 12 says that 0 is black and 4095 white; null = "
            "all that the files have room for, 0 to 1 for floats"
        ),
    ] = None
    range: Annotated[
        Annotated[tuple[Real, Real], Predicate(different_and_rising)] | None,
        About("the levels of black and white, in place of `bits`, as in [0, 4095] or [-160, 240]"),
    ] = None
    clip: Annotated[Flag, About("levels outside of `bits` or `range` are cut to it; else they are refused")] = False
    channels: Annotated[
        Annotated[list[Count], Predicate(one_to_four)] | None,
        About(
            "which channels of the files, counted from 1, are grey, or red, green and blue; one more is transparency, "
            "as in [1, 2, 3] for three of four, [4, 1, 2], [1]; null = as the files say"
        ),
    ] = None
    max_megapixels: Annotated[Positive, About("million pixels of the largest picture that is read")] = LARGEST

    def conflicts(self) -> Iterator[str]:
        """Two scales, or nothing to cut to."""
        if self.bits is not None and self.range is not None:
            yield f"bits={self.bits}: want no `bits` beside `range`, they say the same; leave one out"
        if self.clip and self.bits is None and self.range is None:
            yield "clip=true: want `bits` or `range` beside it, to which levels are cut"

    def changed(self) -> tuple[tuple[str, object], ...]:
        """The settings that differ from their defaults, by name: part of the set's fingerprint.

        How large a picture may be changes none that is read.
        """
        found = ((one.name, getattr(self, one.name), one.default) for one in fields(Reading))
        return tuple((name, value) for name, value, default in found if value != default and name != "max_megapixels")


AS_USUAL = Reading()
