"""What errors say in one line."""

from common.errors import first_line


def test_what_a_library_says_is_cut_after_a_sentence_or_else_a_word():
    assert first_line(ValueError("Short.\nMore")) == "Short."
    assert first_line(ValueError(f"Version 2.1 is torn. {'long ' * 50}"), 40) == "Version 2.1 is torn."
    assert first_line(ValueError("one two three"), 9) == "one two …"
    assert first_line(EOFError()) == "EOFError"
