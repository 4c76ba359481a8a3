"""What is wrong with the files of a set: one of each kind in the words of an evaluation, and how many are alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from common.errors import BadInput
from evals.datasets.decoding.unreadable import is_unreadable, leave_out
from evals.datasets.labelled_set import BeyondClasses, LabelledSet

SHOWN = 5  # kinds of problems of a set


class Problems:
    """Errors met while a set is read, by what each wants: files with one remedy are one kind."""

    def __init__(self, dataset: LabelledSet) -> None:
        self._dataset = dataset
        self._kinds: dict[tuple[str, ...], list[tuple[int, BadInput]]] = {}
        self._said: set[str] = set()  # a broken image is met again where its mask is compared with it

    def attempt(self, what: str, index: int) -> Any:
        """What the set's reader of this name gives for an image, or None where it fails; the reason is kept."""
        read: Callable[[int], Any] = getattr(self._dataset, what)
        try:
            return read(index)
        except BadInput as error:
            if str(error) not in self._said:
                self._kinds.setdefault((what, *self._remedy(error, index)), []).append((index, error))
            self._said.add(str(error))
            return None

    def _remedy(self, error: BadInput, index: int) -> tuple[str, ...]:
        """What an error wants, without what differs from file to file: its name and numbers."""
        if isinstance(error, BeyondClasses):  # its advice may depend on the value
            return ("classes",)
        stem = PurePosixPath(self._dataset.key(index)).stem
        return (re.sub(r"\d+", "", str(error).partition(": want")[2].replace(f"/{stem}.", "/.")),)

    def refuse(self) -> None:
        """Raise one `BadInput` over all problems, a line for each kind, if there are any."""
        place = f"{self._dataset.name}/{self._dataset.split}: "
        lines = [place + self._line(met) for met in list(self._kinds.values())[:SHOWN]]
        if more := sum(map(len, list(self._kinds.values())[SHOWN:])):
            lines.append(f"{place}and {more} problems of other kinds")
        if lines:
            raise BadInput("\n".join(lines))

    def _line(self, met: list[tuple[int, BadInput]]) -> str:
        said, others = str(met[0][1]), len(met) - 1
        if is_unreadable(met[0][1]):
            said += f", or {leave_out(self._dataset.name, [self._dataset.key(index) for index, _ in met])}"
        values = [error.value for _, error in met if isinstance(error, BeyondClasses)]
        upto = f", values up to {max(values)}" if values else ""
        return said + (f" (and {others} more such file{'s' * (others > 1)}{upto})" if others else "")
