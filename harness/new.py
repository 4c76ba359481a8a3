"""A new experiment file, commented, from three answers or from flags: `gramlab new NAME`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Template
from typing import NamedTuple, TypeVar

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.bounds import NAME_BYTES, is_name
from common.command import answer, end, parsed
from common.disk import write_text
from common.errors import BadInput, nearest
from evals.datasets.catalogue import open_set
from harness import arguments
from harness.arguments import AXES, SCENES
from harness.layers import EXPERIMENTS

T = TypeVar("T")

ARMS = {
    "gram": {
        "plain": ("{}", "Gram off"),
        "anchored": ("{gram.weight: 5.0}", "kept to $teacher"),
    },
    "update": {
        "plain": ("{}", "Gram off"),
        "fixed": ("{gram.weight: 5.0}", "kept to $teacher"),
        "slow": ("{gram.weight: 5.0, gram.update_every: $slow}", "the same, renewed from the EMA every $slow steps"),
        "quick": ("{gram.weight: 5.0, gram.update_every: $quick}", "the same, every $quick steps"),
    },
    "resolution": {
        "plain": ("{}", "Gram off"),
        "anchored": ("{gram.weight: 5.0}", "kept to $teacher"),
        "highres": ("{gram.weight: 5.0, gram.resolution: 2.0}", "the same, on crops twice as large"),
    },
    "batching": {
        "mixed": ("{}", "every batch of all kinds"),
        "tenth": ("{data.homogeneous_share: 0.1}", "a tenth of the batches of one kind, as in the paper"),
        "third": ("{data.homogeneous_share: 0.3}", ""),
        "all": ("{data.homogeneous_share: 1.0}", ""),
    },
}
HEAD = """\
# $question
#
# What it would do, and how long:   gramlab run $file --plan
# Train, evaluate and report:       gramlab run $file     (cut off? the same command goes on)
# All settings and their meaning:   gramlab run --settings, and docs/settings.md
"""
BODIES = {
    "anchored rooms": """\
defaults:                  # files of experiments/, each laid over those before it
  - model: nano            # 0.45 M parameters, for two CPU cores; vits, vitb, vitl and vit7b are larger
  - data: scenes           # rendered rooms, nothing to download
  - evals: scenes_dense    # kNN, linear probe, segmentation, depth, normals and signs of health, on other rooms
  - recipe: degrading      # settings in which dense features fall
  - _self_

question: $asked
seeds: [0]                 # a difference between arms wants several: [0, 1, 2]
steps: 160                 # of each arm
trunk: {checkpoint: $trunks/scenes_anchored.safetensors}    # shipped weights that all arms start from
gram: {teacher: start}     # the Gram teacher is what training starts from, unless it is renewed
baseline: $first            # the arm that others are compared with
arms:
  $lines
evals: {every: 40}         # steps
headline: [depth.rmse, knn.top1]    # what the report begins with
""",
    "rooms": """\
defaults:                  # files of experiments/, each laid over those before it
  - model: nano            # 0.45 M parameters, for two CPU cores; vits, vitb, vitl and vit7b are larger
  - data: scenes           # rendered rooms, nothing to download; six kinds of them
  - evals: scenes          # kNN, linear probe, segmentation and depth, on other rooms
  - recipe: nano           # DINOv3's losses and optimizer for small images and batches
  - _self_

question: $asked
seeds: [0]                 # a difference between arms wants several: [0, 1, 2]
steps: 280                 # of each arm, the trunk's among them
trunk: {steps: 40, checkpoint: $trunks/scenes_nano.safetensors}    # trained once, from shipped weights
baseline: $first            # the arm that others are compared with
arms:
  $lines
evals: {every: 80}         # steps
""",
    "images": """\
defaults:                  # files of experiments/, each laid over those before it
  - model: nano            # 0.45 M parameters, for two CPU cores; vits, vitb, vitl and vit7b are larger
  - recipe: nano           # DINOv3's losses and optimizer for small images and batches
  - evals: scenes          # judged on rendered rooms; docs/data.md shows how to judge on labelled sets of your own
  - _self_

question: $asked
data:
  sources:
    images: {kind: folder, root: $root}
  components: $components
  batch_size: 32
crops: {jitter: 0.8, hue: 0.1, saturation: 0.2, brightness: 0.4, contrast: 0.4, grayscale: 0.2}    # for photographs
teacher: {temperature: 0.04, temperature_start: 0.04}    # photographs differ more than rooms

seeds: [0]                 # a difference between arms wants several: [0, 1, 2]
steps: 2300                # of each arm, the trunk's among them
trunk: {steps: 2000}       # trained once, shared by all arms
baseline: $first            # the arm that others are compared with
arms:
  $lines
evals: {every: 150}        # steps
""",
}
# What arms are kept to, and how often that is renewed, by the body that they stand in
TIMES = {
    "anchored rooms": {"teacher": "the weights that training starts from", "slow": "80", "quick": "20"},
    "rooms": {},
    "images": {"teacher": "the EMA teacher at the fork", "slow": "100", "quick": "25"},
}


class Asked(NamedTuple):
    """What an experiment is to ask: its question, its images (`scenes` or a folder), the axis of its arms."""

    question: str
    images: str
    axis: str


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 written, 2 bad input, which leaves everything as it was."""
    return answer(lambda: _run(argv), afterwards="nothing was written")


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.new, "new", argv)
    path = place(args.name)
    given = [args.question, args.images, args.axis]
    if sys.stdin.isatty() and not any(word is not None for word in given):
        asked = ask(input)
    else:
        axis = _axis(args.axis or "gram")
        asked = Asked(_question(args.question or "", axis), args.images or SCENES, axis)
    text = written(asked, path.name)
    write_text(path, text)
    print(f"{path} is written; what it would do: gramlab run {path} --plan")
    return 0


