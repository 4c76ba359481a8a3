"""What settings say of themselves, for the docs; `python harness/settings_pages.py` writes the pages.

A test compares docs/settings.md, docs/protocols.md and docs/recipe.md with what this writes: they cannot drift apart.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.bounds import Setting, described
from common.disk import write_text
from common.schema import wanted
from evals.protocols import reading
from evals.protocols.protocol import Protocol
from evals.tasks.methods import METHODS, protocol_of
from harness import recipe_page
from harness.losses.table import LOSSES
from harness.settings import Experiment

DOCS = Path(__file__).resolve().parents[1] / "docs"
PROTOCOLS = """\
# Settings of protocols

Written by `python harness/settings_pages.py` from the classes in `evals/tasks/`: what they say is changed there.

A protocol is a file of `evals/protocols/`, or a copy of one under another `name` ([evaluations.md](evaluations.md)).
It names its `method` and gives every setting of it: none has a default. A setting that is missing, unknown or outside
what is wanted here is refused, all of them at once. Numbers are finite, and a whole one may stand for any; true and
false are no numbers. Each setting enters the protocol's hash. The files themselves tell steps and sources.
"""
# `TABLE a b.c` becomes the table of all settings at or below these keys that no earlier table shows
SETTINGS = """\
# Settings

Every key of an experiment, written by `python harness/settings_pages.py` from the classes in `harness/settings.py`,
`harness/recipe.py` (model, optimizer, teacher, distillation, schedule), `harness/crop_settings.py`,
`harness/data_settings.py`, `harness/losses/`, `harness/eval_settings.py`, `harness/launcher_settings.py` and
`harness/sweep_settings.py`: what they say is changed there. A key is written nested in the YAML (`gram: {weight:
2.0}`), dotted in an arm (`arms: {anchored: {gram.weight: 2.0}}`) and dotted on the command line (`gram.weight=2.0`; of
one arm `arms.NAME.gram.weight=2.0`; `~KEY` removes one). There a mapping of names of your own takes the place of the
file's (`arms={…}`, `data.sources={…}`, `evals.sets={…}`, `evals.tasks={…}`, `model.args={…}`), and one of a section
changes what it names (`gram={weight: 2.0}` leaves the rest of `gram`). `model=vits` on the command line swaps a group
that the file lists under `defaults`, `+recipe=paper` lays one over all.

An unknown key is refused with the nearest known one, a value that is not what is wanted here by its path; all of them
at once. A file is UTF-8 and names each key once. Numbers are finite, a whole one may stand for any, true and false are
none, and text that looks like a number stands in quotes (on the command line in two kinds: `name="'2024'"`); `010` and
`1:30` are text. A number from a variable is written `${oc.decode:${oc.env:NAME}}`.

