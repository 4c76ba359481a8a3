"""Kill real runs and sweeps at random and chosen moments, go on by the same command, and compare with undisturbed ones.

    python benchmarks/soak.py [--kills 50] [--each 5] [--seed N] [--anew] [--folder PLACE]      (`make soak`)

A run by one process, or by two of torchrun with whole states or parts of them, is killed some times, each time in the
midst of what the last kill left, until it may end; then every file that counts is compared with that of a run that
nothing disturbed (benchmarks/soaking/equal.py). Exit code 1 where one differs, or a command refuses to go on.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.soaking.equal import differences, left, leftovers
from benchmarks.soaking.moments import MOMENTS, TOLD, fell, signs
from benchmarks.soaking.processes import COMMANDS, WHO, Started, kill, start
from benchmarks.told import Parser

EXPERIMENT = ROOT / "benchmarks" / "soaking" / "run.yaml"
ANY_TIME = "time"  # a kind of moment: any
LOOK = 0.0005  # seconds between two looks at the disk
PATIENCE = 900  # seconds that a command may take
SKIPPED = 2  # moments of a kind at most that are let pass


class Kill(NamedTuple):
    """A kill to come: of which command, aimed at what, who of its processes dies, and what is drawn for it."""

    command: str
    kind: str
    who: str
    skip: int
    share: float  # of the longest wait, or of what an undisturbed run takes


class Fallen(NamedTuple):
    """A kill, where it fell, and the kinds of moments that this was one of."""

    kill: Kill
    where: str
    kinds: set[str]


class Broken(Exception):
    """A command that was killed did not go on as it should; says why."""


class Undisturbed(NamedTuple):
    """What a command leaves that nothing disturbs, and the seconds that it takes."""

    left: dict[str, Any]
    seconds: float


def drawn(count: int, seed: int) -> list[Kill]:
    """Kills of every kind in turn, of each of its commands, every other one at any time."""
    rng, most = random.Random(seed), max(len(one.commands) for one in MOMENTS.values())
    aims = [
        (kind, one.commands[(place + turn) % len(one.commands)])
        for turn in range(most)
        for place, (kind, one) in enumerate(MOMENTS.items())
        if turn < len(one.commands)
    ]
    any_time = [(ANY_TIME, command) for command in COMMANDS]
    found = []
    for number in range(count):
        turns = any_time if number % 2 else aims
        kind, command = turns[number // 2 % len(turns)]
        who = rng.choice(WHO[COMMANDS[command].processes])
        found.append(Kill(command, kind, who, rng.randrange(SKIPPED + 1), rng.random()))
    return found


class Place:
    """A folder of runs of its own, and how commands are begun in it; with `crew`, two jobs at once."""

    def __init__(self, folder: Path, *, cache: Path, anew: bool, crew: bool = False, words: Sequence[str] = ()) -> None:
        self.runs, self.said, self.anew = folder / "runs", folder / "said.txt", anew
        self.words = [str(EXPERIMENT), f"runtime.folder={self.runs}", f"runtime.cache={cache}"]
        self.words += [*words, *(["launcher.name=local", "launcher.workers=2"] if crew else [])]
        self.runs.mkdir(parents=True)

    def begin(self, command: str) -> Started:
        """The same command each time."""
        return start(command, self.words, self.said, anew=self.anew)

    def finish(self, command: str) -> float:
        """Let it come to its end; the seconds that it took. Raises `Broken`."""
        began = time.monotonic()
        process = self.begin(command)
        code = process.wait(PATIENCE)
        if code != 0:
            kill(process, "all")
            said = self.said.read_text(errors="replace").splitlines()[-1:]
            raise Broken(f"gramlab {command} ended with {code}: {' '.join(said)}; {self.said}")
        return time.monotonic() - began


def struck(place: Place, one: Kill, calm: Undisturbed) -> Fallen | None:
    """Begin the command and kill it; None where it came to its end before. Raises `Broken`."""
    before, process = signs(place.runs), place.begin(one.command)
    code = process.wait(one.share * calm.seconds) if one.kind == ANY_TIME else _awaited(process, place, one)
    fine = {0}
    if code is None:
        try:
            kill(process, one.who)
        except TimeoutError as error:
            raise Broken(str(error)) from error
        code, fine = process.wait(PATIENCE), {0, -9, 1 if COMMANDS[one.command].processes > 1 else 0}  # 1: torchrun's
    if code not in fine:
        said = place.said.read_text(errors="replace").splitlines()[-1:]
        raise Broken(f"gramlab {one.command}, which was to be killed, ended with {code}: {' '.join(said)}")
    if code == 0:
        return None
    return Fallen(one, *fell(place.runs, before))


def _awaited(process: Started, place: Place, one: Kill) -> int | None:
    """Wait for a new sign of the kind, some of them let pass; its exit code where it ended before."""
    moment = MOMENTS[one.kind]
    before, passed = moment.signs(place.runs), 0
    while (code := process.wait(LOOK)) is None:
        new = moment.signs(place.runs) - before
        before |= new
        passed += len(new)
        if new and passed > one.skip:
            time.sleep(one.share * moment.wait)
            break
    return code


def chain(place: Place, kills: Sequence[Kill], calm: Undisturbed) -> tuple[list[Fallen], list[str]]:
    """One run, killed again and again, and its end: where the kills fell, and in what it differs."""
    fallen = list[Fallen]()
    try:
        for one in kills:
            if (found := struck(place, one, calm)) is None:
                break
            fallen.append(found)
        place.finish(kills[0].command)
    except Broken as error:
        return fallen, [str(error)]
    return fallen, differences(left(place.runs), calm.left)


def told(number: str, fallen: Sequence[Fallen], wrong: Sequence[str], hidden: int) -> None:
    """A line for each kill of a chain."""
    for one in fallen:
        aim = "any time" if one.kill.kind == ANY_TIME else MOMENTS[one.kill.kind].words
        equal = "differs" if wrong else "equal"
        print(f"{number:<6}  {one.kill.command:5}  {aim:29}  {one.kill.who:8}  {equal:7}  {one.where}", flush=True)
    for line in wrong[:20]:
        print(f"{number:<6}  {line}")
    if hidden:
        print(f"{number:<6}  hidden folders of killed processes that are left: {hidden}")


class Soak(NamedTuple):
    """What a whole soak found: where kills fell, and which of the chains differ in what."""

    fallen: list[Fallen]
    wrong: dict[int, list[str]]

    def hits(self) -> Counter[str]:
        """How many kills fell in a moment of each kind that can be told, whatever they were aimed at."""
        return Counter(kind for one in self.fallen for kind in one.kinds)


def soak(folder: Path, kills: Sequence[Kill], *, each: int, anew: bool = False, words: Sequence[str] = ()) -> Soak:
    """All kills, in chains of one command; those that found their command at its end are tried again in another.

    words: overrides of the experiment.
    """
    commands = sorted({one.command for one in kills})
    usual: dict[str, Any] = {"anew": anew, "words": words}
    calm = {command: _undisturbed(folder, command, **usual) for command in commands}
    todo, result, number = [*kills], Soak([], {}), 0
    print("chain   of     aimed at                       dies      result   where it fell")
    while todo and number < 2 * len(kills):
        number += 1
        of = todo[0].command
        mine = [one for one in todo if one.command == of][:each]
        cache = folder / (f"cache-{number}" if number % 4 == 1 else "cache")  # now and then an empty one
        crew = of == "run" and number % 3 == 0
        place = Place(folder / f"chain-{number}", cache=cache, crew=crew, **usual)
        fallen, wrong = chain(place, mine, calm[of])
        done = [one.kill for one in fallen]
        spared = [one for one in mine if one not in done]
        todo = [one for one in todo if one not in mine] + [one._replace(skip=0, share=one.share / 2) for one in spared]
        result.fallen.extend(fallen)
        if wrong:
            result.wrong[number] = wrong
        told(f"{number}{' ×2' if crew else ''}", fallen, wrong, leftovers(place.runs))
    return result


def _undisturbed(folder: Path, command: str, **usual: Any) -> Undisturbed:
    place = Place(folder / f"calm-{command}", cache=folder / "cache", **usual)
    seconds = place.finish(command)
    return Undisturbed(left(place.runs), seconds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description="Kill runs at random moments, and compare what they leave in the end.")
    parser.add_argument("--kills", type=int, default=50, help="50 by default")
    parser.add_argument("--each", type=int, default=5, help="kills of one run at most; 5 by default")
    parser.add_argument("--seed", type=int, default=None, help="of what is drawn; else drawn, and printed")
    parser.add_argument("--anew", action="store_true", help="a new interpreter each time, which takes seconds more")
    parser.add_argument("--folder", type=Path, help="an empty place that stays; else a temporary one")
    args = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    print(f"seed {seed}: {args.kills} kills, {args.each} of one run at most", flush=True)
    with tempfile.TemporaryDirectory() as place:
        found = soak(args.folder or Path(place), drawn(args.kills, seed), each=args.each, anew=args.anew)
    hits = found.hits()
    told_of = ", ".join(f"{MOMENTS[kind].words} {hits[kind]}" for kind in TOLD)
    print(f"{len(found.fallen)} kills; in the midst of: {told_of}")
    if found.wrong:
        print(f"got chains {', '.join(map(str, found.wrong))} that differ: want all equal; the lines above say in what")
        return 1
    print("all equal, bit for bit, but for times")
    return 0


if __name__ == "__main__":
    sys.exit(main())
