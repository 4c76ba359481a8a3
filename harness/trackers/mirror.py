"""Tell a tracker what a run's files say, again and again: `harness/trackers/mirror.py runs/EXPERIMENT TRACKER`.

A process of its own, so that nothing that a tracker does – a network that does not answer, signals, threads, memory –
reaches training. It ends once its stdin is closed, after a last look. What fails is told on stdout, once, and tried
again. What a tracker knows is kept below the run's folder, where the same command goes on.
"""

from __future__ import annotations

import os
import secrets
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

    from common.interrupts import listen

    listen()

from common.command import Parser, answer, end
from common.disk import write_json
from common.errors import first_line
from common.records import read_record
from harness.trackers.pieces import Lane, Report, subjects
from harness.trackers.table import TRACKERS, tracker
from harness.trackers.tracker import Run, State, Tracker
from harness.workplace import Busy, held

EVERY, SELDOM = 5.0, 600.0  # seconds between two looks; at most, while a tracker fails

Make = Callable[[Run], Tracker]


@dataclass
class Told:
    """What a tracker knows of a run: which segment it is, and the version of each piece that was told, by its name.

    open: whoever told it last has not let go of it.
    """

    id: str
    segment: str
    pieces: dict[str, str] = field(default_factory=dict)
    open: bool = False


def read_told(own: Path, segment: str) -> Told:
    """What was told of a run before; of a new one, or one that has become another segment, nothing.

    Raises `BadInput` where that is damaged.
    """
    if (path := own / "told.json").exists():
        told = read_record(path, Told, remedy=f"remove {own}, and a new run is begun")
        if told.segment == segment:
            return told
    return Told(secrets.token_hex(8), segment)


class Teller:
    """A run in a tracker, held against other processes and told piece by piece until `close`.

    Making one raises `Busy` while another process holds it; all else raises what the tracker raises.
    """

    def __init__(self, make: Make, subject: Lane | Report, *, experiment: str, place: Path) -> None:
        self.own = place / subject.name
        with ExitStack() as holding:
            holding.enter_context(held(self.own))
            self.told = read_told(self.own, subject.segment)
            self._note(open=True)  # the id, before anything has it
            tags = {"experiment": experiment, **subject.tags}
            self.tracker = make(Run(experiment, subject.name, self.told.id, place, tags, subject.about))
            self._holding = holding.pop_all()

    def tell(self, subject: Lane | Report) -> None:
        """Tell what is new."""
        for piece in subject.pieces(self.told.pieces):
            piece.tell(self.tracker)
            self.told.pieces[piece.name] = piece.version
            self._note(open=True)

    def close(self, state: State) -> None:
        """Let go of the run."""
        with self._holding:
            self.tracker.close(state)
            self._note(open=False)

    def _note(self, *, open: bool) -> None:
        self.told.open = open
        write_json(self.own / "told.json", asdict(self.told))


class Mirror:
    """A tracker beside a run's folder; of its jobs these alone where they are named, and then not its report.

    place: where the tracker's files lie.
    """

    def __init__(self, folder: Path, make: Make, place: Path, *, only: Sequence[str] | None = None) -> None:
        self.folder, self.make, self.place, self.only = folder, make, place, only
        self._open: dict[str, Teller] = {}

    def look(self, *, last: bool = False) -> Iterator[Exception]:
        """Tell what is new, run by run; whatever keeps one from being told is given, and the next has its turn."""
        try:
            found = [*subjects(self.folder, only=self.only)]
        except Exception as error:
            yield error
            return
        for subject in found:
            try:
                self._tell(subject, last=last)
            except Busy:  # another process tells of it
                continue
            except Exception as error:
                if (teller := self._open.pop(subject.name, None)) is not None:
                    with suppress(Exception):
                        teller.close("interrupted")
                yield error

    def _tell(self, subject: Lane | Report, *, last: bool) -> None:
        state = subject.state(last=last)  # asked before its files are read, so that what has ended is told whole
        if subject.name not in self._open:
            told = read_told(self.place / subject.name, subject.segment)
            if not told.open and next(subject.pieces(told.pieces), None) is None:
                return
            self._open[subject.name] = Teller(self.make, subject, experiment=self.folder.name, place=self.place)
        self._open[subject.name].tell(subject)
        if last or state == "done":
            self._open.pop(subject.name).close(state or "interrupted")


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0, whatever the tracker said; 2 for arguments that cannot be meant."""
    return answer(lambda: _main(argv))


def _main(argv: list[str] | None) -> int:
    parser = Parser(prog="harness/trackers/mirror.py", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tracker", choices=TRACKERS)
    parser.add_argument("place", type=Path)
    parser.add_argument("only", metavar="JOB", nargs="*", help="these jobs alone, and not the report")
    args = parser.parse_args(argv)
    follow(Mirror(args.folder, lambda run: tracker(args.tracker)(run), args.place, only=args.only or None))
    return 0


def follow(mirror: Mirror) -> None:
    """Look until stdin is closed, and then once more; what fails is told once, and tried again ever less often."""
    told, last, pause = False, False, EVERY
    while not last:
        last, before = is_over(pause), pause
        pause = EVERY
        for error in mirror.look(last=last):
            pause = min(2 * before, SELDOM)
            if not told:
                print(first_line(error), flush=True)
            told = True


def is_over(seconds: float) -> bool:
    """Wait until the next look; whether it is the last, since stdin was closed."""
    return bool(select.select([0], [], [], seconds)[0]) and not os.read(0, 1)


if __name__ == "__main__":
    end(main())
