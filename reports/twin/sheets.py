"""A table of the twin: what its figures are drawn from, and what their buttons copy as CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from common.errors import printable

_CLOSING = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
)  # what could end the element that holds the JSON


class Sheet(NamedTuple):
    """Rows of plain values below columns: by the name that figures know, each with the title that a reader sees."""

    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]

    def plain(self) -> dict[str, Any]:
        """As the page holds it."""
        rows = [[plain_value(value) for value in row] for row in self.rows]
        return {"ids": [*self.columns], "titles": [*self.columns.values()], "rows": rows}


def sheet_of(frame: pd.DataFrame) -> Sheet:
    """A data frame, its columns named by their titles."""
    return Sheet({name: name for name in frame.columns}, frame.astype(object).to_numpy().tolist())


def rounded(values: Iterable[float], digits: int) -> list[float]:
    """Numbers to so many significant digits, which keeps a page small that draws thousands of them."""
    return [float(f"{value:.{digits}g}") for value in values]


def plain_value(value: Any) -> Any:
    """A number, a text that any file takes, or None: numbers that are not finite, or unknown, are None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float) else printable(str(value))


def embedded(content: Any) -> Markup:
    """JSON that may stand within a `script` element, whatever texts are in it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_CLOSING))
