"""A state of which every process of a step holds a part (`runtime.shard`), and how it comes from a whole one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from common.disk import checksum, whole
from common.errors import BadInput
from common.ranks import Ranks
from evals.backbones import state_folder, states
from evals.backbones.digest import sealed
from evals.backbones.state_header import Header
from harness.backbones.convnext import Encoder, blocks
from harness.checkpoint import (
    MOMENTS,
    about,
    readable,
    refuse_other_settings,
    refuse_other_tensors,
    tensors_of,
    unreadable,
)
from harness.dense_watch import Seen
from harness.model import Network
from harness.optimizer import build_optimizer
from harness.settings import Experiment
from harness.shards import fill, made
from harness.state import State, cut_backbone

TYPED = "student.mask_token"  # every state has it, and its type is that of the networks


@dataclass(frozen=True)
class Form:
    """What a state has, without its tensors.

    moments: the names of the parameters for which the optimizer has some.
    anchor: the Gram teacher on the meta device, or True for one of the student's kind; False where there is none.
    """

    step: int
    values: Mapping[int, float]
    dtype: torch.dtype
    moments: frozenset[str]
    anchor: Encoder | bool


def form_of(state: State) -> Form:
    """The form of a whole state."""
    moments = frozenset(
        name
        for group in state.optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if state.optimizer.state.get(parameter)
    )
    anchor = False if state.gram_teacher is None else skeleton(state.gram_teacher)
    return Form(state.step, dict(state.seen.values), next(state.student.parameters()).dtype, moments, anchor)


def skeleton(network: Encoder) -> Encoder:
    """A copy of a network on the meta device."""
    held = {id(one): one.detach().to("meta") for one in network.buffers()}
    held |= {id(one): nn.Parameter(one.detach().to("meta"), requires_grad=False) for one in network.parameters()}
    return deepcopy(network, held)


def empty(form: Form, settings: Experiment, device: torch.device) -> State:
    """A cut state of this form, to be filled; by all processes at once."""

    def network() -> Network:
        return Network(settings).to(form.dtype)

    student, teacher = (made(network, lambda one: blocks(one.backbone), device, trained=one) for one in (True, False))
    optimizer = build_optimizer(student, settings.optimizer)
    for name, parameter in student.named_parameters():
        if name in form.moments:
            one = {moment: torch.zeros_like(parameter) for moment in MOMENTS if moment != "step"}
            optimizer.state[parameter] = {**one, "step": torch.zeros((), device=device)}
    state = State(form.step, student, teacher, optimizer, seen=Seen(dict(form.values)), shared=form.step)
    if form.anchor is True:
        state.gram_teacher = cut_backbone(settings, like=teacher)
    elif form.anchor:
        anchor = form.anchor
        state.gram_teacher = made(lambda: anchor, blocks, device, trained=False)
    return state


def cut(state: State | None, settings: Experiment, device: torch.device, ranks: Ranks) -> State:
    """The state of the first process, cut over all of them; it alone has one."""
    form = ranks.agreed(None if state is None else form_of(state))
    assert form is not None, "the first process has a state"
    found = empty(form, settings, device)
    fill(tensors_of(found), None if state is None else tensors_of(state), ranks)
    return found


# --- on the disk


def save(state: State, path: Path, *, identity: str, ranks: Ranks) -> None:
    """Write a cut state as a folder of that name, whole or not at all, by all processes at once.

    Each writes its own parts, and the SHA-256 of what it wrote stands in the folder's header. Raises `Unwritable` in
    the first process; the others leave it to tell.
    """
    with whole(path) if ranks.first else nullcontext() as new:
        if new is not None:
            new.mkdir()
        place = ranks.agreed(new)
        assert place is not None, "the first process has made it"
        digests, faults = dict[str, str](), list[OSError]()
        try:
            _write(state, place)
            own = place.glob(f"shard-{ranks.rank + 1:05d}-*{state_folder.SUFFIX}")  # as the writer names them
            digests = {path.name: checksum(path) for path in own}
        except OSError as error:
            faults.append(error)
        told = ranks.gathered((digests, faults))
        if new is None:
            return
        for _, found in told:
            if found:
                raise found[0]
        files = {name: digest for own, _ in told for name, digest in own.items()}
        if lost := [name for name in sorted(files) if not (new / name).is_file()]:
            raise BadInput(
                f"got no {lost[0]} in {path.parent}, where another process has written it: want a folder that all of "
                "them share; name one by runtime.folder"
            )
        header = sealed({**about(state, identity), state_folder.FILES: files}, {})
        (new / state_folder.HEADER).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")


def _write(state: State, folder: Path) -> None:
    """Write this process's parts. Raises OSError where one of them could not be written by any process."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    tensors = {name: tensor.detach() for name, tensor in tensors_of(state).items()}
    try:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        raise next((one for one in causes if isinstance(one, OSError)), causes[0]) from error


def load(
    path: Path, settings: Experiment, device: torch.device, ranks: Ranks, *, identity: str, anchor: Encoder | None
) -> State:
    """A cut state from a folder, by all processes at once: each checks some of the files, and reads its own parts.

    anchor: the Gram teacher on the meta device where the job is given one; None where one is of the student's kind.
    Raises `BadInput` as `harness.checkpoint.load_state`, in all processes.
    """
    header, files, forms = ranks.told(lambda: _opened(path, identity))
    names = sorted(files)
    ranks.made(lambda: _check(path, files, [names[one] for one in ranks.own(len(names))]))
    first = "optimizer.step."
    moments = frozenset(name.removeprefix(first) for name in forms if name.startswith(first))
    form = Form(header.step, header.values, forms[TYPED].dtype, moments, header.anchor and (anchor or True))
    state = empty(form, settings, device)
    tensors = tensors_of(state)
    refuse_other_tensors(tensors, forms, str(path))
    try:
        state_folder.fill(path, tensors, together=True)
    except BadInput as error:  # not that another process has ended
        raise unreadable(path, error) from error
    return state


def _opened(path: Path, identity: str) -> tuple[Header, dict[str, str], dict[str, Tensor]]:
    """The header of a folder, the SHA-256 of its files, and its tensors on the meta device."""
    with readable(path):
        said = state_folder.header_of(path)
        forms = state_folder.forms_of(path)
        header = states.header_of(path, said, forms)
        if TYPED not in forms or not forms[TYPED].is_floating_point():
            raise BadInput(f"got no {TYPED} of floating point")
    refuse_other_settings(header, path, identity)
    return header, said[state_folder.FILES], forms


def _check(path: Path, files: Mapping[str, str], names: Sequence[str]) -> None:
    with readable(path):
        state_folder.refuse_changed_files(path, files, names)
