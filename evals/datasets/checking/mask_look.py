"""What evenly spread masks of a set tell before it is used: what they count from, and whether the classes fit them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from common.errors import BadInput, listing
from common.progress import Bar
from common.spread import spread
from evals.datasets.labelled_set import IGNORE, LabelledSet
from evals.datasets.layouts.ade20k import Ade20k
from evals.datasets.layouts.file_set import FileSet
from evals.datasets.layouts.nyu.folder import NyuFolder
from evals.datasets.layouts.nyu.mat import NyuMat
from evals.datasets.reading import WHERE

LOOKED = 200  # masks that are looked at first; all of them where these raise a doubt


def refuse_misread_masks(fitted: Sequence[LabelledSet], judged: Sequence[LabelledSet] = ()) -> None:
    """Raises BadInput for sets whose masks would be misread, or teach nothing: see the four refusals below.

    Args:
        fitted: what heads are fitted on, or what alone is looked at: these should show most classes, and two at least.
        judged: what they are judged on. Where it lies beside a training set that counts from 1, so does it.
    """
    clear = set()
    for one in (*fitted, *judged):
        if not (one.segments and isinstance(one, FileSet | NyuMat)):  # rendered ones are what they say
            continue
        seen = pixels_in(one, _spread(one))
        if one in fitted:
            refuse_assumed_list(one, seen)
        if isinstance(one, FileSet) and one.root not in clear:
            refuse_unclear_base(one, seen)
            clear |= {one.root} if seen[len(one.segments) - 1] else set()
        if one in fitted:
            refuse_wrong_list(one, seen)
            refuse_one_class(one, seen)


def refuse_assumed_list(dataset: LabelledSet, seen: np.ndarray) -> None:
    """Raises BadInput for classes that were assumed for want of a list, of which the masks lack more than half.

    However few the images: who has a part of that very set can say so. Without any class in the masks their values
    are what to ask about.
    """
    if not (isinstance(dataset, Ade20k | NyuFolder) and dataset.assumed and _most(dataset, absent(dataset, seen))):
        return
    lacking = absent(dataset, pixels_in(dataset, _all(dataset)))
    if not _most(dataset, lacking) or len(lacking) == len(dataset.segments):
        return
    values = listing([str(value) for value in np.flatnonzero(_values_in(dataset, _all(dataset)))], most=12)
    own, names, known = dataset.assumed, len(dataset.segments), f"'{dataset.name}' ({dataset.split})"
    raise BadInput(
        f"got no list of classes for {known}, whose masks hold none of {len(lacking)} of the {names} classes of {own}, "
        f"assumed for want of one: want the names that the masks' values ({values}) stand for; write `classes: [NAME, "
        f"NAME]` or `values` in the set's settings ({WHERE}) or --classes {dataset.name}=NAME,NAME; `{own}` alone if "
        "it is that list"
    )


def refuse_unclear_base(dataset: FileSet, seen: np.ndarray) -> None:
    """Raises BadInput that asks whether masks count from 0 or from 1, where nothing says so and both may be.

    They look as if from 0 where the value of the last class, counted from 1, is in no mask, and 0 is in some, and more
    speaks for it: 255 occurs (an unlabelled pixel has a value of its own, then), or 0 covers more than any class, or
    more than half of a usual one while every other value occurs. A 0 of few pixels may as well be what has no label,
    but where there are two classes, of which one alone would be left.
    """
    reading, names = dataset.reading, dataset.segments
    said = reading.labels or reading.values is not None or reading.palette is not None
    if said or seen[len(names) - 1] or not _looks_zero_based(_values_in(dataset, _spread(dataset)), len(names)):
        return
    values = _values_in(dataset, _all(dataset), until=len(names))
    if _looks_zero_based(values, len(names)):
        raise _question(dataset, values)


def _question(dataset: FileSet, values: np.ndarray) -> BadInput:
    """What was seen, and what to write for each of its meanings."""
    names, masks = dataset.segments, f"masks of '{dataset.name}' ({dataset.split})"
    if not values[1 : len(names)].any():
        both = names if len(names) == 2 else ("NAME", "NAME")
        return BadInput(
            f"got {masks} with the values 0 and {IGNORE} alone, which are no classes: want to know what they mean; "
            f"write `values: {{0: {both[0]}, {IGNORE}: {both[1]}}}` in the set's settings ({WHERE})"
        )
    found = [f"value {len(names)} is in none", f"0 covers {values[0] / values.sum():.1%} of them"]
    found += [f"{IGNORE} occurs"] if values[IGNORE] else []
    zero = f"`labels: from_zero` (0 is {names[0]}, {len(names) - 1} is {names[-1]})"
    one = f"`labels: from_one` (0 is ignored, 1 is {names[0]}, there is no {names[-1]})"
    return BadInput(
        f"got {masks} that may count their {len(names)} classes from 0 or from 1 ({', '.join(found)}): want to know "
        f"which; write {zero} or {one} in the set's settings ({WHERE})"
    )


def _looks_zero_based(values: np.ndarray, classes: int) -> bool:
    others = values[1:classes]
    usual = others.all() and (classes == 2 or 2 * values[0] > values[:classes].mean())
    more = values[IGNORE] or usual or values[0] > others.max(initial=0)
    return bool(values[0] and not values[classes] and more and (others.any() or values[IGNORE]))


def refuse_wrong_list(dataset: LabelledSet, seen: np.ndarray | None = None) -> None:
    """Raises BadInput for a list of classes of which more than half have no pixel in the masks of a whole set.

    `seen` counts the pixels of evenly spread masks by class; all masks are looked at where these lack most classes.
    Fewer images than classes cannot show them all, nor can a part of a set.
    """
    if not is_whole(dataset) or len(dataset) < len(dataset.segments):
        return
    if _most(dataset, absent(dataset, pixels_in(dataset, _spread(dataset)) if seen is None else seen)):
        refuse_absent(dataset, absent(dataset, pixels_in(dataset, _all(dataset))))


def refuse_absent(dataset: LabelledSet, lacking: Sequence[str]) -> None:
    """Raises BadInput where more than half of the classes are in no mask of a whole set."""
    names = dataset.segments
    if is_whole(dataset) and len(dataset) >= len(names) and _most(dataset, lacking):
        got = f"got {len(names)} classes for set '{dataset.name}', of which {len(lacking)} have no pixel in its masks"
        want = f"want the list that the masks were made with; {len(names) - len(lacking)} classes occur"
        raise BadInput(f"{got} ({listing(lacking)}): {want}; correct classes")


def refuse_one_class(dataset: LabelledSet, seen: np.ndarray) -> None:
    """Raises BadInput where all masks together hold fewer than two classes: nothing can be told apart."""
    if np.count_nonzero(seen[: len(dataset.segments)]) > 1:
        return
    pixels = pixels_in(dataset, _all(dataset))[: len(dataset.segments)]
    if np.count_nonzero(pixels) > 1:
        return
    held = f"one class, '{dataset.segments[int(pixels.argmax())]}'," if pixels.any() else "no labelled pixel"
    raise BadInput(
        f"got {held} in the masks of '{dataset.name}' ({dataset.split}): want at least two classes; correct classes, "
        "say by labels or values what the masks hold, or add others"
    )


def absent(dataset: LabelledSet, pixels: np.ndarray) -> list[str]:
    """The classes without a pixel."""
    return [name for name, count in zip(dataset.segments, pixels, strict=False) if not count]


def is_whole(dataset: LabelledSet) -> bool:
    """Whether a set is all that its files hold."""
    return isinstance(dataset, FileSet | NyuMat) and dataset.whole


def pixels_in(dataset: LabelledSet, indices: Iterable[int]) -> np.ndarray:
    """How many pixels each class has in these masks, int64 [256]; at `IGNORE` the unlabelled ones."""
    pixels = np.zeros(256, dtype=np.int64)
    for index in indices:
        pixels += np.bincount(dataset.mask(index).ravel(), minlength=256)
    return pixels


def _values_in(dataset: FileSet, indices: Iterable[int], *, until: int | None = None) -> np.ndarray:
    """How many pixels have each value in these masks, int64 [65536]; up to the first mask with the value `until`."""
    pixels = np.zeros(1 << 16, dtype=np.int64)
    for index in indices:
        pixels += np.bincount(dataset.mask_values(index).ravel().clip(0, len(pixels) - 1), minlength=len(pixels))
        if until is not None and pixels[until]:
            break
    return pixels


def _all(dataset: LabelledSet) -> Iterable[int]:
    return Bar(range(len(dataset)), desc=f"masks of {dataset.name}/{dataset.split}", unit="mask")


def _spread(dataset: LabelledSet) -> list[int]:
    return spread(range(len(dataset)), max(LOOKED, len(dataset.segments)))


def _most(dataset: LabelledSet, lacking: Sequence[str]) -> bool:
    return 2 * len(lacking) > len(dataset.segments)
