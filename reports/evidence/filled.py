"""What a block of a page is filled with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

LONGEST = 100  # letters of a figure's name: file systems take 255 bytes


@dataclass(frozen=True)
class Filled:
    """Markdown, and the figures that it shows by their names in the folder of tables, as `![…](NAME)` has them."""

    text: str
    figures: Mapping[str, Figure] = field(default_factory=dict)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; a bar in a cell is no end of it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def file_name(asked_for: Sequence[str]) -> str:
    """Of a figure, without its ending: from a block's words, the rest of many by a hash of all."""
    name = re.sub(r"[^\w.@]+", "-", " ".join(asked_for)).strip("-.") or "figure"
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def several(values: Iterable[Any]) -> str:
    """The unlike ones among them that are known, "3" or "2 or 3"."""
    return " or ".join(dict.fromkeys(str(value) for value in values if pd.notna(value) and str(value)))


def plural(amount: int | str, noun: str) -> str:
    """ "1 seed", "3 seeds"; an amount in words may be what `several` tells, "2 or 3"."""
    return f"{amount} {noun}{'' if str(amount) == '1' else 's'}"
