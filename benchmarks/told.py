"""What a benchmark is told on its command line: a mistake is one line on stderr, as of every other command."""

from __future__ import annotations

from typing import NoReturn

from common import command
from common.errors import BadInput


class Parser(command.Parser):
    """A parser that ends the process itself: what is measured runs without the care that commands take (`answer`)."""

    def error(self, message: str) -> NoReturn:
        """Say it in a line and leave with code 2."""
        try:
            super().error(message)
        except BadInput as error:
            self.exit(2, f"gramlab: {error}\n")
