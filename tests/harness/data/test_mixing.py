"""Batch composition: shares, sizes, and what it depends on."""

import numpy as np
import pytest

from harness.data.mixing import compose

COMPONENTS = {"big": np.arange(60), "middle": np.arange(60, 90), "small": np.arange(90, 100)}


def composed(step, *, seed=0, share=0.3, batch=16, components=COMPONENTS):
    return compose(seed, step, components, pool_size=100, batch_size=batch, homogeneous_share=share)


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
