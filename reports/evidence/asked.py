"""What a block of a page asks for, from its words: an experiment, columns of its results, arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from common.errors import BadInput, nearest
from reports import words
from reports.estimates import Column, columns
from reports.evidence.stored import Shelf, Stored
from reports.run_folder import Run

ARMS = "arms:"  # the words behind it are names of arms


class Asked(NamedTuple):
    """The tables, the columns in the order asked for, and the arms, all of them where none is named."""

    tables: Stored
    columns: list[Column]
    arms: list[str]

    @property
    def run(self) -> Run:
        return self.tables.run


def asked(shelf: Shelf, given: Sequence[str]) -> Asked:
    """`EXPERIMENT METRIC... [arms: ARM...]`. Raises BadInput at what is missing or unknown."""
    behind = sections(given, [ARMS])
    if not behind[""]:
        raise BadInput("got no experiment: want one; known: " + ", ".join(shelf.names))
    name, *metrics = behind[""]
    tables = shelf.experiment(name)
    if not metrics:
        raise BadInput(f"got no metric of {name}: want one or more of {', '.join(_names(columns(tables.run)))}")
    arms = behind[ARMS] or list(tables.run.arms)
    for arm in arms:
        if arm not in tables.run.lanes:
            do = nearest(arm, tables.run.lanes, otherwise=f"known: {', '.join(tables.run.lanes)}")
            raise BadInput(f"got arm {arm}: want one of {name}; {do}")
    return Asked(tables, [column(tables.run, word) for word in metrics], arms)


def column(run: Run, word: str) -> Column:
    """The column that a word names: `miou`, or with what tells it from others in front: `knn/top1`, `depth/rooms/rmse`.

    In front may stand the evaluation, the data set, its split, the protocol and the input's size, in any order. Raises
    BadInput where none or several are meant.
    """
    *before, metric = word.lower().split("/")
    known = columns(run)
    found = [one for one in known if one.metric.lower() == metric and all(part in _marks(one) for part in before)]
    if len(found) == 1:
        return found[0]
    if found:
        which = ", ".join(_names(found))
        raise BadInput(f"got metric {word}, which {run.name} has {len(found)} of: want one of them; give {which}")
    do = nearest(word, _names(known), otherwise=f"known: {', '.join(_names(known))}")
    raise BadInput(f"got metric {word}: want one that {run.name} measured; {do}")


def title(run: Run, one: Column) -> str:
    """As a reader would say it, with what tells it from others of the run that would be called the same."""
    alike, telling = [other for other in columns(run) if other.title == one.title], list[str]()
    for key in ("dataset", "split", "version", "size"):
        if len(same := [other for other in alike if getattr(other, key) == getattr(one, key)]) < len(alike):
            alike, telling = same, [*telling, str(getattr(one, key))]
    return one.title + (f" ({', '.join(telling)})" if telling else "")


def titled(run: Run, one: Column, unit: str) -> str:
    """ "mIoU, points" """
    return title(run, one) + (f", {unit}" if unit else "")


def heading(got: Asked, one: Column, *, difference: bool = False) -> str:
    """ "mIoU, % ↑" """
    unit = words.difference_unit(one) if difference else words.unit(one)
    return f"{titled(got.run, one, unit)} {words.arrow(one)}"


def sections(given: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """A block's words by the name that they stand behind; those before any name behind ""."""
    found: dict[str, list[str]] = {name: [] for name in ("", *names)}
    here = found[""]
    for word in given:
        if word in names:
            here = found[word]
        else:
            here.append(word)
    return found


def parted(given: Sequence[str], names: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """A block's words by the name that they stand behind, and what is left for `asked` to read."""
    behind = sections(given, [*names, ARMS])
    return behind, [*behind[""], ARMS, *behind[ARMS]]


def _marks(one: Column) -> set[str]:
    return {mark.lower() for mark in (one.eval, one.dataset, one.split, one.protocol, str(one.size))}


def _names(found: Sequence[Column]) -> list[str]:
    """A word for each, as short as tells them apart."""
    names = list[str]()
    for telling in (("eval",), ("eval", "dataset"), ("eval", "dataset", "split", "protocol", "size")):
        names = ["/".join([*(str(getattr(one, key)) for key in telling), one.metric]) for one in found]
        if len(set(names)) == len(names):
            break
    return names
