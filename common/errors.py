"""The error for input that a user can mend (`BadInput`), and the case of it that is the fault of one network alone."""

from collections.abc import Iterable
from difflib import get_close_matches


class BadInput(ValueError):
    """Says in one line what was got, what is wanted and what to do; commands print it and exit with code 2."""


class NonFiniteFeatures(BadInput):
    """A backbone gave features that are not finite: its weights are unsound, whatever the data."""


def nearest(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """What to do about an unknown word: "did you mean …?", or `otherwise` where none of the known ones is like it."""
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise
