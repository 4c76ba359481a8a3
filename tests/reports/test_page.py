from reports.page import looks


def test_eight_arms_differ_in_colour_and_marker():
    found = looks([f"arm{n}" for n in range(8)], "arm3")
    assert len({look.colour for look in found.values()}) == len({look.marker for look in found.values()}) == 8
    assert found["arm3"].colour == "#000000"


def test_more_arms_than_colours_still_differ():
    found = looks([f"arm{n}" for n in range(16)], "arm0")
    assert len({(look.colour, str(look.dash), look.marker) for look in found.values()}) == 16
