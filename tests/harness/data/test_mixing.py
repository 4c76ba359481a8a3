"""Batch composition: shares, sizes, and what it depends on."""

import numpy as np
import pytest
from PIL import Image

from common import draws
from common.errors import BadInput
from evals.datasets.layouts.image_folder import ImageFolder
from harness.data.mixing import Mixture, Part, mixture
from harness.data.pool import Pool
from harness.data_settings import Data

COMPONENTS = {"big": np.arange(60), "middle": np.arange(60, 90), "small": np.arange(90, 100)}


def composed(step, *, seed=0, share=0.3, batch=16):
    alone = {name: Part(members, len(members)) for name, members in COMPONENTS.items()}
    return Mixture(alone, {"": Part(np.arange(100), 1.0)}, share, batch).compose(seed, step)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_realised_share_of_homogeneous_batches_is_the_one_asked_for(share):
    realised = np.mean([composed(step, share=share).component is not None for step in range(2000)])
    assert realised == pytest.approx(share, abs=0.03)


def test_components_come_in_proportion_to_their_sizes():
    drawn = [composed(step, share=1.0).component for step in range(3000)]
    for name, members in COMPONENTS.items():
        assert drawn.count(name) / 3000 == pytest.approx(len(members) / 100, abs=0.03)


def test_a_homogeneous_batch_stays_in_its_component():
    for step in range(100):
        indices, component = composed(step, share=1.0)
        assert np.isin(indices, COMPONENTS[component]).all()


def test_images_are_drawn_without_replacement_where_there_are_enough():
    for step in range(200):
        indices, component = composed(step)
        assert len(indices) == 16
        if component != "small":
            assert len(set(indices.tolist())) == 16


def test_a_component_smaller_than_the_batch_fills_it_with_repeats():
    smalls = [c for c in (composed(step, share=1.0) for step in range(200)) if c.component == "small"]
    assert smalls
    assert all(len(c.indices) == 16 for c in smalls)


def test_a_pool_smaller_than_the_batch_fills_it_with_repeats():
    assert len(composed(0, share=0.0, batch=250).indices) == 250


def test_every_image_of_the_pool_comes_about_as_often():
    counts = np.bincount(np.concatenate([composed(step, share=0.0).indices for step in range(2000)]), minlength=100)
    assert counts.min() > 0.7 * counts.mean()
    assert counts.max() < 1.3 * counts.mean()


def test_a_composition_is_a_function_of_seed_and_step():
    later = composed(7)
    for step in range(7):
        composed(step)
    again = composed(7)
    assert np.array_equal(later.indices, again.indices)
    assert later.component == again.component
    assert not np.array_equal(composed(8).indices, later.indices)
    assert not np.array_equal(composed(7, seed=1).indices, later.indices)


def test_steps_that_two_shares_both_mix_have_the_same_images():
    for step in range(50):
        some, none = composed(step, share=0.4), composed(step, share=0.0)
        if some.component is None:
            assert np.array_equal(some.indices, none.indices)


