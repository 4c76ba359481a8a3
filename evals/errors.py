"""The one error for input that a user can mend, and the case of it that is the fault of one network alone."""


class BadInput(ValueError):
    """Says in one line what was got, what is wanted and what to do; commands print it and exit with code 2."""


class NonFiniteFeatures(BadInput):
    """A backbone gave features that are not finite: its weights are unsound, whatever the data."""
