"""What a run will hold in memory, from its settings alone: what is clearly beyond the machine is refused at once.

A closed form within a fifth of what `cost` counts for ViTs from nano to base; `cost` itself makes masks and modules as
large as the settings ask for. Beside it stands what `cost` leaves out: workers and evaluations.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from contextlib import suppress
from typing import Literal

import torch

from common.errors import BadInput
from common.machine import memory_bytes
from common.ranks import here_count, joined, started_count
from evals.datasets.catalogue import KINDS
from evals.tasks.methods import method_of, protocol_of
from harness import distillation, gram_teacher
from harness.arms import TRUNK
from harness.config import arm_settings, as_dict, trunk_settings
from harness.cost import LIBRARIES_GIB
from harness.data.sizes import sides
from harness.eval_settings import Evals
from harness.losses.gram import RELATIONS, Gram
from harness.losses.relations.difference import in_channels
from harness.model import sizes_of
from harness.settings import Experiment

BEYOND = 2  # times what there is: the estimate is to a factor of two
COPIES = 5  # of the weights: student, EMA teacher, gradients, two moments
BEGUN = 2  # of them in what a run begins with, which the first of several processes makes whole
SAVED = 10, 9  # floats that a block keeps, of each token and channel; in bfloat16 2, and 14 numbers of half a float
LOGITS = 1  # copies of the logits, as targets or as a chunk
UNITS = 2  # copies of the patches that are measured
FORWARD = 12  # floats of a block without gradient, of each token and channel
WORKER = 0.2 * 2**30  # bytes of a process of its own, beside what it shares
AHEAD = 2  # batches that each worker makes ahead
PATCH = "model.args.patch_size"
LEVEL = "gram.level"
LEVELS = {"image": 1.0, "batch": 2.0}  # 0: no Gram loss
MATRICES = "Gram matrices at once"
OF_SIZES = {"crops.global_size": "global_size", "crops.local_size": "local_size", "gram.resolution": "gram_size"}
WAYS_OUT = {
    "data.batch_size": "less of it, or more runtime.accumulate",
    LEVEL: "gram.level=image, or a smaller data.batch_size",
    "distillation.teacher": "a smaller one",
}
CHANNELS = "Gram matrices may be those between channels"
TEACHER = "distillation.teacher"  # its bytes
PROCESSES = "processes that share a step"
HERE = "of them on this machine"
SHARDS = "processes that hold a part of the weights each"
PARTS = "parts of a batch, over all processes"
RECOMPUTED = "blocks that are computed anew"
AS_THEY_ARE = (MATRICES, CHANNELS, PROCESSES, HERE, SHARDS, PARTS, RECOMPUTED)  # no setting to take less of

Numbers = dict[str, float]
Place = Literal["this machine", "the GPU"]


def check(experiment: Experiment, device: torch.device) -> list[str]:
    """Lines for the plan on what may not fit.

    Raises:
        BadInput: more than `BEYOND` times the memory of this machine, or of its GPU, by the setting that takes most;
            or Gram matrices of a whole batch that are larger than it by themselves.
    """
    usual = _usual()
    there: dict[Place, float] = {"this machine": memory_bytes(torch.device("cpu"))}
    if device.type == "cuda":
        there["the GPU"] = memory_bytes(device)
    lines = dict[str, None]()
    own = ((*pair, number) for pair in _settings(experiment) for number in range(len(sides(pair[0].crops))))
    for settings, teacher, number in own:
        numbers = sizes(settings, number, teacher=teacher)
        how = {"split": len(there) > 1, "half": settings.precision == "bfloat16"}
        for place, total in there.items():
            wanted = held(numbers, place, **how)
            if wanted <= total:
                continue
            if cosine_bytes(numbers) > wanted / 2 and numbers[LEVEL] == LEVELS["batch"]:
                most = LEVEL  # a smaller batch would help as well, but what is odd is the level
            else:
                less = {key: held(_as_usual(numbers, usual, key), place, **how) for key in usual}
                most = min(less, key=less.__getitem__)
            named = _named(settings, number, numbers, most)
            line = f"{named} takes most of about {_gib(wanted)}, and {place} has {_gib(total)}"
            if wanted > BEYOND * total or (most == LEVEL and cosine_bytes(numbers) > total):
                way_out = WAYS_OUT.get(most, "less of it")
                alone = "" if started_count() == 1 else "without torchrun, "
                raise BadInput(f"{line} of memory: want {way_out}; {alone}launcher=slurm plans for another machine")
            lines[f"memory: {line}: it may not suffice"] = None
    return list(lines)


def most_held(experiment: Experiment, *, split: bool) -> float:
    """Bytes of this machine that the largest process of an experiment holds; `split`: the rest of it is on a GPU.

    Students of one teacher are taken to be trained in one, side by side.
    """
    libraries, students = LIBRARIES_GIB * 2**30, defaultdict[str | int, float](float)
    teachers = defaultdict[str | int, float](float)
    for place, (settings, teacher) in enumerate(_settings(experiment)):
        numbers = [sizes(settings, number, teacher=teacher) for number in range(len(sides(settings.crops)))]
        half = settings.precision == "bfloat16"
        most = max(held(one | {TEACHER: 0}, "this machine", split=split, half=half) for one in numbers)
        process = settings.distillation.teacher or place
        students[process] += most - libraries
        teachers[process] = 0 if split else max(teachers[process], *(one[TEACHER] for one in numbers))
    return libraries + max(students[process] + teachers[process] for process in students)


def sizes(settings: Experiment, number: int = 0, *, teacher: Experiment | None = None) -> Numbers:
    """The settings that memory grows with, by their keys, and numbers on Gram matrices, a frozen teacher and parts.

    number: which of the sides of `crops.sizes`; they stand under the keys of plain ones.
    teacher: the settings with the shapes of a frozen teacher.
    """
    model, crops, evals = sizes_of(settings.model), settings.crops, settings.evals
    side, gram = sides(crops, resolution=settings.gram.resolution)[number], settings.gram
    relation = RELATIONS[gram.relation]
    heads = {
        f"{name}.head.{key}": getattr(getattr(settings, name).head, key)
        for name in ("dino", "ibot")
        for key in ("hidden", "bottleneck", "prototypes")
    }
    return {
        "data.batch_size": settings.data.batch_size,
        PROCESSES: joined().world,
        HERE: here_count(),
        SHARDS: joined().world if settings.runtime.shard else 1,
        PARTS: joined().world * settings.runtime.accumulate,
        RECOMPUTED: settings.runtime.recompute,
        "crops.global_size": side.globals,
        "crops.local_size": side.locals,
        "crops.local_count": crops.local_count,
        "gram.resolution": side.gram / side.globals if gram.weight else 0,
        "gram.ring": gram_teacher.most_kept(gram),
        "gram.measure_images": gram.measure_images if gram.is_watched else 0,
        LEVEL: LEVELS[gram.level] if gram.weight else 0,
        MATRICES: relation.matrices + (gram.negatives == "clamp"),
        CHANNELS: relation.by_channels and gram.negatives == "keep",
        TEACHER: _answering(sizes(teacher, number)) if teacher is not None else 0,
        PATCH: model.patch,
        "model.args.embed_dim": model.width,
        "model.args.depth": model.depth,
        "model.args.num_reg_tokens": model.prefix - 1,
        **heads,
        "runtime.workers": settings.runtime.workers,
        "evals.size": evals.size if evals.tasks else 0,
        "evals.batch_size": min(evals.batch_size, _most_images(settings)) if evals.tasks else 0,
        "evals.sets.*.count": _dense_images(settings),
    }


def held(n: Numbers, place: Place, *, split: bool, half: bool) -> float:
    """Bytes at the peak; `split`: a GPU holds training and evaluation, this machine the rest; `half`: bfloat16.

    Where each process holds a part of the weights, the peak may be before the first step: parts, and a whole state
    beside them from which they come.
    """
    batch, width, depth = n["data.batch_size"] / n[PARTS], n["model.args.embed_dim"], n["model.args.depth"]
    globals_, locals_, larger, seen = (
        _tokens(n, side)
        for side in (
            n["crops.global_size"],
            n["crops.local_size"],
            n["crops.global_size"] * n["gram.resolution"],
            n["evals.size"],
        )
    )
    areas = 2 * n["crops.global_size"] ** 2 * (1 + n["gram.resolution"] ** 2)
    pixels = 12 * n["data.batch_size"] / n[PROCESSES] * (areas + n["crops.local_count"] * n["crops.local_size"] ** 2)
    weights = (COPIES * _network(n) + n[TEACHER]) / n[SHARDS]
    student = batch * (2 * globals_ + n["crops.local_count"] * locals_)
    block = SAVED[half]
    saved = block + depth - 1 if n[RECOMPUTED] else block * depth  # of all blocks what enters, and the inside of one
    blocks = 4 * saved * width * student + 4 * FORWARD * width * 2 * batch * larger
    rows = n["dino.head.prototypes"] * batch * (2 + n["crops.local_count"])
    logits = 4 * LOGITS * (rows + n["ibot.head.prototypes"] * 0.3 * batch * globals_)
    images = 4 * n["evals.batch_size"] * (6 * n["evals.size"] ** 2 + FORWARD * width * seen)
    watched = 4 * UNITS * width * globals_ * n["gram.measure_images"]
    on_device = weights + pixels + blocks + logits + images + watched + cosine_bytes(n)
    features = 4 * width * seen * n["evals.sets.*.count"]
    kept = _backbone(n) * n["gram.ring"] + 12 * n["gram.measure_images"] * n["crops.global_size"] ** 2
    libraries = LIBRARIES_GIB * 2**30
    each = libraries + n["runtime.workers"] * (WORKER + AHEAD * pixels) + features + kept
    if place == "the GPU":
        return on_device
    begins = BEGUN * _network(n) * (1 + n[HERE] / n[SHARDS]) if n[SHARDS] > 1 else 0
    return max(n[HERE] * (each + (pixels if split else on_device)), n[HERE] * libraries + begins)


def cosine_bytes(n: Numbers) -> float:
    """Of the matrices of the Gram loss, for a teacher of the student's width; this is no estimate."""
    matrices = {0: 0, LEVELS["image"]: 2 * n["data.batch_size"] / n[PARTS], LEVELS["batch"]: 1}[n[LEVEL]]
    return 4 * n[MATRICES] * matrices * _side(n) ** 2


