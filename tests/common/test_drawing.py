"""Text fits where it is put, and nothing that a user has set changes a drawing."""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from common.drawing import SANS, drawable, make_drawable, shorten, style, text_width, wrap

TEXT = "Does Gram anchoring keep dense features good in a short run, and what does it cost in image-level accuracy?"


def test_the_users_settings_do_not_count_but_those_of_the_drawing_do():
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        with style({"font.size": 7.0}):
            found = {key: matplotlib.rcParams[key] for key in ("font.size", "axes.facecolor", "font.sans-serif")}
        assert matplotlib.rcParams["font.size"] == 20
    assert found == {"font.size": 7.0, "axes.facecolor": "white", "font.sans-serif": ["DejaVu Sans"]}


def test_words_are_shortened_and_wrapped_to_the_width_that_they_have():
    long = "validation/n01440764/ILSVRC2012_val_00009111.JPEG"
    short = shorten(long, 2.0, 8)
    assert text_width(short, 8) <= 2.0
    assert short.startswith("valid")
    assert short.endswith(".JPEG")
    assert "…" in short
    assert shorten("short", 2.0, 8) == "short"
    lines = wrap("some words that need a second line", 1.2, 8)
    assert len(lines) == 2
    assert all(text_width(line, 8) <= 1.2 for line in lines)


def test_wrapped_lines_fit_and_lose_no_word():
    lines = wrap(TEXT, 2.0, 9)
    assert all(text_width(line, 9) <= 2.0 for line in lines)
    assert len(lines) > 3
    assert " ".join(lines) == TEXT


def test_a_limit_on_lines_shows_that_something_is_left_out():
    lines = wrap(TEXT, 2.0, 9, lines=2)
    assert len(lines) == 2
    assert lines[-1].endswith(" …")
    assert text_width(lines[-1], 9) <= 2.0


def test_a_word_wider_than_the_line_is_cut_in_its_middle():
    assert text_width(wrap("x" * 400, 1.0, 8)[0], 8) <= 1.0
    assert shorten("gram_teacher_renewed_every_250", 1.0, 8).startswith("gram")
    assert shorten("short", 1.0, 8) == "short"


def test_no_break_spaces_keep_an_interval_on_one_line():
    assert "[+1.9,\u00a0+4.2]" in wrap("mIoU +3.1\u00a0points\u00a0[+1.9,\u00a0+4.2]", 1.6, 9)[-1]


def test_letters_that_the_font_lacks_become_their_numbers_and_others_stay():
    font = FontProperties(family=SANS)
    assert drawable("Straße → 墙 🦊\t1", font) == "Straße → \\u5899 \\U0001f98a\\t1"
    assert drawable("caf\udce9 of \udcff", font) == "caf\\xe9 of \\xff"
    assert drawable("one\ntwo", font) == "one\ntwo"


def test_what_is_measured_is_what_is_drawn():
    assert text_width("墙", 8) == text_width("\\u5899", 8)
    assert shorten("墙" * 30, 2.0, 8).startswith("\\u5899\\u5899")
    assert text_width(shorten("墙" * 30, 2.0, 8), 8) <= 2.0
    assert wrap("墙 地板", 0.4, 8) == ["\\u5899", shorten("\\u5730\\u677f", 0.4, 8)]
    figure = Figure()
    figure.text(0.5, 0.5, "地板", weight="bold")
    figure.add_subplot().set_title("caf\udce9")
    make_drawable(figure)
    figure.draw_without_rendering()  # a warning would be an error here
    assert [text.get_text() for text in (figure.texts[0], figure.axes[0].title)] == ["\\u5730\\u677f", "caf\\xe9"]
