"""Every setting of an experiment, typed: frozen dataclasses that Hydra fills and OmegaConf checks.

Science shapes the result and enters a run's hash; machinery (`device`, `runtime`, `evals`) does not. A setting
that is impossible by itself is refused here, when its class is filled; combinations are refused in
`Experiment.__post_init__`. Section numbers (§) are those of DINOv3, arXiv 2508.10104, unless another paper is named.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from common.errors import nearest
from common.limits import require
from evals.datasets.catalogue import KINDS
from harness.losses.table import LOSSES, LossSettings


class Device(Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Scaling(Enum):
    none = "none"
    sqrt_wrt_1024 = "sqrt_wrt_1024"
    linear_wrt_256 = "linear_wrt_256"


class Components(Enum):
    image_class = "image_class"
    source = "source"


class Role(Enum):
    teacher = "teacher"
    student = "student"


def _repeated(pairs: list[tuple[str, str]]) -> str:
    return next((f"{a} on {b}" for a, b in pairs if pairs.count((a, b)) > 1), "")


@dataclass(frozen=True)
class Model:
    """The backbone: a timm name of the DINOv3 family and the arguments it is created with."""

    name: str = "vit_small_patch16_dinov3_qkvb"
    args: dict[str, Any] = field(default_factory=dict)
    drop_path: float = 0.0
    rope_shift: float | None = None
    rope_jitter: float | None = None
    rope_rescale: float | None = None

    def __post_init__(self) -> None:
        require(0 <= self.drop_path < 1, f"model.drop_path={self.drop_path}: want a share in [0, 1)")
        for key in ("rope_jitter", "rope_rescale"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"model.{key}={value}: want a factor of at least 1, or null for none")


@dataclass(frozen=True)
class Optimizer:
    """AdamW with layer-wise decay; rates are constant after a linear warm-up, so a run can always be extended."""

    lr: float = 1e-3
    lr_scaling: Scaling = Scaling.none
    warmup_steps: int = 0
    weight_decay: float = 0.04
    beta1: float = 0.9
    beta2: float = 0.99
    layer_decay: float = 0.98
    patch_embed_lr: float = 0.2
    clip: float | None = 3.0
    freeze_last_layer_steps: int = 0

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optimizer.lr={self.lr}: want more than 0")
        require(self.warmup_steps >= 0, f"optimizer.warmup_steps={self.warmup_steps}: want 0 or more")
        require(self.weight_decay >= 0, f"optimizer.weight_decay={self.weight_decay}: want 0 or more")
        for key in ("beta1", "beta2"):
            value = getattr(self, key)
            require(0 <= value < 1, f"optimizer.{key}={value}: want a number in [0, 1)")
        require(0 < self.layer_decay <= 1, f"optimizer.layer_decay={self.layer_decay}: want a factor in (0, 1]")
        require(self.patch_embed_lr > 0, f"optimizer.patch_embed_lr={self.patch_embed_lr}: want a factor above 0")
        require(self.clip is None or self.clip > 0, f"optimizer.clip={self.clip}: want more than 0, or null for none")
        require(
            self.freeze_last_layer_steps >= 0,
            f"optimizer.freeze_last_layer_steps={self.freeze_last_layer_steps}: want 0 or more",
        )


@dataclass(frozen=True)
class Teacher:
    """The EMA teacher: momentum and the Sinkhorn temperature with its linear warm-up."""

    momentum: float = 0.994
    temperature: float = 0.07
    temperature_start: float = 0.04
    temperature_warmup_steps: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.momentum < 1, f"teacher.momentum={self.momentum}: want a number in [0, 1)")
        for key in ("temperature", "temperature_start"):
            require(getattr(self, key) > 0, f"teacher.{key}={getattr(self, key)}: want more than 0")
        require(
            self.temperature_warmup_steps >= 0,
            f"teacher.temperature_warmup_steps={self.temperature_warmup_steps}: want 0 or more",
        )


@dataclass(frozen=True)
class Crops:
    """Multi-crop augmentation (§8 of the recipe; the order crop, flip, colour, blur, solarise)."""

    global_size: int = 224
    local_size: int = 96
    local_count: int = 8
    global_scale_min: float = 0.32
    global_scale_max: float = 1.0
    local_scale_min: float = 0.05
    local_scale_max: float = 0.32
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.2
    blur_global_1: float = 1.0
    blur_global_2: float = 0.1
    blur_local: float = 0.5
    solarize_global_2: float = 0.2

    def __post_init__(self) -> None:
        for key in ("global_size", "local_size"):
            require(getattr(self, key) >= 5, f"crops.{key}={getattr(self, key)}: want at least 5 pixels, to blur")
        require(self.local_count >= 0, f"crops.local_count={self.local_count}: want 0 or more")
        for kind in ("global", "local"):
            low, high = (getattr(self, f"{kind}_scale_{end}") for end in ("min", "max"))
            require(
                0 < low <= high <= 1,
                f"crops.{kind}_scale_min={low}, crops.{kind}_scale_max={high}: want areas with 0 < min <= max <= 1",
            )
        chances = ("flip", "jitter", "grayscale", "blur_global_1", "blur_global_2", "blur_local", "solarize_global_2")
        for key in chances:
            value = getattr(self, key)
            require(0 <= value <= 1, f"crops.{key}={value}: want a probability in [0, 1]")
        for key in ("brightness", "contrast", "saturation"):
            require(getattr(self, key) >= 0, f"crops.{key}={getattr(self, key)}: want 0 or more")
        require(0 <= self.hue <= 0.5, f"crops.hue={self.hue}: want a share of the colour circle in [0, 0.5]")


@dataclass(frozen=True)
class Set:
    """One data set, of a kind in the catalogue's table `KINDS`: scenes are rendered, others are read from `root`."""

    kind: str = "scenes"
    root: str | None = None
    split: str = "train"
    name: str | None = None
    size: int | None = None
    count: int | None = None
    seed: int = 0
    classes: list[str] | None = None

    def __post_init__(self) -> None:
        hint = nearest(self.kind, KINDS, otherwise="correct it")
        require(self.kind in KINDS, f"kind={self.kind} of a data set: want one of {', '.join(KINDS)}; {hint}")
        rendered = KINDS[self.kind].rendered
        require(rendered or self.root is not None, f"root of a {self.kind} set is null: want its folder")
        for key in ("size", "count"):
            value = getattr(self, key)
            require(value is None or value >= 1, f"{key}={value} of a {self.kind} set: want at least 1, or null")


