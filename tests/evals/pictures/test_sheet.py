from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from evals.pictures.sheet import DPI, SheetColumn, lay_out, save, style, write


def test_no_two_texts_of_a_page_overlap_and_none_leaves_it():
    columns = [
        SheetColumn("First heading", 1.9),
        SheetColumn("Second", 1.9),
        SheetColumn("m", 0.12, gap=0.5, narrow=True),
    ]
    captions = ["a/very/long/path/" * 12 + "image.jpg", "short"]
    with style():
        note = "What this page shows, in more words than fit on one line of a page that is as narrow as this one is."
        sheet = lay_out(columns, captions, aspects=[0.75, 2.5], title="A title " * 20, note=note, foot=0.3)
        boxes = [text.get_window_extent() for text in sheet.figure.texts]
    high = sheet.figure.bbox.height
    panels = [axes.get_window_extent() for row in sheet.panels for axes in row]
    assert len(boxes) == 1 + 2 + 2 + 3
    for place, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= sheet.figure.bbox.width
        assert box.y1 <= high
        assert not any(box.overlaps(other) for other in [*boxes[:place], *panels])
    assert min(panel.y0 for panel in panels) / sheet.figure.dpi >= 0.3
    assert panels[3].height == pytest.approx(1.5 * panels[0].width)  # a tall image gets no endless row


def test_files_do_not_depend_on_the_users_settings_or_the_time(tmp_path: Path):
    def drawn(folder: Path) -> list[bytes]:
        with style():
            figure = Figure(figsize=(1, 1))
            figure.add_subplot().set_title("t")
        paths = [write(folder, "a", figure), folder / "a.pdf", folder / "a.svg"]
        for path in paths[1:]:
            save(figure, path)
        return [path.read_bytes() for path in paths]

    first = drawn(tmp_path / "one")
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 40, "axes.facecolor": "red"}):
        assert drawn(tmp_path / "two") == first
    assert int(np.frombuffer(first[0][16:20], ">u4")[0]) == DPI


def test_a_picture_that_cannot_be_drawn_leaves_nothing_behind(tmp_path: Path):
    class Broken(Text):
        def draw(self, renderer):
            raise RuntimeError("torn")

    figure = Figure()
    figure.add_artist(Broken(0, 0, "text"))
    with pytest.raises(RuntimeError, match="torn"):
        write(tmp_path, "broken", figure)
    assert list(tmp_path.iterdir()) == []