# --- as the settings name it


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Sources of 30 photos in three classes, of 20 rooms without classes, and of 10 streets in one class."""
    root = tmp_path_factory.mktemp("images")
    held = {"photos/cat": 18, "photos/dog": 9, "photos/owl": 3, "rooms/room": 20, "streets/street": 10}
    for place, count in held.items():
        for number in range(count):
            path = root / place.replace("/", "/train/") / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
    sources = {name: ImageFolder(root / name) for name in ("photos", "streets")}
    return Pool({"photos": sources["photos"], "rooms": ImageFolder(root / "rooms", classes=[]), **sources})


def found(pool, *, share=0.3, batch=16, **names):
    return mixture(pool, Data(batch_size=batch, homogeneous_share=share, **names))


def test_without_names_batches_are_those_of_all_components_by_size(pool):
    """The draws as they were before components could be named, written out."""
    sizes = np.cumsum([len(members) for members in pool.components.values()])
    for step in range(60):
        indices, component = found(pool, share=0.5).compose(3, step)
        if component is None:
            want = draws.philox(3, step, "mixing/pool").choice(60, 16, replace=False)
        else:
            place = draws.uniforms(3, step, "mixing/component", 1)[0] * 60
            assert component == list(pool.components)[int(np.searchsorted(sizes, place, side="right"))]
            members = pool.components[component]
            taken = draws.philox(3, step, "mixing/members").choice(len(members), 16, replace=len(members) < 16)
            want = members[taken]
        assert np.array_equal(indices, want)


def test_only_named_components_are_homogeneous_as_often_as_their_weights_say(pool):
    asked = found(pool, share=1.0, homogeneous={"rooms": 3.0, "photos/owl": 1.0})
    drawn = [asked.compose(0, step) for step in range(2000)]
    names = [one.component for one in drawn]
    assert names.count("rooms") / 2000 == pytest.approx(0.75, abs=0.03)
    assert names.count("photos/owl") / 2000 == pytest.approx(0.25, abs=0.03)
    for one in drawn[:100]:
        assert np.isin(one.indices, pool.components[one.component]).all()


@pytest.mark.parametrize("components", ["image_class", "source"])
def test_a_source_is_a_component_as_a_whole_whatever_else_is_one(pool, components):
    again = Pool(pool.sources, components)
    (indices, name), *_ = [found(again, share=1.0, batch=30, homogeneous={"photos": 1.0}).compose(0, 0)]
    assert name == "photos"
    assert sorted(indices.tolist()) == list(range(30))


def test_mixed_batches_hold_sources_in_proportion_to_their_weights(pool):
    asked = found(pool, share=0.0, mixed={"rooms": 1.0, "streets": 3.0})
    indices = np.concatenate([asked.compose(0, step).indices for step in range(500)])
    counts = {name: np.isin(indices, members).mean() for name, members in pool.whole_sources.items()}
    assert counts["photos"] == 0
    assert counts["streets"] == pytest.approx(0.75, abs=0.02)
    every = np.bincount(indices, minlength=60)
    assert every[30:50].min() > 0.7 * every[30:50].mean()
    assert every[50:].min() > 0.7 * every[50:].mean()


def test_a_mixed_batch_holds_no_image_twice_while_its_parts_suffice(pool):
    for step in range(100):
        indices = found(pool, share=0.0, batch=8, mixed={"rooms": 1.0, "streets": 1.0}).compose(0, step).indices
        assert len(set(indices.tolist())) == 8


def test_the_parts_of_a_mixed_batch_lie_in_it_at_any_place(pool):
    asked = found(pool, share=0.0, mixed={"rooms": 1.0, "streets": 1.0})
    streets = np.mean([asked.compose(0, step).indices >= 50 for step in range(600)], axis=0)
    assert np.abs(streets - 0.5).max() < 0.1


def test_the_paper_trains_on_one_source_alone_for_a_tenth_and_on_all_others_for_the_rest(pool):
    asked = found(pool, share=0.1, homogeneous={"streets": 1.0}, mixed={"photos": 1.0, "rooms": 1.0})
    drawn = [asked.compose(0, step) for step in range(2000)]
    streets = pool.whole_sources["streets"]
    assert np.mean([one.component == "streets" for one in drawn]) == pytest.approx(0.1, abs=0.02)
    assert not any(np.isin(one.indices, streets).any() for one in drawn if one.component is None)


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"homogeneous": {"rooms": 2.0, "photos/cat": 1.0}},
        {"mixed": {"photos/dog": 1.0, "photos/cat": 1.0, "streets": 2.0}},
        {"homogeneous": {"photos": 1.0}, "mixed": {"rooms": 1.0}},
    ],
    ids=str,
)
def test_the_share_that_is_asked_of_any_images_is_the_one_that_they_get(pool, names):
    asked = found(pool, share=0.4, batch=20, **names)
    indices = np.concatenate([asked.compose(0, step).indices for step in range(3000)])
    for members in (*pool.components.values(), *pool.whole_sources.values()):
        assert np.isin(indices, members).mean() == pytest.approx(asked.expected(members), abs=0.02)
    assert sum(map(asked.expected, pool.components.values())) == pytest.approx(1)


def test_other_names_leave_the_steps_alone_that_they_do_not_touch(pool):
    for step in range(60):
        usual, named = (found(pool, share=0.5, **more).compose(0, step) for more in ({}, {"homogeneous": {"rooms": 1}}))
        assert (usual.component is None) == (named.component is None)
        if usual.component is None:
            assert np.array_equal(usual.indices, named.indices)


@pytest.mark.parametrize("key", ["homogeneous", "mixed"])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("photos/cet", "did you mean photos/cat or photos or photos/owl?"),
        ("n01440764", "known are photos/cat, photos/dog, photos/owl and 4 more"),
    ],
)
def test_a_name_that_the_pool_has_not_is_refused_with_the_nearest_that_it_has(pool, key, name, hint):
    with pytest.raises(BadInput) as error:
        found(pool, **{key: {name: 1.0, "rooms": 1.0}})
    assert str(error.value) == f"got data.{key}.{name}: want a source, or one of its components; {hint}"


def test_parts_of_a_mixed_batch_that_share_images_are_refused(pool):
    with pytest.raises(BadInput, match=r"^got data\.mixed\.photos/cat: photos has images of it too: want each image"):
        found(pool, mixed={"photos": 1.0, "photos/cat": 2.0})
