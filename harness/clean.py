"""Free what no experiment asks for any more: `gramlab clean runs [--plan]`."""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.bounded import size, size_words
from common.command import answer, end, parsed
from common.disk import remove
from common.errors import BadInput, found, listing
from common.records import Asked, AskedJob, read_record
from common.steps import KINDS, files_by_step, folders_by_step
from harness import arguments, store

log = logging.getLogger("gramlab")


@dataclass
class Need:
    """What listed experiments need of a segment: by their names, its backbones of some steps, and some states."""

    by: set[str] = field(default_factory=set)
    all: bool = False
    jobs: list[AskedJob] = field(default_factory=list)

    def state(self, step: int) -> bool:
        """Whether an arm forks from the state of that step."""
        return self.all or any(step in job.get("forks", []) for job in self.jobs)

    def backbone(self, step: int) -> bool:
        """Whether a backbone of that step is shown or anchored to."""
        return self.all or any(job["start"] <= step <= job["stop"] for job in self.jobs)


class Spare(NamedTuple):
    """Something that may go: where, why in words, and how large."""

    path: Path
    why: str
    size: int


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for bad input."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.clean, "clean", argv)
    folder = args.runs / store.FOLDER
    if not folder.is_dir():
        raise BadInput(f"{args.runs} has no {store.FOLDER}: want a folder of runs, such as runs")
    with store.swept(folder):
        needed = needs(args.runs)
        spare = [*spares(folder, needed)]
        for one in spare:
            print(f"{one.path}: {one.why}, {size_words(one.size)}")
            if not args.plan:
                remove(one.path)
    names = sorted({name for need in needed.values() for name in need.by})
    total = size_words(sum(one.size for one in spare))
    print(f"kept for {listing(names) if names else 'no experiment'}; {'would free' if args.plan else 'freed'} {total}")
    return 0


def keep_within(runs: Path, gib: float | None) -> None:
    """Remove what no experiment asks for, written longest ago first, until the store has so many GiB; None keeps all.

    What went is told in one line, and where there is more than that which is still asked for, or in use.
    """
    folder = runs / store.FOLDER
    if gib is None or not folder.is_dir() or (total := size(folder)) <= (most := gib * 2**30):
        return
    gone, why = list[Spare](), "experiments ask for it: gramlab clean tells for which"
    try:
        with store.swept(folder):
            for one in sorted(spares(folder, needs(runs)), key=lambda one: one.path.stat().st_mtime):
                if total > most:
                    remove(one.path)
                    gone.append(one)
                    total -= one.size
    except BadInput as error:
        why = found(error)
    except OSError as error:
        why = f"{error.filename} cannot be removed: {error.strerror}"
    freed = f"dropped {len(gone):,} that no experiment asks for, {size_words(sum(one.size for one in gone))}"
    rest = f"; {size_words(total)} stay ({why})" if total > most else ""
    log.info("store %s: %s, to stay within runtime.store_gib=%g%s", folder, freed, gib, rest)


def needs(runs: Path) -> dict[str, Need]:
    """What the experiments in a folder need of each segment, by its name.

    Raises:
        BadInput: an experiment whose record is damaged, so that its needs are not known.
    """
    needed: dict[str, Need] = defaultdict(Need)
    for folder in sorted(path for path in runs.iterdir() if path.is_dir() and path.name != store.FOLDER):
        record = folder / "experiment.json"
        remedy = "mend it, or move the folder away where nothing of it is needed"
        jobs = read_record(record, Asked, remedy=remedy).get("jobs", {}) if record.exists() else {}
        for job in jobs.values():
            need = needed[job["segment"]]
            need.by.add(folder.name)
            need.jobs.append(job)
        named = {job["segment"] for job in jobs.values()}
        for view in (path for path in folder.iterdir() if path.is_symlink()):
            target = view.readlink()
            if target.parent.name == store.FOLDER and target.name not in named:  # its record was lost
                needed[target.name].by.add(folder.name)
                needed[target.name].all = True
    return needed


def spares(folder: Path, needed: Mapping[str, Need]) -> Iterator[Spare]:
    """What may go from the store: whole segments, states and backbones of others."""
    for segment in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (need := needed.get(segment.name)) is None:
            yield Spare(segment, "no experiment asks for it", size(segment))
            continue
        states = segment / "states"
        kept = {step for step in files_by_step(states, ".safetensors") if need.state(step)}
        for path in store.prunable(states, keep=kept):
            yield Spare(path, "no arm forks from it", size(path))
        for step, path in files_by_step(states, store.PIN).items():
            if not need.state(step):
                yield Spare(path, "no arm forks from that step", 0)
        for kind in KINDS.values():
            for step, path in folders_by_step(segment, kind).items():
                if not need.backbone(step):
                    yield Spare(path, "no experiment reaches its step", size(path))


if __name__ == "__main__":
    end(main())
