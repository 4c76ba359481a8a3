"""The page of the recipe's disagreements, docs/recipe.md: what paper, code and we take, from `experiments/recipe/`.

The values are those of the presets' files; topics, sources and reasons are said here. It is written with the pages of
settings, by `python harness/settings_pages.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from common import yaml_file
from harness.layers import EXPERIMENTS, flatten

PRESETS = ("paper", "code", "ours")
PAGE = """\
# The recipe: paper, code, ours

Written by `python harness/settings_pages.py`: values come from `experiments/recipe/`, words from
`harness/recipe_page.py`.

DINOv3's paper (arXiv 2508.10104) and its published code disagree in places, and so does the code with what it declares.
Each such place is a setting here, and three presets choose all of them at once: `recipe=paper`, `recipe=code` and
`recipe=ours`, which is what an experiment has without a preset.

```yaml
defaults:
  - recipe: ours
  - model: vits
  - data: scenes
  - _self_
question: Does it matter which of the two one follows?
steps: 20_000
arms: {plain: {}}
```

`gramlab run mine.yaml recipe=paper` swaps the preset. `gramlab run mine.yaml +recipe=paper` lays it over a file that
lists none, or that has another choice of this group: `experiments/recipe/nano.yaml`, what works for small images on a
CPU, keeps its sizes then. The command line comes last (`+recipe=paper ibot.head.hidden=256`). One row alone is an arm:
`arms: {ours: {}, first: {koleo.crops: first}}`. A preset says how, not how large: what stands after it in `defaults`
wins.

TABLE

Where the paper says nothing, as on RoPE's precision, its preset takes what the published configuration asks for.

**`gram.form: frobenius`** is the squared norm that the paper writes, a sum over P² pairs of the P patches of a crop.
What is known of weights is about the mean: 2 there is 2 / P² here, 3.1e-5 for 256 patches. The plan notes a weight that
was likely meant for the mean. With one size of crops both train alike; with several, the sum weighs large crops more.

## What no preset decides

The other places where the two disagree: how long to train and how to judge is an experiment's to say, and what is an
error has no switch.

OTHERS

## Other switches of the code

Off in the code's 7B configuration, or the same in paper and code, and so in no preset:

- one colour jitter for all crops of an image (`crops.share_color_jitter`), local crops cut out of the global ones
  (`crops.locals_within_globals`), shapes of boxes (`crops.aspect_min`, `crops.aspect_max`);
- masks moved around the edges (`ibot.mask_shift`), what the iBOT loss is divided by (`ibot.per`);
- which patches the Gram loss sees, by crop or by batch (`gram.tokens`, `gram.level`, `gram.negatives`), and the
  student's crops cut at the Gram crops' size (`gram.student_from_gram_crop`);
- biases of keys, masked in DINOv3's models, which `model.args.attn_type: rope` trains ([models.md](models.md));
- layer decay, the rate of the patch embedding, clipping and frozen prototypes (`optimizer.layer_decay`,
  `optimizer.patch_embed_lr`, `optimizer.clip`, `optimizer.freeze_last_layer_steps`);