@dataclass(frozen=True)
class Data:
    """Training images: named sources, their components, and how batches of `batch_size` images are composed (§3.1)."""

    sources: dict[str, Set] = field(default_factory=dict)
    components: Components = Components.image_class
    homogeneous_share: float = 0.0
    batch_size: int = 64

    def __post_init__(self) -> None:
        share = self.homogeneous_share
        require(0 <= share <= 1, f"data.homogeneous_share={share}: want a share of batches in [0, 1]")
        require(self.batch_size >= 1, f"data.batch_size={self.batch_size}: want at least 1")


@dataclass(frozen=True)
class EvaluationTask:
    """An evaluation: a task or protocol, and two of `evals.sets`; what looks at test images alone needs one."""

    protocol: str = "knn"
    train: str = ""
    test: str = ""


@dataclass(frozen=True)
class Evals:
    every: int = 100
    size: int = 224
    batch_size: int = 64
    network: Role = Role.teacher
    sets: dict[str, Set] = field(default_factory=dict)
    tasks: dict[str, EvaluationTask] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.every >= 1, f"evals.every={self.every}: want at least 1 step")
        require(self.batch_size >= 1, f"evals.batch_size={self.batch_size}: want at least 1")
        known = [task for task in self.tasks.values() if task.test in self.sets]
        targets = [(task.protocol, self.sets[task.test].name or task.test) for task in known]
        require(
            len(set(targets)) == len(targets),
            f"evals.tasks: two tasks of one protocol on one set ({_repeated(targets)}): rows could not be told apart; "
            "give the test sets names of their own",
        )
        for name, task in self.tasks.items():
            for role in ("train", "test"):
                wanted = getattr(task, role)
                require(
                    wanted in self.sets or (role == "train" and not wanted),
                    f"evals.tasks.{name}.{role}={wanted!r}: want one of evals.sets: "
                    f"{', '.join(self.sets) or 'none yet'}",
                )


