"""Classes of images from a table beside them, where folders do not tell: a CSV file with the columns file and class."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import BadInput, listing, nearest
from evals.datasets.layouts.files import usual_split

COLUMNS = ("file", "class")
WANT = "want a header with file and class, and split where the table tells it, then a line for each image"


class Row(NamedTuple):
    """A line of the table: the image by its name below the set's root, its class, its split ("" where none is told)."""

    file: str
    label: str
    split: str


def read_table(path: Path) -> list[Row]:
    """The rows of a table, whose columns are parted by commas, semicolons or tabs.

    Raises:
        BadInput: a file that is no such table, a line without file or class, an image with two classes.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            between = next((mark for mark in ",;\t" if mark in file.readline()), ",")
            file.seek(0)
            reader = csv.DictReader(file, delimiter=between, skipinitialspace=True, strict=True)
            rows = _rows(reader, path)
    except FileNotFoundError:
        raise BadInput(f"got no table {path}: {WANT}; correct table") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"got unreadable table {path} ({error}): want UTF-8; save it so") from error
    _refuse_two_classes(rows, path)
    return rows


def _rows(reader: csv.DictReader[str], path: Path) -> list[Row]:
    begins, rows = 1, []  # a quoted cell may hold ends of lines, and one that nobody closes holds all that follow
    try:
        names = list(reader.fieldnames or ())
        if missing := [name for name in COLUMNS if name not in names]:
            hint = nearest(missing[0], names, otherwise="rename the columns")
            raise BadInput(f"got the columns {listing(names, most=8)} in {path}: {WANT}; {hint}")
        begins = reader.line_num + 1
        for line in reader:
            rows.append(_row(line, path, begins))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"got line {begins} of {path} ({error}): want quotes in pairs; correct it") from error
    return rows


def in_split(rows: Sequence[Row], split: str, path: Path) -> list[Row]:
    """The rows of a split, or all where the table tells of none. Raises `BadInput` for one that it does not name."""
    told = sorted({row.split for row in rows if row.split})
    if not told:
        return list(rows)
    if found := [row for row in rows if row.split == split]:
        return found
    if found := [row for row in rows if usual_split(row.split) == usual_split(split)]:
        return found
    raise BadInput(f"got split '{split}' for {path}: want one of {listing(told, most=8)}; correct split")


def _row(line: dict[str, str | None], path: Path, number: int) -> Row:
    file, label, split = ((line.get(name) or "").strip() for name in (*COLUMNS, "split"))
    if not file or not label:
        raise BadInput(f"got line {number} of {path} without {'class' if file else 'file'}: {WANT}; fill it in")
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise BadInput(f"got {file} in line {number} of {path}: want names below the set's root; correct it")
    return Row(Path(file).as_posix(), label, split)


def _refuse_two_classes(rows: Sequence[Row], path: Path) -> None:
    known: dict[str, str] = {}
    for row in rows:
        if (first := known.setdefault(row.file, row.label)) != row.label:
            do = "leave one out, or give the pair a name of its own"
            raise BadInput(f"got the classes {first} and {row.label} for {row.file} in {path}: want one; {do}")
