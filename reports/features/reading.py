"""The pictures that a run kept: of which images, of which checkpoints, and what is missing of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import BadInput, listing
from common.steps import job_name
from evals.results import pictured
from evals.results.pictured import About, ImageKey, Known, Seen
from reports.lineage import legs
from reports.pairing import Checkpoint
from reports.run_folder import Run


@dataclass(frozen=True)
class Pictures:
    """What a run kept for pictures of features.

    images: in the order in which they are drawn, which is that of the sets and in each of its images.
    about: the record of the images.
    files: of each checkpoint that has pictures.
    lacking: those that were evaluated, but have none.
    damaged: what could not be read, a line each.
    """

    images: dict[ImageKey, Known]
    about: About | None
    files: dict[Checkpoint, Path]
    lacking: tuple[Checkpoint, ...] = ()
    damaged: tuple[str, ...] = ()

    def seen(self, checkpoint: Checkpoint, wanted: Collection[ImageKey]) -> dict[ImageKey, Seen]:
        """What a checkpoint makes of images, of those that it has seen. Raises BadInput for a damaged file."""
        return pictured.load_seen(self.files[checkpoint], wanted)[1] if checkpoint in self.files else {}

    def way(self, run: Run, arm: str, seed: int) -> list[Checkpoint]:
        """The checkpoints with pictures on the way of an arm from step 0, its ancestors' included, by step."""
        found: dict[int, Checkpoint] = {}
        for leg in legs(run, arm, seed):
            own = (at for at in self.files if (at.lane, at.seed) == (leg.lane, seed))
            found |= {at.step: at for at in own if leg.lane == arm or at.step <= leg.stop}
        return [found[step] for step in sorted(found)]


def read(run: Run) -> Pictures:
    """Find the pictures of a run. What is damaged is told in the result, and stops nothing."""
    evaluated = sorted({Checkpoint(row.arm, row.seed, row.step) for row in run.rows if row.arm in run.lanes})
    paths = {
        at: pictured.features_path(run.step_folder(at.lane, at.seed, at.step), run.evaluations or "_")
        for at in evaluated
    }
    damaged: list[str] = []
    files = {at: path for at, path in paths.items() if path.is_file() and _is_sound(path, damaged)}
    about, images = _images(run, files, damaged)
    told = tuple(said.replace(f"{run.folder}/", "") for said in damaged)
    return Pictures(images, about, files, tuple(at for at, path in paths.items() if not path.is_file()), told)


def missing(run: Run, found: Pictures) -> list[str]:
    """What to say of pictures that are not there: nothing where none were asked for."""
    if not run.config.get("evals", {}).get("pictures") or not run.config.get("evals", {}).get("tasks"):
        return []
    said = list(found.damaged)
    if found.lacking:
        lanes = list(dict.fromkeys(job_name(at.lane, at.seed) for at in found.lacking))
        steps = sorted({at.step for at in found.lacking})
        which = f"at step {listing([*map(str, steps)], most=4)}" if found.files else "at any step"
        said.append(
            f"{listing(lanes)}: no pictures of features {which}: evaluated before they were kept, or they could not be "
            "written (log.txt)"
        )
    return said


def _is_sound(path: Path, damaged: list[str]) -> bool:
    try:
        pictured.load_seen(path, ())
    except BadInput as error:
        damaged.append(str(error))
        return False
    return True


def _images(run: Run, files: Collection[Checkpoint], damaged: list[str]) -> tuple[About | None, dict[ImageKey, Known]]:
    """The images of all segments, each once: the first that can be read counts, the baseline's before others."""
    lanes = dict.fromkeys((at.lane, at.seed) for at in sorted(files, key=lambda at: at.lane != run.baseline))
    about, found = None, dict[ImageKey, Known]()
    for path in _paths(run, [*lanes]):
        try:
            record = pictured.load_record(path)
            if set(record.images) <= found.keys():
                continue
            record, known = pictured.load_known(path)
        except BadInput as error:
            damaged.append(str(error))
            continue
        about, found = about or record, found | {image: one for image, one in known.items() if image not in found}
    return about, found


def _paths(run: Run, lanes: Collection[tuple[str, int]]) -> Iterator[Path]:
    for lane, seed in lanes:
        folder = pictured.images_folder(run.folder / job_name(lane, seed), run.evaluations or "_")
        yield from sorted(folder.glob("images-*.npz"))
