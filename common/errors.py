"""The error for input that a user can mend (`BadInput`), two cases of it, and the words that messages are made of."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches


class BadInput(ValueError):
    """Says in one line what was got, what is wanted and what to do; commands print it and exit with code 2."""


class NonFiniteFeatures(BadInput):
    """A backbone gave features that are not finite: its weights are unsound, whatever the data."""


class NonFiniteWeights(BadInput):
    """Weights of a backbone are not finite."""


def first_line(error: BaseException | str, most: int = 200) -> str:
    """What an error of some library says, short enough for a message of ours: whole sentences, or else words.

    One that says nothing is named by its kind.
    """
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if len(line) <= most:
        return line
    sentences = re.match(r".*[.!?](?=\s)", line[: most + 1])
    return sentences[0] if sentences else line[:most].rsplit(maxsplit=1)[0] + " …"


def found(error: Exception) -> str:
    """What was got, without what is wanted and what to do, for a message of another error."""
    got = first_line(error, most=400).partition(": want")[0].removeprefix("got ")
    return got + ")" * (got.count("(") - got.count(")"))  # what was wanted may have stood in brackets


def nearest(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """What to do about an unknown word: "did you mean …?", or `otherwise` where none of the known ones is like it."""
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise


def listing(items: Sequence[str], most: int = 3) -> str:
    """The first few of them, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest


def printable(name: str) -> str:
    r"""A name as text that any file and console takes: a byte that is no UTF-8 becomes \xe9 or the like."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def told_of_all(lines: Mapping[str, Iterable[str]]) -> list[str]:
    """The lines of every arm, each once; one that only some have names them."""
    whose: dict[str, list[str]] = {}
    for arm, own in lines.items():
        for line in own:
            whose.setdefault(line, []).append(arm)
    return [line if len(arms) == len(lines) else f"{line}; arms {', '.join(arms)}" for line, arms in whose.items()]
