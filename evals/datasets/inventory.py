"""What a set holds and what in its folders is not of it, as one line for plan, log and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Inventory:
    """What was found: `images` of `listed` that there are, numbers of image and pixel classes, whether there are depth
    and surfaces (normals and parts).

    `skipped` names what was passed over by the reason, each file as the set names its own; `remarks` are what else a
    user should know of how the set was read.
    """

    images: int
    listed: int
    classes: int = 0
    segments: int = 0
    depth: bool = False
    surfaces: bool = False
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def line(name: str, found: Inventory, *, components: int | None = None) -> str:
    """For example `photos/train: 1,204 images, 10 classes; skipped 2: 2 dangling links (a.jpg)`."""
    count = f"{found.images:,}" if found.images == found.listed else f"{found.images:,} of {found.listed:,}"
    held = [_counted(found.listed, "image").replace(f"{found.listed:,}", count)]
    held += [_counted(n, what) for n, what in ((found.classes, "class"), (found.segments, "pixel class")) if n]
    held += [*(["depth"] if found.depth else []), *(["surfaces"] if found.surfaces else [])]
    held += [_counted(components, "component")] if components is not None else []
    return "; ".join([f"{name}: {', '.join(held)}", *_skipped(found.skipped), *found.remarks])


def skipped_words(skipped: Mapping[str, Sequence[str]]) -> str:
    """For example `2 dangling links (a.jpg), 1 no picture by its suffix (notes.txt)`."""
    return ", ".join(f"{_counted(len(names), reason)} ({names[0]})" for reason, names in skipped.items())


def _skipped(skipped: Mapping[str, Sequence[str]]) -> Iterator[str]:
    if skipped:
        yield f"skipped {sum(map(len, skipped.values())):,}: {skipped_words(skipped)}"


def _counted(count: int, what: str) -> str:
    """A number before its noun; only what ends in one of these nouns has a plural."""
    if count != 1 and what.endswith(("image", "link", "folder", "component")):
        what += "s"
    return f"{count:,} {what}es" if count != 1 and what.endswith("class") else f"{count:,} {what}"
