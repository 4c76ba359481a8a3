"""What `gramlab compare` compares: experiments, where folders of them are named, or else two evaluated checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.command import answer, end, parsed
from common.errors import BadInput
from evals import compare as checkpoints
from harness import arguments
from reports import arguments as of_experiments
from reports import compare as experiments


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 with one line on stderr for input that the user can mend."""
    given = [*(sys.argv[1:] if argv is None else argv)]
    if code := answer(lambda: _read(given)):
        return code
    if not any(map(is_experiment, given)):
        return checkpoints.main(given)
    return answer(lambda: _refuse_mixture(given)) or experiments.main(given)


def _read(given: Sequence[str]) -> int:
    """Let `--help`, and words that neither of the two takes, be answered."""
    parsed(arguments.compare, "compare", given)
    return 0


def is_experiment(word: str) -> bool:
    """Whether it names the folder of an experiment, which holds its record."""
    return os.path.lexists(Path(word) / "experiment.json")


def _refuse_mixture(given: Sequence[str]) -> int:
    """0, or raises BadInput where something else is named beside experiments."""
    named = parsed(of_experiments.compare, "compare", given).runs
    other = next((folder for folder in named if not is_experiment(str(folder))), None)
    if other is not None:
        one = next(folder for folder in named if is_experiment(str(folder)))
        what = "which is no experiment" if other.exists() else "which is not there"
        raise BadInput(
            f"got {one}, an experiment, and {other}, {what}: want experiments alone, or two evaluated checkpoints; "
            f"correct the name, or name a step of each, as {one}/ARM-sSEED/step_NNNNNN"
        )
    return 0


if __name__ == "__main__":
    end(main())