- schedules that are constant after a warm-up, and cosines with an end: [schedules.md](schedules.md) has both families.
"""


class Row(NamedTuple):
    """One disagreement: the settings that decide it, who says what, and why we take what we take."""

    topic: str
    keys: tuple[str, ...]
    source: str
    why: str


ROWS = (
    Row(
        "EMA of the teacher, first phase",
        ("teacher.momentum",),
        "§3.2; code, configuration of the first phase",
        "what the published models were made with; a shorter memory (167 steps against 1000) also fits shorter runs. "
        "From the Gram phase on both say 0.999",
    ),
    Row(
        "form of the Gram loss",
        ("gram.form",),
        "§4.2; code",
        "the mean does not change with the number of patches, so that one weight serves every size of crops",
    ),
    Row(
        "width of the iBOT head",
        ("ibot.head.hidden",),
        "Table 2; code",
        "the code's default, equal to that of the DINO head; both columns are of the 7B model",
    ),
    Row(
        "crops that KoLeo spreads",
        ("koleo.crops",),
        "§3.2; code",
        "twice the tokens at no cost, and no view is treated otherwise than the other",
    ),
    Row(
        "images among which KoLeo looks for neighbours",
        ("koleo.group",),
        "§3.2; code: the batch of one GPU",
        "neighbours are sought in the whole batch, however it is split; 16 trains as both columns do",
    ),
    Row(
        "blur of global 1, global 2, local",
        ("crops.blur_global_1", "crops.blur_global_2", "crops.blur_local"),
        "declared in the code; as it runs",
        "what was meant; the code applies the complement by mistake, and the published models were trained with that",
    ),
    Row(
        "horizontal flips",
        ("crops.flip",),
        "code, 7B (its default is 0.5)",
        "usual for data sets as small as those that one GPU gets through; the 7B model had 1.7 billion images",
    ),
    Row(
        "share of homogeneous batches, of one data set or one class",
        ("data.homogeneous_share", "data.components"),
        "§3.1; not in the public code",
        "needs a component that is worth it (`data.homogeneous`; ImageNet-1k in the paper): an axis of "
        "`experiments/batching_mix.yaml`, of classes, since it has one source",
    ),
    Row(
        "precision of RoPE",
        ("model.rope_precision",),
        "code: float32 in its configuration, bfloat16 as it trains",
        "bfloat16 rounds angles, and places by up to 5 % of a patch (28 × 28; not at all at 16 × 16); evaluations take "
        "float32 in any case",
    ),
    Row(
        "a norm for class tokens of local crops",
        ("model.untie_local_cls_norm",),
        "paper and code, 7B",
        "one norm for all tokens is what evaluations see; the paper's gain (kNN 0.2, ADE20k 1 point) is of the 7B "
        "model: try it as an arm",
    ),
    Row(
        "weight decay of class token, registers, mask token",
        ("optimizer.decay_tokens",),
        "a comment in the code says no; it does",
        "what the published models were made with",
    ),
)


OTHERS = (  # topic, paper, code, what is here
    ("length of high-resolution adaptation", "10 k steps", "30 epochs of 1000 steps", "the `steps` of an arm"),
    (
        "linear probe",
        "class token; rates up to 5, a search for weight decay",
        "class token and mean patch; rates up to 0.1, no weight decay",
        "two protocols, `linear-paper` and `linear-code` ([protocols.md](protocols.md))",
    ),
    (
        "gradients of several processes",
        "–",
        "summed when it was released, averaged since",
        "averaged; losses are means over the whole batch",
    ),
    (
        "Gram teacher from a step of the same run",
        "an option",
        "refused by a check, unless a checkpoint is given too",
        "`gram.teacher: snapshot` with `gram.teacher_step`",
    ),
    ("ImageNet quick start", "–", "its README named the path of another data set", "each experiment states its data"),
)


def page() -> str:
    """The page."""
    others = _table(("topic", "paper", "code", "here"), OTHERS)
    return PAGE.replace("TABLE\n", _presets_table()).replace("OTHERS\n", others)


def presets() -> dict[str, dict[str, Any]]:
    """Dotted settings of each preset."""
    return {name: flatten(yaml_file.read(EXPERIMENTS / "recipe" / f"{name}.yaml")) for name in PRESETS}


def _presets_table() -> str:
    values = presets()
    rows = []
    for row in ROWS:
        keys = ", ".join(f"`{key}`" for key in row.keys)
        columns = (", ".join(f"`{_written(values[name][key])}`" for key in row.keys) for name in PRESETS)
        rows.append((row.topic, keys, *columns, row.source, row.why))
    return _table(("topic", "setting", *PRESETS, "who says so", "why ours"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, *rows)).replace("\n", f"\n|{'---|' * len(head)}\n", 1)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
