from reports.page import looks, shorten, text_width, wrap

TEXT = "Does Gram anchoring keep dense features good in a short run, and what does it cost in image-level accuracy?"


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


def test_eight_arms_differ_in_colour_and_marker():
    found = looks([f"arm{n}" for n in range(8)], "arm3")
    assert len({look.colour for look in found.values()}) == len({look.marker for look in found.values()}) == 8
    assert found["arm3"].colour == "#000000"


def test_more_arms_than_colours_still_differ():
    found = looks([f"arm{n}" for n in range(16)], "arm0")
    assert len({(look.colour, str(look.dash), look.marker) for look in found.values()}) == 16
