"""Settings of how a network is trained, its losses aside: backbone, optimizer, EMA teacher, schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge

from common.bounds import (
    About,
    Count,
    Flag,
    Natural,
    NotNegative,
    Place,
    Positive,
    Real,
    Share,
    ShareBelowOne,
    SomeShare,
    hints,
)
from common.schema import settings
from harness.model_arguments import Arguments, refused

Scaling = Literal["none", "sqrt_wrt_1024", "linear_wrt_256"]

Origin = Literal["run", "segment"]
Shape = Literal["cosine", "linear"]
RopePrecision = Literal["float32", "bfloat16"]

OFFICIAL = "official code"
DINOV3 = "vit_small_patch16_dinov3_qkvb"


@settings
class Model:
    """The backbone: a vision transformer of timm by its name, and the arguments it is created with."""

    name: Annotated[
        str | None,
        About(
            "a vision transformer of timm; which train is told in [models.md](models.md). null = the one of "
            f"`model.start_from`, else `{DINOV3}`",
            "DINOv3 §3.2",
        ),
    ] = None
    args: Annotated[
        dict[str, Any],
        About(
            "what the backbone is made with; such as `{patch_size: 8, embed_dim: 96, depth: 4, num_heads: 3}`; of "
            f"{', '.join(hints(Arguments))}. An arm that names another `model.name` begins with none"
        ),
    ] = field(default_factory=dict)
    start_from: Annotated[
        Place | None,
        About(
            "released weights that student and teacher begin with, heads aside: `timm:NAME`, `dinov2:FILE`, "
            "`dinov3:FILE`, `hf:FOLDER` or `hf:NAME`, or a folder that training exported; their content enters the "
            "hash. null = random weights"
        ),
    ] = None
    drop_path: Annotated[
        ShareBelowOne,
        About(
            "share of the crops that each residual branch skips, the same in all blocks; student only",
            "official code (0.4 for 7B)",
        ),
    ] = 0.0
    untie_local_cls_norm: Annotated[
        Flag,
        About(
            "class tokens of local crops go through a final norm of their own in training; EMA teacher and evaluations "
            "have the common one alone",
            "DINOv3 (true for 7B)",
        ),
    ] = False
    rope_precision: Annotated[
        RopePrecision,
        About(
            "in which the angles of RoPE are computed in training, by student, EMA teacher and Gram teacher; "
            "evaluations always take float32; `bfloat16` rounds angles and places of patches to 8 bits",
            "official code (`float32` in its configuration, `bfloat16` as it runs)",
        ),
    ] = "float32"
    rope_shift: Annotated[
        NotNegative | None,
        About("patch coordinates are shifted by U(−s, s) on each axis; null = off", "official code (off for 7B)"),
    ] = None
    rope_jitter: Annotated[
        Annotated[Real, Ge(1)] | None,
        About("each axis is scaled by exp U(−ln j, ln j); null = off", "official code (off for 7B)"),
    ] = None
    rope_rescale: Annotated[
        Annotated[Real, Ge(1)] | None,
        About("both axes are scaled by one exp U(−ln r, ln r); null = off", "DINOv3 §3.2 (2.0)"),
    ] = None

    def conflicts(self) -> Iterator[str]:
        """Arguments that there are not, or that timm would take for something else."""
        yield from (f"args.{line}" for line in refused(self.args))


@settings
class Optimizer:
    """AdamW with layer-wise decay; the rate rises in a line, then is constant or goes to `lr_end` (see `Schedule`)."""

    lr: Annotated[
        Positive, About("rate after the warm-up, before scaling and the factors below", "DINOv3 §3.2: constant")
    ] = 1e-3
    lr_start: Annotated[
        NotNegative, About("rate in the first step of the warm-up; not scaled with the batch", OFFICIAL)
    ] = 0.0
    lr_end: Annotated[
        NotNegative | None,
        About(
            "rate to which it goes after the warm-up, scaled as `optimizer.lr`; null = none, it is constant",
            "DINOv3 §3.2: constant; official code (1e-6 for ImageNet ViT-L)",
        ),
    ] = None
    lr_scaling: Annotated[
        Scaling,
        About(
            "how the batch size scales the rate; `sqrt_wrt_1024`: × 4 · √(batch / 1024); `linear_wrt_256`: "
            "× batch / 256",
            "official code (`sqrt_wrt_1024`)",
        ),
    ] = "none"
    warmup_steps: Annotated[
        Natural, About("steps of the straight line from `optimizer.lr_start` to the rate", "DINOv3 §3.2 (100 k)")
    ] = 0
    weight_decay: Annotated[NotNegative, About("AdamW's; not of biases, norms and LayerScale", "DINOv3 §3.2")] = 0.04
    decay_tokens: Annotated[
        Flag,
        About(
            "class token, registers and mask token are decayed too",
            "official code (true, though a comment there says that they are not)",
        ),
    ] = True
    weight_decay_end: Annotated[
        NotNegative | None,
        About(
            "weight decay to which it goes from the first step on; null = none, it is constant",
            "DINOv3 §3.2: constant; official code (0.4 for ImageNet ViT-L)",
        ),
    ] = None
    beta1: Annotated[ShareBelowOne, About("AdamW's decay of the first moment", OFFICIAL)] = 0.9
    beta2: Annotated[ShareBelowOne, About("AdamW's decay of the second moment", OFFICIAL)] = 0.99
    layer_decay: Annotated[
        SomeShare,
        About(
            "rate factor γ from one block to the one before it; block i of L has γ^(L − i), patch embedding and "
            "tokens γ^(L + 1), heads 1",
            "official code (0.98 for 7B)",
        ),
    ] = 0.98
    patch_embed_lr: Annotated[Positive, About("further rate factor of the patch embedding", OFFICIAL)] = 0.2
    backbone_lr: Annotated[
        Positive, About("further rate factor of the backbone and mask token; heads have 1", "Gramlab")
    ] = 1.0
    freeze_backbone_steps: Annotated[
        Natural,
        About(
            "steps during which backbone, mask token and their EMA stay as they are, and the heads alone learn; for "
            "`model.start_from`",
            "Gramlab",
        ),
    ] = 0
    clip: Annotated[
        Positive | None,
        About(
            "largest gradient norm of each of backbone, DINO head and iBOT head; null = no clipping",
            "official code (3; 30 for 7B)",
        ),
    ] = 3.0
    freeze_last_layer_steps: Annotated[
        Natural, About("steps during which the prototypes have rate 0", "official code (5 k for 7B)")
    ] = 0

    def conflicts(self) -> Iterator[str]:
        """A cool-down that heats."""
        if self.lr_end is not None and self.lr_end > self.lr:
            yield f"lr_end={self.lr_end}: want at most lr={self.lr}, or null for a constant rate"


@settings
class Teacher:
    """The EMA teacher: momentum, and the Sinkhorn temperature with its linear warm-up."""

    momentum: Annotated[
        ShareBelowOne,
        About(
            "EMA: teacher ← m · teacher + (1 − m) · student after each step, heads included",
            "DINOv3 §3.2 says 0.999, official code 0.994",
        ),
    ] = 0.994
    momentum_end: Annotated[
        Share | None,
        About(
            "momentum to which it goes from the first step on; null = none, it is constant",
            "DINOv3 §3.2: constant; official code (0.992 to 1 for ImageNet ViT-L)",
        ),
    ] = None
    temperature: Annotated[Positive, About("Sinkhorn temperature of both heads after the warm-up", OFFICIAL)] = 0.07
    temperature_start: Annotated[Positive, About("Sinkhorn temperature in the first step", OFFICIAL)] = 0.04
    temperature_warmup_steps: Annotated[
        Natural,
        About(
            "steps from the one straight to the other; 0 = `teacher.temperature` from the first step",
            "official code (100 k)",
        ),
    ] = 0


@settings
class Distillation:
    """A frozen teacher, most often a larger one, whose answers the student learns in place of its own EMA's."""

    teacher: Annotated[
        Place | None,
        About(
            "whose backbone and heads the student learns from: another arm or `trunk`, its EMA teacher at its last "
            "step, or a training state (`….safetensors`) of another run; no masks are fed to the student "
            "([distillation.md](distillation.md)). null = the student's own EMA",
            "DINOv3 §5.2",
        ),
    ] = None


@settings
class Schedule:
    """What the warm-ups and ends of `Optimizer` and `Teacher` count from, and how and when the ends are reached."""

    counts_from: Annotated[
        Origin,
        About(
            "what warm-ups, the frozen last layer and the way to an end count from; `run`: step 0 of the whole run, so "
            "that an arm goes on where its trunk was, or the fork of the last arm on the way with `inherit: teacher`; "
            "`segment`: its own fork, so that it begins them anew",
            "official code: `run` in refinement, `segment` in high-resolution adaptation",
        ),
    ] = "run"
    shape: Annotated[
        Shape, About("of the way to `optimizer.lr_end`, `optimizer.weight_decay_end`, `teacher.momentum_end`", OFFICIAL)
    ] = "cosine"
    end_step: Annotated[
        Count | None,
        About(
            "step at which these ends are reached, which hold from there on; may lie beyond `steps`. null = the last "
            "one of the trunk or the arm: it then enters the hash, and the run cannot be extended",
            OFFICIAL,
        ),
    ] = None
