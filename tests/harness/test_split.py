"""However a step's batch is split over processes and over parts taken in turn, training comes to the same weights."""

from pathlib import Path

import pytest
import torch

from common.errors import BadInput
from common.ranks import Ranks
from evals.datasets.settings import Set
from harness import schedules
from harness.beginning import fresh_state
from harness.components import Tally
from harness.cut_state import cut
from harness.data.batches import Batches
from harness.data.pool import open_pool
from harness.gram_view import crops
from harness.settings import Experiment
from harness.shards import whole
from harness.split import refuse_split
from harness.step import train_step

CPU = torch.device("cpu")
STEPS = 20
ROOMS = {"few": Set(size=32, count=8), "more": Set(size=32, count=16, seed=1)}
WHOLE = {
    "data.batch_size": 8,
    "data.sources": ROOMS,
    "steps": STEPS,
    "model.drop_path": 0.3,
    "ibot.per": "masked_crop",
    "koleo.group": None,
    "gram.weight": 2.0,
    "gram.start_step": 2,
    "gram.update_every": 5,
    "gram.tokens": "unmasked",
    "optimizer.freeze_backbone_steps": 2,
}
PARTS = {**WHOLE, "steps": 8, "koleo.group": 2, "data.homogeneous_share": 0.5}
WATCHED = {"gram.weight": 2.0, "gram.teacher": "best_dense", "gram.measure": "dse", "gram.measure_every": 1}
WATCHED |= {"gram.ring": 2, "gram.measure_images": 8, "gram.start_step": 3}
ACROSS = {**WHOLE, "steps": 8, "gram.tokens": "masked", "gram.level": "batch"}
ACROSS |= {"gram.teacher": "ema", "gram.update_every": None}
# of four processes one alone has masked patches, and branches of blocks that no crop of another goes through
RARE = {**WHOLE, "steps": 4, "ibot.mask_probability": 0.1, "model.drop_path": 0.7, "gram.weight": 0.0}
KINDS = {
    "neighbours in the whole batch, a gram teacher of unmasked patches": WHOLE,
    "groups of two, batches of one component": PARTS,
    "masked patches of the whole batch": ACROSS,
}


def trained(settings: Experiment, ranks: Ranks, *, float64: bool = True):
    """Weights of student, teacher and Gram teacher after the steps of this process's share, and the last row."""
    torch.set_num_threads(1)
    state, pool = fresh_state(settings, 0, CPU), open_pool(settings.data)
    share = settings.data.batch_size // ranks.world
    batches = Batches(
        pool,
        data=settings.data,
        crops=settings.crops,
        ibot=settings.ibot,
        patch=8,
        seed=0,
        gram=crops(settings.gram, settings.crops, 8),
    )
    if float64:
        for network in (state.student, state.teacher):
            network.double()
    if settings.runtime.shard:
        state = cut(state if ranks.first else None, settings, CPU, ranks)
    rows = {}
    for step in range(settings.steps):
        batch = batches[step].parts(ranks.world)[ranks.rank] if ranks.world > 1 else batches[step]
        assert batch.globals.shape[1] == share
        if float64:
            wide = {
                name: one.double()
                for name in ("globals", "locals", "gram")
                if (one := getattr(batch, name)) is not None
            }
            batch = batch._replace(**wide)
        tally, now = Tally(pool, settings.data), schedules.at(settings, step, stop=settings.steps)
        terms = train_step(state, batch, now, settings, seed=0, tally=tally, ranks=ranks)
        tally.count(batch)
        rows = {name: float(value) for name, value in terms.items()} | tally.row()
    networks = {"student": state.student, "teacher": state.teacher, "gram": state.gram_teacher}
    tensors = {
        f"{name}.{key}": whole(tensor).clone()
        for name, network in networks.items()
        if network is not None
        for key, tensor in network.state_dict().items()
    }
    return tensors, rows


def one_of(ranks: Ranks, settings: list[Experiment], folder: Path, float64: bool):
    found = [trained(one, ranks, float64=float64) for one in settings]
    torch.save(found, folder / f"{ranks.rank}.pt")


