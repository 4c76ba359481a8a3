"""The self-test of `--check`: values found here beside the published ones of the same model, where they compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import BadInput
from common.schema import assigned
from evals import references
from evals.backbones.backbone import Backbone
from evals.one_task import TaskSpec
from evals.protocols import reading
from evals.protocols.protocol import Protocol
from evals.references import Model, Ours, References, Table
from evals.request import PUBLISHED
from evals.results.metrics import metric_of, write_number
from evals.results.table import Measurement
from evals.tasks.methods import protocol_of

ROUNDING = 1e-9  # of floating point, in the unit of the values
ALIKE = 0.1  # by how much of the published number of parameters a network's may differ


@dataclass(frozen=True)
class Claim:
    """That an address holds the weights of a model: by the address itself, or because `only_user` says so."""

    name: str
    model: Model
    tables: tuple[Table, ...]
    only_user: bool

    def refuse_another(self, backbone: Backbone) -> None:
        """Raises `BadInput` for a network that cannot be the model."""
        model, millions = self.model, sum(x.numel() for x in backbone.model.parameters()) / 1e6
        if backbone.stride != model.patch or abs(millions - model.millions) > ALIKE * model.millions:
            raise BadInput(
                f"got {backbone.name} to be checked as {self.name}, with {millions:.3g} million parameters and patches "
                f"of {backbone.stride} px: want about {model.millions:g} million and {model.patch} px; do name another "
                "model"
            )


def recognise(name: str, address: str, place: Path) -> Claim:
    """The model of the references at `place` whose weights an address holds.

    Args:
        name: the model as the user gave it; "" leaves it to the address.

    Raises:
        BadInput: an unknown name, another than that of these weights, or none where the address tells nothing.
    """
    found = references.read(place)
    if name:
        found.refuse_unknown(name)
    told = found.named_by(address)
    if told and name not in ("", told):
        raise BadInput(f"got --check {name} for {address}, the weights of {told}: want that; do leave {name} out")
    if not (told or name):
        raise BadInput(
            f"got --check for {address}, which does not tell whose weights it holds: want a released model under its "
            "published name, as `gramlab eval --check` lists them; do write --check NAME if you know that it is NAME"
        )
    name = told or name
    return Claim(name, found.models[name], tuple(found.tables_of(name)), only_user=told is None)


@dataclass(frozen=True)
class Beside:
    """A published value, and the task of the command line, `word`, that measures the like.

    `unlike` says in words why the two do not compare; "" where they do.
    """

    word: str
    spec: TaskSpec
    table: Table
    published: float
    unlike: str

    @property
    def title(self) -> str:
        return f"{self.word}: {metric_of(self.table.metric).label}"


@dataclass(frozen=True)
class Check:
    """What a run is compared with."""

    claim: Claim
    values: tuple[Beside, ...]

    def plan(self) -> str:
        """What will be compared, a line for each published value."""
        return "\n".join(
            f"not comparable: {one.title}, {one.unlike}"
            if one.unlike
            else f"to be checked: {one.title}, published {_value(one.table, one.published)}"
            for one in self.values
        )

    def report(self, found: Sequence[Measurement]) -> tuple[str, int]:
        """The comparison for reading, and the exit code: 1 where a value differs, else 0."""
        told = [_told(one, found) for one in self.values]
        verdicts = [verdict for _, verdict in told]
        counts = [
            f"{word}: {verdicts.count(word)}" for word in ("agree", "differ", "not comparable") if word in verdicts
        ]
        whose = "only the command line says that these are its weights" if self.claim.only_user else "by its address"
        title = f"{self.claim.name}, {self.claim.model.title} ({whose}), beside what is published; {', '.join(counts)}"
        return "\n".join([title, *(text for text, _ in told)]), int("differ" in verdicts)


def begin(claim: Claim, sized: Sequence[Mapping[str, TaskSpec]]) -> Check:
    """What compares, settled before weights are loaded; `sized` are the tasks of each size.

    Raises:
        BadInput: nothing does.
    """
    asked = [(word, spec) for tasks in sized for word, spec in tasks.items()]
    values = tuple(
        Beside(word, spec, table, table.values[claim.name], _unlike(table.ours, spec))
        for word, spec in asked
        for table in claim.tables
        if table.task == spec.protocol.task
    )
    if all(one.unlike for one in values):
        why = {word: "no value is published" for word, _ in asked} | {one.word: one.unlike for one in values}
        raise BadInput(
            f"got no task whose value compares with one that is published of {claim.name} "
            f"({', '.join(f'{word}: {said}' for word, said in why.items())}): want one; do take a command that "
            f"`gramlab eval --check {claim.name}` lists"
        )
    return Check(claim, values)


def _unlike(ours: Ours | None, spec: TaskSpec) -> str:
    """In words, what of a task is not as it was for the published value."""
    used, test, train = spec.protocol, spec.test_set, spec.train_set
    if ours is None:
        return f"ours is {used.id}, and no protocol here does what was published"
    found = [_other_protocol(ours, used)]
    if (test.name, test.split) != (ours.dataset, ours.split):
        found.append(f"ours is on {test.name}/{test.split} instead of {ours.dataset}/{ours.split}")
    elif len(test) != ours.images:
        found.append(f"ours is on {len(test):,} images instead of {ours.images:,}")
    elif train is not None and len(train) != ours.train_images:
        found.append(f"ours has {len(train):,} training images instead of {ours.train_images:,}")
    return " and ".join(filter(None, found))


def _other_protocol(ours: Ours, used: Protocol) -> str:
    if used.id != ours.protocol:
        return f"ours is {used.id} instead of {ours.protocol}"
    if used.hash() == ours.hash:
        return ""
    given, wanted = asdict(used), {"size": ours.size, "precision": ours.precision}
    if used.name in reading.names():
        wanted = asdict(protocol_of(used.name)) | wanted
    changed = {key: given[key] for key, value in wanted.items() if given[key] != value}
    if not changed:
        return f"ours is {used.id} #{used.hash()} instead of #{ours.hash}"
    return f"ours has {assigned(changed)} instead of {assigned({key: wanted[key] for key in changed})}"


def _told(one: Beside, found: Sequence[Measurement]) -> tuple[str, str]:
    """One value in lines, and its verdict."""
    table, metric, used = one.table, metric_of(one.table.metric), one.spec.protocol
    published = f"  published  {_value(table, one.published)}: {table.how} ({table.source})"
    if one.unlike or table.ours is None:
        return f"\n{one.title}\n{published}\n  not comparable: {one.unlike}", "not comparable"
    value = next(m for m in found if m.metric == table.metric and _is_of(m, one.spec))
    number, low, high = (write_number(metric, x, like=value.value) for x in (value.value, value.low, value.high))
    ours = f"  ours       {number} [{low}, {high}]: {used.id} #{used.hash()}, 95 % interval over images"
    difference = value.value * (100 if metric.share else 1) - one.published
    agrees = abs(difference) <= table.ours.tolerance + ROUNDING
    apart = f"{difference:+.{table.decimals + 1}f}"
    verdict = f"agrees     {apart}" if agrees else f"differs by {apart}"
    tolerance = f"{'' if agrees else 'not '}within {table.ours.tolerance:g}: {table.ours.because}"
    return f"\n{one.title}\n{ours}\n{published}\n  {verdict}, {tolerance}", "agree" if agrees else "differ"


def _is_of(m: Measurement, spec: TaskSpec) -> bool:
    test = spec.test_set
    return (m.protocol_hash, m.dataset, m.split) == (spec.protocol.hash(), test.name, test.split)


def _value(table: Table, published: float) -> str:
    metric = metric_of(table.metric)
    return f"{published:.{table.decimals}f} {'%' if metric.share else metric.unit}".rstrip()


def listing(found: References, *, place: Path, only: str = "") -> str:
    """Every model with its published values and the command that checks each; `only` names one model."""
    if only:
        found.refuse_unknown(only)
    lines = ["Published values and the commands that check them. Whether weights and data are here was not looked at."]
    names = [only] if only else list(found.models)
    for name in names:
        model = found.models[name]
        lines += ["", f"{name}, {model.title}: {', '.join(model.weights)}"]
        for key, table in found.tables.items():
            lines += _listed(key, name, found, place) if name in table.values else []
    lines.append("")
    for key, table in found.tables.items():
        if table.values.keys() & set(names):
            tolerance = f". Tolerance: {table.ours.because}" if table.ours else ""
            lines.append(f"[{key}] {table.how}. {table.source}{tolerance}")
    return "\n".join(lines)


def _listed(key: str, name: str, found: References, place: Path) -> list[str]:
    table, model = found.tables[key], found.models[name]
    what = f"  {table.task}, {metric_of(table.metric).label}: {_value(table, table.values[name])}"
    if table.ours is None:
        return [f"{what} [{key}], which no protocol here does"]
    address = next((one for one in model.weights if not one.startswith("sha256:")), "ADDRESS")
    file = [] if place == references.PUBLISHED else [f"--references {place}"]
    words = ["gramlab eval", address, *_options(table.task, table.ours), *file, "--check"]
    return [f"{what} ± {table.ours.tolerance:g} [{key}]", f"    {' '.join(words)}"]


def _options(task: str, ours: Ours) -> list[str]:
    """What a command line says to evaluate as was published."""
    name = ours.protocol.rpartition("-v")[0]
    words = [f"{task}@{ours.dataset}", f"--data {ours.dataset}=FOLDER"]
    if name not in reading.names():
        return [*words, "--protocol FILE.yaml", f"--sizes {ours.size}", f"--precision {ours.precision}"]
    shipped, variant = protocol_of(name), name.removeprefix(f"{task}-")
    words.append(f"--protocol {PUBLISHED[0] if variant in PUBLISHED else variant}")
    words += [f"--sizes {ours.size}"] if ours.size != shipped.size else []
    return words + ([f"--precision {ours.precision}"] if ours.precision != shipped.precision else [])