def place(name: str) -> Path:
    """Where the file goes. Raises `BadInput` for a name that is none, and for one that is taken."""
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    if not is_name(stem):
        want = f"want letters, digits, '.', '_' and '-', at most {NAME_BYTES} bytes, since it names a folder of runs"
        raise BadInput(f"got the name {name!r}: {want}; do take another, as in my_question")
    path = Path(f"{stem}.yaml")
    if path.exists() or path.is_symlink():
        raise BadInput(f"{path} is there already, and is left as it is: want another name")
    return path


def ask(read: Callable[[str], str]) -> Asked:
    """The three answers; one that is not fit is asked for again. Raises `BadInput` where they end before that.

    read: prints what it is given, and returns the line that is typed.
    """
    axes = "\n".join(f"  {name:11s}{what}" for name, (what, _) in AXES.items())
    try:
        question = _again(read, "Question (Enter: that of the arms): ", lambda word: _question(word, "gram") and word)
        images = _again(read, f"Folder of images, or {SCENES} for rendered rooms (Enter: {SCENES}): ", _images)
        axis = _again(read, f"{axes}\nArms (Enter: gram): ", lambda word: _fits(images, _axis(word or "gram")))
    except EOFError:
        print()
        flags = "--question, --images and --axis"
        raise BadInput(f"got no answer: want three; do answer, or give {flags}") from None
    return Asked(_question(question, axis), images, axis)


def _again(read: Callable[[str], str], prompt: str, judge: Callable[[str], T]) -> T:
    while True:
        try:
            return judge(read(prompt).strip())
        except BadInput as error:
            print(error)


def _question(word: str, axis: str) -> str:
    """The question as one line, by default that of the axis."""
    if not (line := " ".join(word.split())).isprintable():
        raise BadInput(f"got the question {line!r}: want letters that can be printed; do leave the others out")
    return line or AXES[axis][1]


def _images(word: str) -> str:
    """`scenes`, or a folder in which there are images."""
    if word not in ("", SCENES):
        open_set("folder", root=word)
    return word or SCENES


def _axis(word: str) -> str:
    if word not in AXES:
        do = nearest(word, AXES, otherwise="gram is the first to ask")
        raise BadInput(f"got the axis {word!r}: want one of {', '.join(AXES)}; {do}")
    return word


def _fits(images: str, axis: str) -> str:
    _components(images, axis)
    return axis


def _components(images: str, axis: str) -> str:
    """What a component of batches is. Raises `BadInput` for images of one kind, of which every batch is."""
    if images == SCENES:
        return "image_class"
    kinds = len(open_set("folder", root=images).classes)
    if axis == "batching" and kinds < 2:
        want = "want a sub-folder for each kind, two at least, for batches of one kind"
        raise BadInput(f"got {images}, which has {kinds} classes: {want}; do name another folder, or {SCENES}")
    return "image_class" if kinds > 1 else "source"


def written(asked: Asked, file: str) -> str:
    """The text of an experiment file of this name. Raises `BadInput` for images that cannot be had or do not fit."""
    images = _images(asked.images)
    body = "images" if images != SCENES else "rooms" if asked.axis == "batching" else "anchored rooms"
    root = str(Path(images).expanduser().resolve())
    if not root.isprintable():
        raise BadInput(f"got the folder {images!r}: want a path of letters that can be printed; do make a link to it")
    arms = ARMS[asked.axis]
    values = {
        "question": asked.question,
        "file": file,
        "asked": quoted(asked.question),
        "root": quoted(root),
        "components": _components(images, asked.axis),
        "trunks": _trunks(),
        "first": next(iter(arms)),
        "lines": _lines(arms, TIMES[body]),
    }
    return Template(HEAD + BODIES[body]).substitute(values)


def _trunks() -> str:
    """Where the shipped weights are: below the folder that the command is given in, or with the installed package."""
    here = Path("experiments", "trunks")
    return here.as_posix() if here.is_dir() else (EXPERIMENTS / "trunks").as_posix()


def _lines(arms: Mapping[str, tuple[str, str]], times: Mapping[str, str]) -> str:
    """The arms, a line each, with what they are beside them."""
    told = [(f"{name}: {_timed(own, times)}", _timed(what, times)) for name, (own, what) in arms.items()]
    wide = max(len(line) for line, _ in told)
    return "\n  ".join(f"{line:{wide}s}    # {what}" if what else line for line, what in told)


def _timed(text: str, times: Mapping[str, str]) -> str:
    return Template(text).substitute(times)


def quoted(text: str) -> str:
    """A text as YAML in quotes has it, in which `${` stands for itself."""
    return json.dumps(re.sub(r"(\\*)\$\{", r"\1\1\\${", text), ensure_ascii=False)


if __name__ == "__main__":
    end(main())
