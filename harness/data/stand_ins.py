"""Which image is taken where one is drawn that settings leave out of a pool, or that cannot be read and is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from common.errors import BadInput


class StandIns:
    """For an index that is out, the next one of its component that is not, around its end; any other is its own.

    No draw changes by what is out: each place of a batch is drawn as ever, then looked up here. So a batch does not
    depend on when something was found to be out, and one made without it from the start is the same.

    components: name -> sorted indices, each index in one of them.
    excluded: indices that settings leave out. Raises BadInput where none of a component is left.
    skipped: those that could not be read, and why. They grow while a run goes on.
    """

    def __init__(self, components: Mapping[str, np.ndarray], excluded: Iterable[int]) -> None:
        self._components = components
        self.excluded = frozenset(excluded)
        self.skipped: dict[int, str] = {}
        self._met: set[int] = set()
        for index in sorted(self.excluded):
            self._next(index, self._all_excluded)

    def __call__(self, index: int) -> int:
        """The index of the image that is taken. Raises BadInput where none of its component can be read."""
        if index not in self.excluded and index not in self.skipped:
            return index
        self._met.update(index for index in self._passed(index) if index in self.skipped)
        return self._next(index, self._all_unreadable)

    def met(self) -> list[int]:
        """The skipped indices, sorted, that were drawn or would have stood in since this was called last."""
        found, self._met = sorted(self._met), set()
        return found

    def _next(self, index: int, lost: Callable[[str], BadInput]) -> int:
        name, members, at = self._home(index)
        for found in self._around(members, at):
            if found not in self.excluded and found not in self.skipped:
                return found
        raise lost(name)

    def _passed(self, index: int) -> Iterator[int]:
        """The index and those after it that are out too."""
        _, members, at = self._home(index)
        for found in self._around(members, at):
            if found not in self.excluded and found not in self.skipped:
                return
            yield found

    def _home(self, index: int) -> tuple[str, np.ndarray, int]:
        """The component that an index is in, and its place there."""
        for name, members in self._components.items():
            at = int(np.searchsorted(members, index))
            if at < len(members) and members[at] == index:
                return name, members, at
        raise IndexError(f"index {index} is in no component")

    @staticmethod
    def _around(members: np.ndarray, at: int) -> Iterator[int]:
        """All members from a place on, the first ones last."""
        for step in range(len(members)):
            yield int(members[(at + step) % len(members)])

    @staticmethod
    def _all_excluded(name: str) -> BadInput:
        return BadInput(
            f"got every image of {name} in data.sources.{name.partition('/')[0]}.exclude: want one left at least; "
            "choose classes without it"
        )

    @staticmethod
    def _all_unreadable(name: str) -> BadInput:
        return BadInput(f"got no image of {name} that can be read: want one at least; mend its files")
