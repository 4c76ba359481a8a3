"""What a refusal says, for tests that look at its words."""

from collections.abc import Callable

import pytest

from common.errors import BadInput


def told(call: Callable[[], object], kind: type[BadInput] = BadInput) -> str:
    """The one line of the error that a call raises."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)