*Science* shapes a result and enters a run's hash; *machinery* does not (see
[identity](runs.md#identity-what-makes-a-run-the-same-run)). Sources: "DINOv3 §x" is arXiv 2508.10104; "official
code" is what the published code of that paper does where the paper does not say; "Gramlab" is ours. `NAME` stands
for a name that you choose. Steps count optimizer steps; the first is step 0.

## The four ablation axes (science)

All of Gram anchoring is under `gram`, batch composition under `data`. These six keys are the axes of
`experiments/gram_ablation.yaml` and `experiments/batching_mix.yaml`; they are repeated in no other table.

TABLE gram.weight gram.start_step gram.teacher gram.update_every gram.resolution data.homogeneous_share

## The rest of `gram` (science)

TABLE gram

## The experiment

The prose is printed in the plan and on page one of the report. Neither it nor the lists `seeds` and `arms`, nor
`steps`, `baseline`, `margins` and `headline`, enter the hash of a run; its own seed, the settings that its overrides
change and the step of its fork do.

TABLE name question source expected cost seeds steps arms largest_grid baseline margins headline device precision trunk

## `model` (science)

TABLE model

The three RoPE draws are made anew for each step, block and kind of crop, and never for a teacher or an evaluation.
`experiments/model/` holds `nano`, `vits` and `vitb`.

## The other losses (science)

TABLE LOSSES

## `teacher` (science)

TABLE teacher

## `distillation` (science)

A frozen teacher of another size, and students side by side ([distillation.md](distillation.md)).

TABLE distillation

## `optimizer` (science)

AdamW. Biases, norms and LayerScale are never decayed.

TABLE optimizer

## `schedule` (science)

From where warm-ups count, and how what has an end goes there; [schedules.md](schedules.md) shows those of the paper.

TABLE schedule

## `crops` (science)

Two global crops and `crops.local_count` local ones of each image; order crop, flip, colour jitter, grayscale, blur,
solarise. Sizes are pixels and multiples of the patch, scales are shares of the image's area. Bicubic.

TABLE crops

## `data` (science)

What a data set must look like on disk is in [data.md](data.md). In the hash stand the content of the sources and their
names, `data.components`, `data.homogeneous_share` and `data.batch_size`, and `data.homogeneous` and `data.mixed` where
they are given.

TABLE data

## `evals` (machinery)

When and on what the frozen features are judged; [evaluations.md](evaluations.md) describes the protocols.

TABLE evals

## `runtime` (machinery)

TABLE trackers runtime

## `launcher` (machinery)

By whom the jobs are trained; [cluster.md](cluster.md) shows an experiment on each.

TABLE launcher

## `sweep` (machinery)

What `harness/sweep.py` searches, and how ([sweeps.md](sweeps.md)); `harness/run.py` leaves it alone. A study is
bound to `sweep.objectives`, `sweep.space` and `sweep.pruner.by`; how trials are proposed and pruned, and how many there
are, may change.

TABLE sweep
"""


def main() -> int:
    """Write all pages anew."""
    for name, text in pages().items():
        write_text(DOCS / name, text)
    return 0


def pages() -> dict[str, str]:
    """Every page that is written, by its name in `docs/`."""
    return {"settings.md": settings(), "protocols.md": protocols(), "recipe.md": recipe_page.page()}


def settings() -> str:
    """The page of an experiment's settings."""
    left = {setting.key: setting for setting in described(Experiment)}

    def table(match: re.Match[str]) -> str:
        places = match[1].replace("LOSSES", " ".join(LOSSES)).split()
        keys = [key for place in places for key in left if f"{key}.".startswith(f"{place}.")]
        shown = [left.pop(key) for key in keys]
        rows = ((f"`{s.key}`", f"`{written(s.default)}`", *_told(s), s.about.source) for s in shown)
        return "\n".join(_table(("key", "default", "wanted", "meaning", "source"), rows))

    page = re.sub(r"^TABLE (.*)$", table, SETTINGS, flags=re.MULTILINE)
    assert not left, f"{', '.join(left)} in no table of harness/settings_pages.py: want a TABLE that shows them"
    return page


def protocols() -> str:
    """The page of protocols: what all of them have, then each method's own settings."""
    shared = [setting.key for setting in described(Protocol)]
    found = [PROTOCOLS, "## Every protocol", "", *_own(Protocol)]
    shipped = [protocol_of(name) for name in reading.names()]
    for name, method in METHODS.items():
        files = [protocol.name for protocol in shipped if protocol.method == name]
        named = [f"- [{file}](../evals/protocols/{file}.yaml): {reading.title(file)}." for file in files]
        found += ["", f"## `method: {name}`", "", *named, "", *_own(method.settings, without=shared)]
    return "\n".join(found) + "\n"


def written(default: Any) -> str:
    """A default as YAML writes it."""
    return default or '""' if isinstance(default, str) else json.dumps(default)


def _own(kind: type[Protocol], *, without: Sequence[str] = ()) -> Iterator[str]:
    rows = ((f"`{s.key}`", *_told(s)) for s in described(kind) if s.key not in without)
    return _table(("setting", "wanted", "meaning"), rows)


def _told(setting: Setting) -> tuple[str, str]:
    return wanted(setting.hint), setting.about.meaning


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |".replace(" --- ", "---")


if __name__ == "__main__":
    sys.exit(main())