@pytest.fixture
def trained_by(tmp_path, in_processes):
    """What `world` processes come to, by each of some settings, each with its share of every batch; all of them must
    come to the same."""

    def train(*settings, world, float64=True):
        in_processes(one_of, world, settings, tmp_path, float64)
        found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world)]
        for number, (first, rows) in enumerate(found[0]):
            for tensors, row in (one[number] for one in found[1:]):
                assert row == rows
                assert all(torch.equal(tensor, first[key]) for key, tensor in tensors.items())
        return found[0]

    return train


def assert_alike(one, other, *, within):
    (tensors, row), (others, theirs) = one, other
    assert tensors.keys() == others.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(others[key], tensor, rtol=0, atol=within, msg=lambda text, key=key: f"{key}: {text}")
    assert theirs == pytest.approx(row, rel=100 * within, abs=within)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "worlds"), [*zip(KINDS, [(2, 4), (2,), (2,)], strict=True)])
def test_two_and_four_processes_come_to_what_one_comes_to(tiny, change, trained_by, kind, worlds):
    settings = change(tiny, KINDS[kind])
    whole = trained(settings, Ranks())
    assert {"ibot", "koleo", "gram", "components/more/ibot"} <= whole[1].keys()
    shard = change(settings, {"runtime.shard": True})
    for world in worlds:
        for found in trained_by(settings, *([shard] if world == 2 else []), world=world):
            assert_alike(whole, found, within=1e-6)


@pytest.mark.slow
def test_parts_taken_in_turn_come_to_the_whole_batch_in_one_process_and_in_two(tiny, change, trained_by):
    settings = change(tiny, PARTS)
    whole = trained(settings, Ranks())
    assert_alike(whole, trained(change(settings, {"runtime.accumulate": 4}), Ranks()), within=1e-6)
    turns = change(settings, {"runtime.accumulate": 2})
    for found in trained_by(turns, change(turns, {"runtime.shard": True, "runtime.recompute": True}), world=2):
        assert_alike(whole, found, within=1e-6)


@pytest.mark.slow
def test_weights_that_one_process_alone_uses_are_trained_as_by_one(tiny, change, trained_by):
    settings = change(tiny, RARE)
    whole = trained(settings, Ranks())
    for found in trained_by(settings, change(settings, {"runtime.shard": True}), world=4):
        assert_alike(whole, found, within=1e-6)


@pytest.mark.slow
def test_in_float32_a_step_in_two_processes_is_that_of_one_up_to_rounding(tiny, change, trained_by):
    settings = change(tiny, {**WHOLE, "steps": 3})
    (found,) = trained_by(settings, world=2, float64=False)
    assert_alike(trained(settings, Ranks(), float64=False), found, within=1e-5)


@pytest.mark.parametrize(
    ("values", "world", "said"),
    [
        ({"data.batch_size": 6}, 4, "data.batch_size=6 over 4 processes: want a multiple of 4"),
        ({"runtime.accumulate": 3}, 2, "and runtime.accumulate=3: want a multiple of 6"),
        ({"runtime.accumulate": 2}, 1, "koleo.group=null: nearest neighbours lie in parts that are not there at once"),
        ({"runtime.accumulate": 2, "koleo.group": 3}, 1, "want a koleo.group that divides the 4 images of a part"),
        ({**PARTS, "runtime.accumulate": 2, "gram.level": "batch"}, 1, "want gram.level=image, or more processes"),
        (
            {**WATCHED, "runtime.shard": True},
            2,
            "runtime.shard=true with gram.measure=dse: features are watched by one",
        ),
        (
            {"runtime.shard": True, "runtime.compile": True},
            2,
            "runtime.shard=true with runtime.compile=true: blocks are",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(tiny, change, values, world, said):
    settings = change(tiny, {"data.batch_size": 8, **values})
    with pytest.raises(BadInput) as error:
        refuse_split(settings, world)
    assert said in str(error.value)