def _settings(experiment: Experiment) -> list[tuple[Experiment, Experiment | None]]:
    """Those of the trunk and of the arms, each with those of its frozen teacher. `BadInput` names the arm."""
    own = {TRUNK: trunk_settings(experiment)} if experiment.trunk.steps else {}
    own |= {arm: arm_settings(experiment, arm) for arm in experiment.arms}
    for arm, settings in own.items():
        try:
            sizes_of(settings.model)
        except BadInput as error:  # of the backbone that this arm alone asks for
            where = "" if settings.model == experiment.model else f"arms.{arm}: "
            raise BadInput(f"{where}{error}") from error
    return [(settings, _teacher(settings, own)) for settings in own.values()]


def _teacher(settings: Experiment, own: dict[str, Experiment]) -> Experiment | None:
    """The settings with the shapes of a frozen teacher; one that cannot be read is refused as jobs are made."""
    with suppress(BadInput):
        return distillation.teacher_settings(settings, own.get(distillation.named_arm(settings) or ""))
    return None


@functools.cache
def _usual() -> Numbers:
    """The defaults, as if something were evaluated and anchored."""
    evals = {"evals.size": Evals().size, "evals.batch_size": Evals().batch_size, "evals.sets.*.count": 1000}
    gram = {"gram.resolution": 1, "gram.measure_images": Gram().measure_images, LEVEL: LEVELS["image"]}
    found = sizes(Experiment()) | gram | evals
    return {key: value for key, value in found.items() if key not in AS_THEY_ARE}


