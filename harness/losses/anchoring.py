"""Settings of what a loss is kept to: the Gram teacher, which `harness/gram_teacher.py` makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from annotated_types import Ge, Le

from common.bounds import About, Count, Flag, Natural, NotNegative, Place, Real, SomeShare, Whole
from common.schema import settings

Resize = Literal["bicubic", "bilinear", "area"]
GramTeacher = Literal["snapshot", "ema", "checkpoint", "start", "best_dense"]
Start = Literal["step", "alarm"]
Measure = Literal["dse", "locality"]


@settings
class Anchoring:
    """What a relation between patches is held to, an earlier teacher (§4.2): how much, when, to whom.

    Apart from the relation itself (`harness/losses/gram.py`), and above any: `gram` is the one section that has it.
    """

    weight: Annotated[
        NotNegative,
        About(
            "factor of the Gram loss in the total, 0 switches it off; then no other `gram` key enters the hash",
            "DINOv3 §4.2; official code uses 2 with the mean form of the loss",
        ),
    ] = 0.0
    start_step: Annotated[
        Natural | None,
        About(
            "first step with the Gram loss; null = where the arm that switches it on begins. It must not lie before "
            "the fork, unless the arm that is forked from has it on",
            "DINOv3 §4.2; official code: 1 M of 1.2 M",
        ),
    ] = None
    weight_end: Annotated[
        NotNegative | None,
        About(
            "weight at `schedule.end_step`, on the way there from the end of the warm-up in the `schedule.shape`; null "
            "= constant",
            "Gramlab",
        ),
    ] = None
    start: Annotated[
        Start,
        About(
            "`step`: the loss begins at `gram.start_step`; `alarm`: at the first measurement from there on at which "
            "`gram.measure` has fallen by `gram.alarm_drop` from its best. Warm-up and renewals count from where "
            "it begins",
            "Gramlab",
        ),
    ] = "step"
    alarm_drop: Annotated[SomeShare, About("fall that raises the alarm, as a share of the best value", "Gramlab")] = (
        0.05
    )
    measure: Annotated[
        Measure | None,
        About(
            "label-free measure of the EMA teacher's patches for `alarm` and `best_dense`, higher is better; `dse`, or "
            "`locality` (cosines with neighbours less those with other patches), as in [health.md](health.md)",
            "`dse`: arXiv 2510.17299; `locality`: DINOv3 §4, fig. 6",
        ),
    ] = None
    measure_every: Annotated[
        Count, About("steps between measurements; `best_dense` also measures where it chooses", "Gramlab")
    ] = 1000
    measure_images: Annotated[
        Whole,
        Ge(8),
        About(
            "images that are measured: evenly spread over the training pool, their centre squares of "
            "`crops.global_size` pixels, with `crops.sizes` of the side that most steps have; no label read",
            "arXiv 2510.17299 (about 1000)",
        ),
    ] = 64
    ring: Annotated[
        Annotated[Whole, Ge(2)] | None,
        About("how many measured EMA teachers, the last ones, `best_dense` chooses among", "Gramlab"),
    ] = None
    warmup_steps: Annotated[
        Natural,
        About("steps of a half-cosine from 0 to `gram.weight`; 0 = full weight at once", "official code (1000)"),
    ] = 0
    teacher: Annotated[
        GramTeacher,
        About(
            "whose patches are the target; `snapshot` (the EMA teacher frozen at `gram.teacher_step`), `ema` (the live "
            "EMA teacher), `checkpoint` (`gram.checkpoint`), `start` (the weights that training started from, or the "
            "last arm on the way with `inherit: teacher`: the natural one where a trained model is continued), "
            "`best_dense` (of the last `gram.ring` EMA teachers that were measured the one with the best "
            "`gram.measure`, at the start and at each renewal; those before a fork are kept on the way there, or made "
            "again where they were passed)",
            "DINOv3 §4.2; `ema`: official code; `start`, `best_dense`: Gramlab",
        ),
    ] = "snapshot"
    teacher_step: Annotated[
        Natural | None,
        About(
            "steps after which `snapshot` freezes the EMA teacher, at most `gram.start_step`; "
            "null = at the start. One before the fork is kept on the way there, or made again where it was passed",
            "DINOv3 §4.2, §4.3 (100 k, 200 k or 1 M)",
        ),
    ] = None
    checkpoint: Annotated[
        Place | None,
        About(
            "exported backbone folder for `checkpoint`; of the student's patch size (of its whole architecture "
            "with `gram.update_every`); its content enters the hash",
            "official code",
        ),
    ] = None
    update_every: Annotated[
        Count | None,
        About(
            "steps between renewals of the Gram teacher by a copy of the EMA teacher, counted from `gram.start_step`; "
            "null = never; not with `ema`",
            "DINOv3 §4.2; official code: 10 k, three times",
        ),
    ] = None
    first_renewal: Annotated[
        Count | None,
        About(
            "step of the first renewal, from which `gram.update_every` then counts; null = `gram.update_every` steps "
            "after `gram.start_step`",
            "official code (1,010,000 for 7B; later ones at multiples of the period)",
        ),
    ] = None
    max_renewals: Annotated[Count | None, About("renewals at most; null = no limit", "official code (3 for 7B)")] = None
    resolution: Annotated[
        Real,
        Ge(1),
        Le(64),
        About(
            "the Gram teacher sees crops this many times the side of the student's, a multiple of the patch; its "
            "patches are resized to the student's grid",
            "DINOv3 §4.3 (2.0)",
        ),
    ] = 1.0
    resize: Annotated[
        Resize,
        About(
            "how its patches come to the student's grid; `area` is the mean of what a patch of the student covers",
            "DINOv3 §4.3 (`bicubic`)",
        ),
    ] = "bicubic"
    antialias: Annotated[
        Flag,
        About(
            "the kernel of `bicubic` and `bilinear` is widened by the factor, so that none of its patches is passed by",
            "official code (false)",
        ),
    ] = False
    undistorted: Annotated[
        Flag,
        About(
            "Gram crops get the student's boxes and flips but no colour jitter, grayscale, blur or solarisation",
            "official code (true for 7B)",
        ),
    ] = True

    student_from_gram_crop: Annotated[
        Flag,
        About(
            "the student's global crops are cut at the Gram crops' size and resized from there, so that arms of other "
            "resolutions see slightly other pixels; false = straight from the image, the same for any resolution",
            "official code (always)",
        ),
    ] = False

    def conflicts(self) -> Iterator[str]:
        """What belongs to another teacher; nothing while the loss is off."""
        if self.weight == 0:
            return
        if self.teacher == "checkpoint" and self.checkpoint is None:
            yield "checkpoint=null: want an exported backbone folder for teacher=checkpoint"
        if self.teacher != "checkpoint" and self.checkpoint is not None:
            yield f"checkpoint={self.checkpoint}: want null with teacher={self.teacher}, or teacher=checkpoint"
        yield from self._watch_conflicts()
        if self.teacher != "snapshot" and self.teacher_step is not None:
            yield f"teacher_step={self.teacher_step}: want null with teacher={self.teacher}, or teacher=snapshot"
        if self.teacher == "ema" and self.update_every is not None:
            yield f"update_every={self.update_every}: want null with teacher=ema, which is renewed at every step"
        if self.teacher_step is not None and self.start_step is not None and self.teacher_step > self.start_step:
            yield f"teacher_step={self.teacher_step}: want at most start_step={self.start_step}"
        if self.first_renewal is not None and self.start_step is not None and self.first_renewal <= self.start_step:
            yield f"first_renewal={self.first_renewal}: want more than start_step={self.start_step}, or null"

    def _watch_conflicts(self) -> Iterator[str]:
        """An alarm, or a choice, without what it needs, and steps that cannot be known before an alarm."""
        if self.is_watched and self.measure is None:
            who = "start=alarm" if self.start == "alarm" else "teacher=best_dense"
            yield f"{who}: want gram.measure=dse or locality, by which it is decided"
        if self.teacher == "best_dense" and self.ring is None:
            yield "ring=null: want how many measured EMA teachers teacher=best_dense chooses among"
        if self.start == "alarm":
            for key in ("teacher_step", "first_renewal"):
                if (value := getattr(self, key)) is not None:
                    yield f"{key}={value}: want null with start=alarm, whose step is not known beforehand"

    def unused(self) -> dict[str, str]:
        """Settings that do nothing beside the others, and what they want: a run's identity leaves them out."""
        found = {}
        if not self.is_watched:
            nobody = "nothing is decided by it; want gram.start=alarm or gram.teacher=best_dense"
            found |= dict.fromkeys(("measure", "measure_every", "measure_images"), nobody)
        if self.teacher != "best_dense":
            found["ring"] = f"gram.teacher={self.teacher} chooses among none; want best_dense"
        if self.start != "alarm":
            found["alarm_drop"] = "no alarm is waited for; want gram.start=alarm"
        if self.resolution == 1:
            found |= dict.fromkeys(("resize", "antialias"), "both grids are equal; want gram.resolution above 1")
        elif self.resize == "area":
            found["antialias"] = "gram.resize=area takes the mean of all patches; want bicubic or bilinear"
        if self.update_every is None:
            found |= dict.fromkeys(
                ("first_renewal", "max_renewals"), "the teacher is not renewed; want gram.update_every"
            )
        return found

    @property
    def first_step(self) -> int:
        """The first step with the loss, with an alarm the earliest; a run without a fork begins with it by default."""
        return self.start_step or 0

    @property
    def awaits_alarm(self) -> bool:
        """Whether the first step of the loss is not known beforehand."""
        return self.weight > 0 and self.start == "alarm"

    @property
    def is_watched(self) -> bool:
        """Whether something is decided by the measure."""
        return self.awaits_alarm or (self.weight > 0 and self.teacher == "best_dense")

    def measured_from(self, choice: int) -> int:
        """The first step that is measured for a choice at step `choice`: what is older is out of the ring by then.

        Of the ring's members one is of the choice itself, the others are of multiples of `measure_every` before it.
        """
        if self.awaits_alarm:
            return self.first_step
        others = max((self.ring or 1) - 1, 0)
        return min(choice, ((choice - 1) // self.measure_every - others + 1) * self.measure_every)

    @property
    def warm_step(self) -> int:
        """The step in which the warm-up comes to the weight."""
        return self.first_step + max(self.warmup_steps - 1, 0)

    def weight_at(self, step: int) -> float:
        """Zero before `start_step`, a half-cosine to the weight over `warmup_steps` (ends included), then constant."""
        if step < self.first_step or self.awaits_alarm:
            return 0.0
        done = step - self.first_step
        if done >= self.warmup_steps - 1:
            return self.weight
        return self.weight * (1 - math.cos(math.pi * done / (self.warmup_steps - 1))) / 2