@dataclass(frozen=True)
class Trunk:
    """What all arms share: trained once per seed up to `steps`; arms fork from it with everything it has learnt.

    `overrides` (dotted keys) apply to the trunk alone. `checkpoint` starts step 0 from weights only
    (a `.safetensors` of student and teacher) instead of random ones.
    """

    steps: int = 0
    overrides: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"trunk.steps={self.steps}: want 0 or more")


@dataclass(frozen=True)
class Runtime:
    """Machinery: nothing here may change a result."""

    folder: str = "runs"
    cache: str = ".cache/gramlab"
    workers: int = 0
    threads: int | None = None
    checkpoint_every: int = 100
    log_every: int = 10

    def __post_init__(self) -> None:
        require(self.workers >= 0, f"runtime.workers={self.workers}: want 0 or more")
        for key in ("checkpoint_every", "log_every"):
            require(getattr(self, key) >= 1, f"runtime.{key}={getattr(self, key)}: want at least 1 step")
        require(self.threads is None or self.threads >= 1, f"runtime.threads={self.threads}: want at least 1, or null")


@dataclass(frozen=True)
class Experiment(LossSettings):
    """One question, its arms and seeds, and every setting that the arms start from."""

    name: str = ""
    question: str = ""
    source: str = ""
    expected: str = ""
    cost: str = ""
    seeds: list[int] = field(default_factory=lambda: [0])
    steps: int = 1000
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    baseline: str | None = None
    device: Device = Device.auto
    precision: Precision = Precision.float32
    trunk: Trunk = field(default_factory=Trunk)
    model: Model = field(default_factory=Model)
    teacher: Teacher = field(default_factory=Teacher)
    optimizer: Optimizer = field(default_factory=Optimizer)
    crops: Crops = field(default_factory=Crops)
    data: Data = field(default_factory=Data)
    evals: Evals = field(default_factory=Evals)
    runtime: Runtime = field(default_factory=Runtime)

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"steps={self.steps}: want at least 1")
        require(
            self.trunk.steps <= self.steps,
            f"trunk.steps={self.trunk.steps}: want at most steps={self.steps}, where the arms end",
        )
        if self.gram.weight > 0:
            require(
                self.gram.start_step < self.steps,
                f"gram.start_step={self.gram.start_step}: the run ends at steps={self.steps}; "
                "start earlier or train longer",
            )
        learnt_from = {name: getattr(self, name).weight for name, loss in LOSSES.items() if not loss.anchored}
        require(
            any(learnt_from.values()),
            f"{', '.join(f'{name}.weight' for name in learnt_from)} are all 0: nothing is left to learn from; "
            "switch one on",
        )
        crops = 2 * self.data.batch_size
        require(
            any(weight for name, weight in learnt_from.items() if name != "ibot")
            or int(crops * self.ibot.mask_probability) > 0,
            f"ibot.mask_probability={self.ibot.mask_probability}: none of {crops} crops would be masked, and no other "
            "loss is on; mask more or switch dino on",
        )
        require(len(self.seeds) > 0, "seeds=[]: want at least one, for example seeds=[0]")
        require(len(set(self.seeds)) == len(self.seeds), f"seeds={self.seeds}: want each seed once")
        require(
            self.baseline is None or self.baseline in self.arms,
            f"baseline={self.baseline!r}: want one of the arms: {', '.join(self.arms) or 'none yet'}",
        )
