"""What a function reads of a file is kept for as long as the file stays as it is."""

import pytest

from common.errors import BadInput
from common.unchanged import until_changed


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path):
    path, reads = tmp_path / "a.txt", []

    @until_changed()
    def read(path, times):
        reads.append(path)
        return path.read_text() * times

    path.write_text("one")
    assert [read(path, 1), read(path, 1), read(path, 2)] == ["one", "one", "oneone"]
    assert len(reads) == 2
    path.write_text("two")  # of the same size
    assert read(path, 1) == "two"
    (tmp_path / "b.txt").write_text("new")
    (tmp_path / "b.txt").replace(path)
    assert read(path, 1) == "new"


def test_a_folder_is_read_again_when_a_file_of_these_names_has_changed(tmp_path):
    reads = []

    @until_changed("a", "b")
    def read(folder):
        reads.append(folder)

    read(tmp_path)
    (tmp_path / "c").write_text("another")
    read(tmp_path)
    assert len(reads) == 1
    (tmp_path / "b").write_text("ours")
    read(tmp_path)
    (tmp_path / "b").write_text("hers")
    read(tmp_path)
    assert len(reads) == 3


def test_a_refusal_is_kept_and_each_bears_its_own_notes(tmp_path):
    reads = []

    @until_changed()
    def read(path):
        reads.append(path)
        raise BadInput(f"got {path}: want another")

    for note in ("one", "two"):
        with pytest.raises(BadInput, match="want another") as error:
            read(tmp_path / "a")
        error.value.add_note(note)
        assert error.value.__notes__ == [note]
    assert len(reads) == 1
