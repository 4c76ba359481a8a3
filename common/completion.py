"""What a shell completes after `gramlab`: which arguments by what, and the answer to a shell that asks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common.command import Parser

Completer = Callable[..., Iterable[str]]  # of what stands there already, by the keyword `prefix`
ASKED = "_ARGCOMPLETE"  # the variable by which a shell's completion says that it asks


def completed(argument: argparse.Action, by: Completer) -> None:
    """Let an argument be completed by a function, which gives words or a mapping of words to what they mean."""
    setattr(argument, "completer", by)  # noqa: B010  where argcomplete looks for it


def is_asked() -> bool:
    """Whether a shell has started this process to learn what may stand at its cursor."""
    return ASKED in os.environ


def words_there() -> list[str]:
    """The words of the shell's line up to its cursor, the command's name left out, the one to be completed included."""
    return os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))].split(" ")[1:]


class Outline(Parser):
    """A parser that no argument of which is ever done with too early.

    What may be left out counts as left out, to argparse, where an option stands in its place: `run FILE --plan key=…`.
    """

    def add_argument(self, *names: str, **given: Any) -> argparse.Action:
        """As a parser does; a positional argument is always wanted."""
        argument = super().add_argument(*names, **given)
        if not argument.option_strings:
            argument.nargs = {"?": None, "*": "+"}.get(str(argument.nargs), argument.nargs)
        return argument


def tell(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asked, and leave."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def yaml_files(prefix: str, **given: Any) -> list[str]:
    """YAML files, and folders on the way to them."""
    from argcomplete.completers import FilesCompleter

    return _shown(FilesCompleter(["yaml"])(prefix), prefix)


def folders(prefix: str, **given: Any) -> list[str]:
    """Folders."""
    from argcomplete.completers import DirectoriesCompleter

    return _shown(DirectoriesCompleter()(prefix), prefix)


def run_folders(prefix: str, **given: Any) -> list[str]:
    """Folders of runs below `runs`, and folders on the way to others."""
    runs = [str(record.parent) for record in Path("runs").glob("*/experiment.json")]
    return sorted({*runs, *folders(prefix)})


def _shown(paths: Iterable[str], prefix: str) -> list[str]:
    """Paths without the hidden ones, unless one is asked for."""
    return [path for path in paths if Path(prefix).name.startswith(".") or not Path(path).name.startswith(".")]
