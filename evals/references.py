"""Published results of released models: what `evals/references.yaml` may hold, and which model an address names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Predicate

from common import yaml_file
from common.bounds import About, Choices, Count, Label, Name, Natural, NotNegative, Pixels, Positive, Words
from common.errors import BadInput, nearest
from common.schema import filled, settings
from evals.backbones.identity import identity
from evals.features.view import Precision
from evals.results.metrics import METRICS

PUBLISHED = Path(__file__).with_name("references.yaml")


def is_hash(text: str) -> bool:
    """Whether it can be a protocol's hash."""
    return re.fullmatch("[0-9a-f]{8}", text) is not None


def is_protocol(text: str) -> bool:
    """Whether it is a protocol's name with its version."""
    return re.fullmatch(r"\w[\w.-]*-v\d+", text) is not None


def is_identity(text: str) -> bool:
    """Whether it can be what `evals.backbones.identity` says of weights, or the beginning of a digest."""
    return re.fullmatch(r"timm:\S+\.\S+|hf:[^/\s]+/[^/\s]+|sha256:[0-9a-f]{8,64}", text) is not None


Hash = Annotated[str, Predicate(is_hash), Words("eight hex digits")]
ProtocolId = Annotated[str, Predicate(is_protocol), Words("a protocol's name and version, such as knn-paper-v1")]
Identity = Annotated[
    str,
    Predicate(is_identity),
    Words("timm:ARCHITECTURE.TAG, hf:OWNER/NAME or sha256: and eight or more hex digits of an official file"),
]


@settings
class Model:
    """A released model: which weights are it, and what of it shows in any network that is claimed to be it."""

    title: Annotated[Label, About("what its makers call it")]
    weights: Annotated[Choices[Identity], About("where it is published")]
    patch: Annotated[Pixels, About("side of a patch in pixels")]
    millions: Annotated[Positive, About("of parameters, as published")]


@settings
class Ours:
    """What here does as was published: values compare where all of it agrees, within `tolerance`."""

    protocol: Annotated[ProtocolId, About("name and version")]
    hash: Annotated[Hash, About("of that protocol at this size and precision")]
    size: Annotated[Pixels, About("short side of the input in pixels")]
    precision: Annotated[Precision, About("in which the backbone computes")]
    dataset: Annotated[Name, About("name of the set")]
    split: Annotated[Name, About("part of the set that is judged")]
    train_images: Annotated[Count, About("that the head is fitted on, or that vote")]
    images: Annotated[Count, About("that are judged")]
    tolerance: Annotated[NotNegative, About("largest difference that counts as none, in the unit of the values")]
    because: Annotated[str, About("where the tolerance comes from")]


@settings
class Table:
    """One column of a published table: values of a metric by model, per cent for shares, and how they were made."""

    source: Annotated[str, About("document and table")]
    task: Annotated[Literal["knn", "linear", "logreg", "segmentation", "depth"], About("what was measured")]
    metric: Annotated[str, About("as result rows name it")]
    how: Annotated[str, About("as it was published, in words")]
    decimals: Annotated[Natural, About("of the values as they are printed")]
    values: Annotated[dict[Name, Positive], About("by the names of `models`")]
    ours: Annotated[Ours | None, About("what here does the same; null where nothing does")]

    def conflicts(self) -> Iterator[str]:
        """What a table says against itself."""
        metric = METRICS.get(self.metric.partition("@")[0])
        if metric is None:
            yield f"metric={self.metric}: want one of {', '.join(METRICS)}, as in top1@20"
        elif metric.share:
            for model, value in self.values.items():
                if value > 100:
                    yield f"values.{model}={value}: want per cent, at most 100"


@settings
class References:
    """The whole file."""

    models: Annotated[dict[Name, Model], About("released models by the names of their makers")]
    tables: Annotated[dict[Name, Table], About("published values")]

    def conflicts(self) -> Iterator[str]:
        """Values of models that are not there, and weights that would be two models."""
        for name, table in self.tables.items():
            for model in table.values.keys() - self.models.keys():
                hint = nearest(model, self.models, otherwise=f"known: {', '.join(self.models) or 'none'}")
                yield f"tables.{name}.values.{model}: want a name of `models`; {hint}"
        counted = Counter(weights for model in self.models.values() for weights in model.weights)
        for weights in (weights for weights, count in counted.items() if count > 1):
            yield f"models: got {weights} of two models: want it of one"

    def tables_of(self, model: str) -> list[Table]:
        """Those that hold a value of a model."""
        return [table for table in self.tables.values() if model in table.values]

    def named_by(self, address: str) -> str | None:
        """The model whose published weights an address names; None where it names nobody's that is known."""
        found = identity(address)
        for name, model in self.models.items():
            if found and any(found == one or (_is_digest(one) and found.startswith(one)) for one in model.weights):
                return name
        return None

    def refuse_unknown(self, name: str) -> None:
        """Raises `BadInput` for a name that no model has."""
        if name not in self.models:
            hint = nearest(name, self.models, otherwise="`gramlab eval --check` lists them")
            raise BadInput(
                f"got --check {name}: want the name of a reference, and --check behind all tasks, since a word that "
                f"follows it is taken for one; {hint}"
            )


def _is_digest(weights: str) -> bool:
    return weights.startswith("sha256:")


def read(path: Path) -> References:
    """The references of a file. Raises `BadInput` for one that is none, all that is wrong at once."""
    try:
        plain = yaml_file.read(path)
    except BadInput as error:
        raise BadInput(f"got unreadable references {error}; do mend the file") from error
    return filled(References, plain, where=str(path))