def _as_usual(numbers: Numbers, usual: Numbers, key: str) -> Numbers:
    """With one setting as small as its default, or smaller where it is."""
    least = max if key == PATCH else min
    return numbers | {key: least(numbers[key], usual[key])}


def _tokens(n: Numbers, side: float) -> float:
    return (side / n[PATCH]) ** 2 + 1 + n["model.args.num_reg_tokens"] if side else 0


def _side(n: Numbers) -> float:
    """Of a Gram matrix: the patches of a crop or of all global crops, or the channels where these are fewer."""
    crop, width = (n["crops.global_size"] / n[PATCH]) ** 2, n["model.args.embed_dim"]
    patches = crop * (2 * n["data.batch_size"] if n[LEVEL] == LEVELS["batch"] else 1)
    return width if n[CHANNELS] and in_channels(patches, width) else patches


def _named(settings: Experiment, number: int, n: Numbers, key: str) -> str:
    """A setting and its value; the level of Gram matrices with their size, a side of `crops.sizes` by its place."""
    if key == LEVEL:
        return f"gram.level=batch, matrices of {_side(n):,.0f}² cosines, {_gib(4 * _side(n) ** 2)} each,"
    if key == TEACHER:
        return f"{key}={settings.distillation.teacher}"
    given = as_dict(settings.crops.sizes[number]) if settings.crops.sizes else {}
    if value := given.get(OF_SIZES.get(key, "")):
        return f"crops.sizes[{number}].{OF_SIZES[key]}={value}"
    return f"{key}={n[key]:.16g}"


def _answering(n: Numbers) -> float:
    """Bytes of a frozen teacher, with its forward pass of the global crops."""
    crops = 2 * n["data.batch_size"] / n[PARTS] * _tokens(n, n["crops.global_size"])
    return _network(n) + 4 * FORWARD * n["model.args.embed_dim"] * crops


def _network(n: Numbers) -> float:
    return _backbone(n) + 4 * (_head(n, "dino") + _head(n, "ibot"))


def _backbone(n: Numbers) -> float:
    return 4 * 12 * n["model.args.depth"] * n["model.args.embed_dim"] ** 2


def _head(n: Numbers, name: str) -> float:
    hidden, bottleneck, prototypes = (n[f"{name}.head.{key}"] for key in ("hidden", "bottleneck", "prototypes"))
    return hidden * (n["model.args.embed_dim"] + hidden + bottleneck) + bottleneck * prototypes


def _dense_images(settings: Experiment) -> float:
    """Images whose patches an evaluation holds at once, as far as the settings tell their number."""
    found: dict[str, float] = {}
    for task in settings.evals.tasks.values():
        protocol = protocol_of(task.protocol)
        for name, cap in ((task.train, protocol.train_images), (task.test, protocol.test_images)):
            if name and method_of(protocol).dense:
                one = settings.evals.sets[name]
                images = one.count or (1000 if KINDS[one.kind].rendered else 0)
                found[name] = max(found.get(name, 0), min(images, cap or images))
    return sum(found.values())


def _most_images(settings: Experiment) -> float:
    """Of a set that is evaluated, as far as the settings tell: no batch is larger."""
    return max(one.count or (1000 if KINDS[one.kind].rendered else math.inf) for one in settings.evals.sets.values())


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
