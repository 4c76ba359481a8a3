"""Settings of an experiment; others are in `recipe`, `losses/` and the files called `…_settings`.

Each says what it may be, its default, what it means and who says so. Science shapes the result and enters a run's hash;
machinery (`device`, `trackers`, `runtime`, `launcher`, `evals`) does not. What is impossible is refused when a class is
filled, combinations by its `conflicts`; docs/settings.md and `--help` are made from these words. Section numbers (§)
are those of DINOv3, arXiv 2508.10104, unless another paper is named.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Le, Predicate

from common.bounds import (
    About,
    Count,
    Flag,
    Name,
    Natural,
    NotNegative,
    Place,
    Positive,
    Whole,
    all_different,
    one_or_more_different,
)
from common.errors import nearest
from common.schema import settings
from evals.results.metrics import METRICS
from harness import arms as graph
from harness.crop_settings import Crops
from harness.data_settings import Data
from harness.eval_settings import Evals
from harness.launcher_settings import Launcher
from harness.losses.table import LOSSES, LossSettings
from harness.recipe import Distillation, Model, Optimizer, Schedule, Teacher
from harness.sweep_settings import Sweep

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16", "auto"]
TrackerName = Literal["mlflow", "wandb"]

WIDEST_MARGIN = 0.2  # of a share; what is wider was likely meant in points
MOST_RENEWALS = 10**5  # of a Gram teacher: each is recorded, and drawn in the report


@settings
class Trunk:
    """What all arms share: trained once per seed up to `steps`; arms fork from it with everything it has learnt."""

    steps: Annotated[
        Natural,
        About(
            "steps that all arms share: trained once for each seed; arms fork there with weights, optimizer and next "
            "batch. 0 = no trunk",
            "DINOv3 §4.2 has this shape",
        ),
    ] = 0
    overrides: Annotated[
        dict[str, Any],
        About("dotted overrides for the trunk alone; Gram anchoring is off in it unless `gram.weight` is set here"),
    ] = field(default_factory=dict)
    checkpoint: Annotated[
        Place | None,
        About(
            "weights of student and teacher, or of the teacher for both (`.safetensors`), to start step 0 from, but "
            "for a student of a frozen teacher; its content enters the hash. null = random weights"
        ),
    ] = None


@settings
class Runtime:
    """Machinery: nothing here may change a result."""

    folder: Annotated[Place, About("where run folders lie")] = "runs"
    cache: Annotated[Place, About("where rendered scenes, indices of shards, rows of manifests lie")] = ".cache/gramlab"
    cache_gib: Annotated[
        Positive | None,
        About(
            "GiB that the cache is kept within, at start and end of a run: what was used longest ago goes, never what "
            "a running process may use; null = without end"
        ),
    ] = 100.0
    store_gib: Annotated[
        Positive | None,
        About(
            "GiB that `.segments` is kept within in the same way: what no experiment asks for goes, as by `gramlab "
            "clean`, written longest ago first; null = nothing goes by itself"
        ),
    ] = None
    workers: Annotated[
        Natural,
        Le(1024),
        About("processes that make batches; 0 = the training process itself. The batches are the same for any number"),
    ] = 0
    threads: Annotated[
        Annotated[Count, Le(1024)] | None,
        About(
            "CPU threads of torch; null = `OMP_NUM_THREADS` where it is set, else what the run had last, else "
            "the fewest that are near the best in a measurement at start. Sums over another number of threads may "
            "differ in the last bits"
        ),
    ] = None
    checkpoint_every: Annotated[
        Count,
        About(
            "steps between full training states, the two newest of which are kept; one is also written at every "
            "evaluation"
        ),
    ] = 100
    log_every: Annotated[Count, About("steps between rows of `metrics.jsonl`")] = 10
    draw: Annotated[Flag, About("plan.pdf and the report are drawn; without it `gramlab report` does it later")] = True
    accumulate: Annotated[
        Count,
        About(
            "parts of a batch that a process takes in turn, which saves memory; the step is that of the whole batch "
            "([distributed.md](distributed.md)), up to rounding"
        ),
    ] = 1
    recompute: Annotated[
        Flag,
        About(
            "the way back computes the inside of each block of a ViT anew instead of keeping it: far less "
            "memory for a third more operations, and the same bits"
        ),
    ] = False
    compile: Annotated[
        Flag,
        About(
            "the branches of a ViT's blocks are compiled by torch, which is for GPUs: on a CPU that takes minutes "
            "and the steps are slower; without a compiler they are run as they are, and that is said"
        ),
    ] = False
    shard: Annotated[Flag, About("each process of `torchrun` holds a part ([distributed.md](distributed.md))")] = False
    bad_steps: Annotated[
        Natural,
        About(
            "steps of a segment whose loss or gradient is not finite that are passed over without learning from their "
            "batches; one more ends the arm. 0 = the first does ([runs.md](runs.md#steps-that-are-not-finite))",
            "arXiv 1710.03740, §3.2; PaLM, arXiv 2204.02311, §5.1",
        ),
    ] = 3


@settings
class Experiment(LossSettings):
    """One question, its arms and seeds, and every setting that the arms start from."""

    name: Annotated[str, About("folder of the run below `runtime.folder`; empty = the file's name")] = ""
    question: Annotated[str, About("what the experiment asks, in one sentence")] = ""
    source: Annotated[str, About("paper and section")] = ""
    expected: Annotated[str, About("the result that would be no surprise")] = ""
    cost: Annotated[str, About("time and hardware, in words")] = ""
    seeds: Annotated[list[Whole], Predicate(one_or_more_different), About("every arm is trained once for each")] = (
        field(default_factory=lambda: [0])
    )
    steps: Annotated[
        Count, About("last step of each arm, those before its fork included; a larger number later continues the run")
    ] = 1000
    arms: Annotated[
        dict[Name, dict[str, Any]],
        About(
            "name → dotted overrides; `{}` keeps the settings as they are. `from` names the arm that it forks from, "
            "whose settings it begins with, or `trunk`, or null for step 0; `at` the step, its end by default; "
            "`inherit: teacher` begins with its EMA teacher alone ([phases.md](phases.md)); `steps: "
            "equal_compute` as many as cost what the baseline's cost; `grid: {gram.weight: [1, 2]}` stands for an arm "
            "for each value ([experiments.md](experiments.md)). On the command line `--arms a,b` or `arms=[a,b]` "
            "chooses among them, `arms={c: {}}` takes their place"
        ),
    ] = field(default_factory=dict)
    largest_grid: Annotated[Count, About("arms that one `grid` may make")] = 50
    baseline: Annotated[str | None, About("arm that the others are compared with; null = the first")] = None
    margins: Annotated[
        dict[str, NotNegative],
        About(
            "metric → how far an arm may fall behind the baseline and still be no worse, in the metric's own unit, "
            "0.01 for a point; what is left out has a default, 0 asks for none ([statistics.md](statistics.md))"
        ),
    ] = field(default_factory=dict)
    headline: Annotated[
        list[str],
        About(
            "what the report begins with, and draws its trade-off of: a dense measure, a global one, or both, as task "
            "and metric, such as `[depth.rmse, knn.top1]`; else the first of each kind that all arms have"
        ),
    ] = field(default_factory=list)
    device: Annotated[Device, About("where to train and evaluate; machinery; `auto` takes CUDA when there is one")] = (
        "auto"
    )
    precision: Annotated[
        Precision,
        About(
            "in which networks compute; science; `bfloat16` is autocast (weights, moments and losses stay in "
            "float32); features for the evaluations are computed in it too; `auto` is one of the two, chosen by what "
            "this machine is faster in, before identities are made; the plan says which and why"
        ),
    ] = "float32"
    trackers: Annotated[
        list[TrackerName],
        Predicate(all_different),
        About(
            "who is told of the run beside TensorBoard, as `[mlflow, wandb]`: extras of the same names; machinery "
            "([trackers.md](trackers.md))"
        ),
    ] = field(default_factory=list)
    trunk: Trunk = field(default_factory=Trunk)
    model: Model = field(default_factory=Model)
    teacher: Teacher = field(default_factory=Teacher)
    distillation: Distillation = field(default_factory=Distillation)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    crops: Crops = field(default_factory=Crops)
    data: Data = field(default_factory=Data)
    evals: Evals = field(default_factory=Evals)
    runtime: Runtime = field(default_factory=Runtime)
    launcher: Launcher = field(default_factory=Launcher)
    sweep: Sweep = field(default_factory=Sweep)

    @property
    def weights(self) -> str | None:
        """The file that step 0 starts from; those of a trunk are none for the student of another teacher."""
        return self.trunk.checkpoint if self.distillation.teacher is None else None

    def conflicts(self) -> Iterator[str]:
        """A Gram loss that never comes, nothing to learn from, arms of one folder, a baseline that is no arm."""
        if self.gram.weight > 0 and self.gram.first_step >= self.steps:
            yield f"gram.start_step={self.gram.first_step}: want below steps={self.steps}, where the run ends"
        renewals = (self.steps - self.gram.first_step) // (self.gram.update_every or self.steps)
        renewals = min(renewals, self.gram.max_renewals or renewals)
        if self.gram.weight > 0 and renewals > MOST_RENEWALS:
            yield f"gram.update_every={self.gram.update_every}: {renewals} renewals: want at most {MOST_RENEWALS}"
        on = [name for name, loss in LOSSES.items() if not loss.anchored and getattr(self, name).weight]
        if not on:
            weights = (f"{name}.weight" for name, loss in LOSSES.items() if not loss.anchored)
            yield f"{', '.join(weights)} are all 0: want one above 0, or nothing is left to learn from"
        crops = 2 * self.data.batch_size
        masked = int(crops * self.ibot.mask_probability) > 0
        if self.optimizer.freeze_backbone_steps and "dino" not in on and not ("ibot" in on and masked):
            yield (
                f"optimizer.freeze_backbone_steps={self.optimizer.freeze_backbone_steps}: want 0, or dino.weight, or "
                "ibot.weight with masked crops, above 0, for only their heads learn in these steps"
            )
        if on == ["ibot"] and not masked:
            yield (
                f"ibot.mask_probability={self.ibot.mask_probability}: want more, or another loss on: none of "
                f"{crops} crops would be masked"
            )
        if self.model.start_from is not None and self.weights is not None:
            yield (
                f"model.start_from={self.model.start_from}: want it or trunk.checkpoint={self.trunk.checkpoint}, for "
                "step 0 starts from one"
            )
        if self.gram.weight > 0 and self.gram.tokens == "masked" and not masked:
            yield f"gram.tokens=masked: want all, or more ibot.mask_probability: none of {crops} crops would be masked"
        yield from self._wrong_teacher()
        yield from graph.faults(self.arms, trunk=self.trunk.steps > 0)
        folders = {graph.TRUNK: "the trunk"}
        for arm in self.arms:
            other = folders.setdefault(unicodedata.normalize("NFC", arm).casefold(), arm)
            if other != arm:
                yield f"arms.{arm}: want another name: {other} has this folder where a disk takes A for a"
        yield from self._wrong_margins()
        if self.baseline is not None and self.baseline not in self.arms:
            yield f"baseline={self.baseline!r}: want one of the arms: {', '.join(self.arms) or 'none yet'}"

    @property
    def first_trained(self) -> int:
        """The first step after which the network has learnt something: 0 where training starts from given weights."""
        return 1 if self.weights is None and self.model.start_from is None else 0

    def _wrong_teacher(self) -> Iterator[str]:
        """A frozen teacher that is neither an arm nor a training state."""
        if self.distillation.teacher is not None and self.gram.weight > 0 and self.gram.tokens != "all":
            yield f"gram.tokens={self.gram.tokens}: want all, since a student of a frozen teacher is fed no masks"
        teacher, known = self.distillation.teacher, [*([graph.TRUNK] if self.trunk.steps else []), *self.arms]
        if teacher is None or teacher in known or teacher.endswith(".safetensors"):
            return
        said = f"distillation.teacher={teacher!r}: want one of {', '.join(known) or 'no arm yet'}, or a training state"
        if ":" in teacher or "/" in teacher:
            yield (
                f"{said}, since a backbone has no heads to learn from; let an arm train some on it "
                "(model.start_from, optimizer.freeze_backbone_steps) and name that arm"
            )
        else:
            yield f"{said} (….safetensors); {nearest(teacher, known, otherwise='null is its own EMA teacher')}"

    def _wrong_margins(self) -> Iterator[str]:
        """Margins of metrics that there are not, and of shares that were written in points."""
        for name, margin in self.margins.items():
            metric = METRICS.get(name.partition("@")[0])
            if metric is None:
                hint = nearest(name.lower(), METRICS, otherwise="gramlab eval --list shows what each is")
                yield f"margins.{name}={margin:g}: want one of {', '.join(METRICS)}; {hint}"
            elif metric.share and margin > WIDEST_MARGIN:
                yield f"margins.{name}={margin:g}: want a share of at most {WIDEST_MARGIN}; write 0.01 for a point"
