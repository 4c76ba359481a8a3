"""plan.pdf: everything is on the sheet, names do not cover one another, and what touches is left out and told."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from common.timeline import Curve, Lane, Timeline
from reports.page import looks, style
from reports.timeline import build_plan, timeline_pages

LAST = {"short": 8, "long": 1_200_000}


def lane(name, parent, start, stop, **more):
    every = max(1, stop // 40)
    usual = {
        "evaluations": range(start + every, stop + 1, every),
        "states": range(start + 1, stop + 1, max(1, every // 50)),
        "words": "Gram off",
        "gram_start": None,
        "renewals": (),
        "frozen": (),
    }
    return Lane(name=name, parent=parent, start=start, stop=stop, **{**usual, **more})


def plan(arms, last):
    fork = last // 2
    gram = {
        "words": f"Gram: EMA of step {fork} ×2, renewed every {max(1, last // 9)}, weight 2 from step {fork}",
        "gram_start": fork,
    }
    names = [
        f"an_arm_that_has_a_long_name_and_the_number_{number}" if number % 3 == 2 else f"arm-{number}"
        for number in range(arms)
    ]
    lanes = [lane("trunk", None, 0, fork, frozen=(fork // 3,))]
    lanes += [lane(name, "trunk", fork, last, **(gram if place % 2 else {})) for place, name in enumerate(names)]
    steps = (*sorted({int(step) for step in np.linspace(0, last - 1, 60)}),)
    each = tuple(
        Curve((name,), fork, last, steps, tuple(0.0 if step < fork else 2.0 ** (place - 9) for step in steps))
        for place, name in enumerate(names)
    )
    two = (
        Curve((*names[1:],), fork, last, steps, tuple(1e-3 * step / last for step in steps)),
        Curve((names[0],), fork, last, steps, tuple(None if step < fork else 1e-3 for step in steps)),
    )
    changing = {
        "Weight of Gram": each,
        "Learning rate": two,
        "EMA momentum": (Curve((*names,), fork, last, steps, steps),),
    }
    changing |= {f"Another value {place}": each for place in range(3)}
    constants = tuple(f"A value with a name of some length {place}" for place in range(9))
    return Timeline("gram_ablation", "Does it hold?", tuple(names), tuple(lanes), constants, changing)


def texts(page):
    """Every written text with its box in pixels, without the hair from a name to its line."""
    FigureCanvasAgg(page.figure).draw()
    written = list(page.figure.texts)
    for axes in page.figure.axes:
        written += [*axes.texts, axes.title, axes._left_title, axes.xaxis.label]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            shown = [tick for tick in axis.get_major_ticks() if min(low, high) <= tick.get_loc() <= max(low, high)]
            written += [tick.label1 for tick in shown if axes.axison]
    return [(text.get_text(), Text.get_window_extent(text)) for text in written if text.get_text().strip()]


@pytest.mark.slow  # many pages, drawn and measured
@pytest.mark.parametrize("length", LAST)
@pytest.mark.parametrize("arms", [2, 6, 12, 40])
def test_every_text_is_on_the_sheet_and_none_covers_another(arms, length):
    with style():
        pages = timeline_pages(plan(arms, LAST[length]))
        assert len(pages) == 2 + arms // 16
        for page in pages:
            found = texts(page)
            width, height = page.figure.bbox.size
            for place, (text, box) in enumerate(found):
                assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, text
                for other, its in found[:place]:
                    assert not box.padded(-1).overlaps(its.padded(-1)), (text, other)


def test_every_arm_and_what_happens_in_it_is_drawn():
    with style():
        found = plan(6, LAST["long"])
        found.changing.popitem()
        first, values = timeline_pages(found)
        words = " ".join(text.replace("\u00a0", " ") for text, _ in texts(first))
        for one in found.lanes:
            assert one.name in words or one.name[:5] in words
        assert "A value with a name of some length 8" in words
        assert "Marks that would touch are left out." in words
        titles = {axes.get_title(loc="left") for axes in values.figure.axes}
        assert titles == {"Weight of Gram", "Learning rate", "EMA momentum", "Another value 0", "Another value 1"}
        named = {text for text, _ in texts(values)}
        assert {"all arms", "all others", "arm-0"} <= named


def test_lines_that_there_is_no_room_to_name_are_counted():
    with style():
        named = [
            axes
            for axes in timeline_pages(plan(40, 8))[-1].figure.axes
            if axes.get_title(loc="left") == "Weight of Gram"
        ]
    (panel,) = named
    assert panel.get_title(loc="right") == f"{len(panel.texts)} of 40 lines are named"
    assert {"arm-0", "arm-39"} <= {text.get_text() for text in panel.texts}
    assert len(panel.texts) > 10


def test_marks_stand_at_their_steps():
    renewed = lane("renewed", "trunk", 4, 12, evaluations=[6, 12], states=[8], gram_start=5, renewals=[7, 9])
    before = lane("on", "trunk", 4, 12, evaluations=[12], states=[], gram_start=2)
    trunk = lane("trunk", None, 0, 4, evaluations=[4], states=[], frozen=[3])
    found = Timeline("x", "", ("on", "renewed"), (trunk, renewed, before), (), {})
    with style():
        (page,) = timeline_pages(found)
        axes = next(axes for axes in page.figure.axes if axes.axison)
        marks = [(line.get_marker(), round(y), int(x)) for line in axes.lines for x, y in line.get_xydata()]
        assert not any("left out" in text for text, _ in texts(page))
    at = {kind: sorted((row, step) for marker, row, step in marks if marker == kind) for kind in ("*", "d", "o", 2, 3)}
    assert at["*"] == [(1, 5)]  # the other one was on before its fork
    assert at["d"] == [(1, 7), (1, 9)]
    assert at["o"] == [(0, 3), (1, 4), (2, 4)]
    assert at[2] == [(0, 4), (1, 6), (1, 12), (2, 12)]
    assert at[3] == [(1, 8)]


def _panel(curves, *, last):
    """The lines of a panel of two arms that fork at step 100, as corners by colour and zorder."""
    lanes = (lane("trunk", None, 0, 100), *(lane(name, "trunk", 100, last) for name in ("plain", "on")))
    with style():
        page = timeline_pages(Timeline("x", "", ("plain", "other", "on"), lanes, (), {"Weight": curves}))[-1]
    (axes,) = (axes for axes in page.figure.axes if axes.get_title(loc="left") == "Weight")
    return {
        (line.get_color(), line.get_zorder()): line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 2
    }


def test_a_leap_is_upright_in_the_colour_of_its_arm_and_a_slow_rise_is_not():
    steps = (*range(0, 99, 3), 99, 100, 101, *range(103, 400, 3))
    leap = tuple(0.0 if step < 100 else 2.0 for step in steps)
    slow = tuple(step / 300 for step in steps)
    curves = (Curve(("plain",), 100, 400, steps, slow), Curve(("on",), 100, 400, steps, leap))
    found = _panel(curves, last=400)
    colours = looks(["plain", "other", "on"], "plain")  # as in the report, which knows an arm that is not drawn here
    own = found[colours["on"].colour, 4]
    assert [tuple(corner) for corner in own[:3]] == [(100, 0), (100, 2), (101, 2)]
    rise = found[colours["plain"].colour, 4]
    assert [tuple(corner) for corner in rise[:2]] == [(100, 100 / 300), (101, 101 / 300)]
    assert all(line[:, 0].max() == 100 for (_, order), line in found.items() if order == 3)


def test_a_fork_of_an_arm_on_an_earlier_page_comes_from_the_top():
    lanes = (lane("trunk", None, 0, 4), *(lane(f"a{number}", "trunk", 4, 8) for number in range(17)))
    names = tuple(one.name for one in lanes[1:])
    with style():
        first, second = timeline_pages(Timeline("x", "", names, lanes, (), {}))
    for page, top in ((first, 0), (second, -0.6)):
        axes = next(axes for axes in page.figure.axes if axes.axison)
        dotted = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert dotted
        assert {*dotted} == {top}


def test_the_same_plan_gives_the_same_bytes(tmp_path):
    for name in ("one.pdf", "two.pdf"):
        build_plan(plan(2, 8), tmp_path / name)
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "two.pdf").read_bytes()
