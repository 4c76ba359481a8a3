"""The one error for input that a user can mend."""


class BadInput(ValueError):
    """Says in one line what was got, what is wanted and what to do; commands print it and exit with code 2."""
