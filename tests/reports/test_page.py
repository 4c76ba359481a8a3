import numpy as np
from matplotlib.colors import to_rgb

from reports.page import TRUNK_LOOK, looks


def test_eight_arms_differ_in_colour_and_marker():
    found = looks([f"arm{n}" for n in range(8)], "arm3")
    assert len({look.colour for look in found.values()}) == len({look.marker for look in found.values()}) == 8
    assert found["arm3"].colour == "#000000"


def test_more_arms_than_colours_still_differ():
    found = looks([f"arm{n}" for n in range(16)], "arm0")
    assert len({(look.colour, str(look.dash), look.marker) for look in found.values()}) == 16


def test_no_two_arms_have_one_colour_nor_any_that_of_the_trunk():
    found = looks([f"arm{n}" for n in range(120)], "arm0")
    colours = [TRUNK_LOOK.colour, *(look.colour for look in found.values())]
    assert len(set(colours)) == 121
    few = np.array([to_rgb(colour) for colour in colours[:17]])
    apart = np.linalg.norm(few[:, None] - few, axis=-1) + 9 * np.eye(17)
    assert apart.min() > 0.2  # of the cube's edge
