"""What errors say in one line."""

from common.errors import BadInput, first_line, found


def test_what_a_library_says_is_cut_after_a_sentence_or_else_a_word():
    assert first_line(ValueError("Short.\nMore")) == "Short."
    assert first_line(ValueError(f"Version 2.1 is torn. {'long ' * 50}"), 40) == "Version 2.1 is torn."
    assert first_line(ValueError("one two three"), 9) == "one two …"
    assert first_line(EOFError()) == "EOFError"


def test_what_was_got_is_told_with_its_brackets_closed():
    assert found(BadInput("got a.json (mean is [0.5]: want three numbers): want a card; do export again")) == (
        "a.json (mean is [0.5])"
    )
    assert found(BadInput("got 3: want 4; correct it")) == "3"
