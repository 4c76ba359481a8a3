"""What a command line asks for: tasks, each with its protocols and its two sets."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from common.command import columns
from common.errors import BadInput, nearest
from evals.arguments import ALIASES
from evals.datasets.catalogue import DATA, KNOWN, open_named, open_set, refuse_without, tell_part
from evals.datasets.labelled_set import LabelledSet, Needs
from evals.datasets.set_file import is_set_file, read_set
from evals.datasets.settings import open_one
from evals.mmseg_bridge import ade20k_classes
from evals.one_task import TaskSpec
from evals.protocols import reading
from evals.protocols.protocol import Protocol
from evals.suite import paired
from evals.tasks.methods import TASKS, method_of, protocol_of, variants

PUBLISHED = ("published", "standard", "paper")  # words for one thing; the names of files are in hashes and stay
SCENES = {"train": 512, "val": 256}
SCENES_SIZE = 128  # pixels of the embedded rooms, whatever the size at which a backbone sees them


@dataclass(frozen=True)
class Wanted:
    """One task of the command line: `word` as written, what it measures, and on which data (None: embedded rooms)."""

    word: str
    task: str
    data: str | None


def parse(word: str, given: Mapping[str, str]) -> Wanted:
    """`TASK`, `TASK@DATASET`, or one of `ALIASES`; `given` names the data sets of the command line.

    A task that is given no data gets the embedded rooms, and an alias too unless GRAMLAB_DATA holds its set;
    `TASK@DATASET` insists on its set.

    Raises:
        BadInput: an unknown task.
    """
    if word in ALIASES:
        task, data = ALIASES[word]
        held = os.environ.get(DATA) and Path(os.environ[DATA], KNOWN[data].folder).exists()
        return Wanted(word, task, data if data in given or held else None)
    task, _, data = word.partition("@")
    if task not in TASKS:
        known = (*TASKS, *ALIASES)
        hint = nearest(task, known, otherwise="--list describes them")
        raise BadInput(f"got evaluation {task!r}: want one of {', '.join(known)}; {hint}")
    return Wanted(word, task, data or (task if task in given else None))


def pairs(entries: Sequence[str], option: str, example: str) -> dict[str, str]:
    """NAME=VALUE words as a mapping. Raises BadInput for any other form, or a name given twice."""
    found: dict[str, str] = {}
    for entry in entries:
        name, sign, value = entry.partition("=")
        if not (name and sign and value):
            raise BadInput(f"got {option} {entry}: want NAME=VALUE; do write {option} {example}")
        if name in found:
            raise BadInput(f"got {option} {name} twice: want one value; do leave one out")
        found[name] = value
    return found


def choose_protocol(wanted: Wanted, choices: Sequence[str]) -> Protocol:
    """The protocol of a task: its quickest, unless the choices say otherwise.

    Args:
        choices: each VARIANT or FILE.yaml for all tasks that have it, or TASK=VARIANT, TASK=FILE.yaml for one; what
            names the task wins.

    Raises:
        BadInput: a variant that the task does not have.
    """
    own = [
        value
        for name, sign, value in (c.partition("=") for c in choices)
        if sign and name in (wanted.word, wanted.task)
    ]
    for choice in [*own[::-1], *(c for c in reversed(choices) if "=" not in c)]:
        if choice.endswith((".yaml", ".yml")):
            found = protocol_of(choice)
            if found.task == wanted.task:
                return found
            if choice in own:
                raise BadInput(f"got {choice}, a protocol of {found.task}, for {wanted.word}: want one of "
                               f"{wanted.task}; do name another file")  # fmt: skip
            continue
        return protocol_of(_variant(wanted, choice))
    return protocol_of(wanted.task)


def _variant(wanted: Wanted, choice: str) -> str:
    known = variants(wanted.task)
    for word in (choice, *PUBLISHED) if choice in PUBLISHED else (choice,):
        if (name := f"{wanted.task}-{word}") in known:
            return name
    if len(known) == 1 and choice in (*PUBLISHED, "quick", "code"):  # there is nothing to choose
        return known[0]
    words = [name.removeprefix(f"{wanted.task}-") for name in known]
    words = ["published" if word in PUBLISHED else word for word in words]
    raise BadInput(
        f"got protocol {choice!r} for {wanted.word}: want {', '.join(words)} or a .yaml file; do write "
        f"--protocol {wanted.task}={words[0]}"
    )


def check_choices(choices: Sequence[str], wanted: Sequence[Wanted]) -> None:
    """Refuse a protocol for a task that was not asked for."""
    known = {name for w in wanted for name in (w.word, w.task)}
    for choice in choices:
        name, sign, _ = choice.partition("=")
        if sign and name not in known:
            raise BadInput(f"got --protocol {choice}: want one of the tasks asked for; do add {name} or leave it out")
        if not sign and choice.endswith((".yaml", ".yml")) and (task := protocol_of(choice).task) not in known:
            raise BadInput(f"got --protocol {choice}, a protocol of {task}: want the tasks asked for; do add {task}")


def open_split(
    name: str, *, split: str, root: str | None, classes: tuple[str, ...] | None, needs: Needs, cache: Path | None
) -> LabelledSet:
    """A split of a set of the command line; "" names the embedded rooms."""
    if not name:
        return open_set("scenes", split=split, size=SCENES_SIZE, count=SCENES[split], cache=cache)
    if root is not None and is_set_file(root):
        return _of_file(root, name, split=split, classes=classes, needs=needs, cache=cache)
    return open_named(name, root=root, split=split, classes=classes, needs=needs)


def _of_file(
    path: str, name: str, *, split: str, classes: tuple[str, ...] | None, needs: Needs, cache: Path | None
) -> LabelledSet:
    """The set of a YAML file: heads are fitted on `train`, whatever its `split`, which names the part to be judged."""
    known = KNOWN.get(name)
    held_out = known.held_out if known and split == "val" else split
    one = read_set(path, called=name, split=held_out, needs=needs)
    if split == "train":
        one = replace(one, split=split)
    if classes is not None:
        one = replace(one, classes=list(classes))
    dataset = open_one(name, one, cache=cache)
    refuse_without(dataset, needs, name=name, place=path)
    if known and one.count is None:
        tell_part(dataset, known, name=name, place=path)
    return dataset


def open_task(
    wanted: Wanted,
    settings: Protocol,
    *,
    roots: Mapping[str, str],
    classes: Mapping[str, str],
    cache: Path | None,
    opened: Callable[..., LabelledSet] = open_split,
) -> TaskSpec:
    """The task with its sets opened.

    Args:
        roots: from a set's name to its folder or its YAML file.
        opened: opens a split as `open_split` does; one that keeps them opens a set once for all tasks.
    """
    name = wanted.data or ""
    root, names = roots.get(name), classes.get(name, classes.get(wanted.word))
    listed = tuple(names.split(",")) if names else None
    if root is not None and name == wanted.task:  # data of one task bears the folder's name
        name = Path(root).resolve().stem if is_set_file(root) else Path(root).resolve().name
    part = partial(opened, name, root=root, classes=listed, needs=settings.needs, cache=cache)
    test = part(split="val")
    if listed is None and name not in KNOWN and len(test.segments) == len(ade20k_classes()):
        print(f"{name}: no class list given, ADE20K's 150 assumed; --classes {wanted.data}=LIST names another",
              file=sys.stderr)  # fmt: skip
    if method_of(settings).takes == "test set":
        return paired(settings, None, test)
    return paired(settings, part(split="train"), test)


def listing() -> str:
    """Every protocol that ships, a line each: task, protocol, hash, input size, metrics, what it is."""
    rows = [("task", "protocol", "hash", "input", "metrics", "what it is")]
    for task in TASKS:
        for name in variants(task):
            settings = protocol_of(name)
            metrics = method_of(settings).file.metrics(settings)
            shown = ", ".join(metrics[:3]) + (f" and {len(metrics) - 3} more" if len(metrics) > 3 else "")
            rows.append((task, settings.id, settings.hash(), f"{settings.size} px", shown, reading.title(name)))
    return columns(rows)
