"""What a reader is warned of."""

import json

import pytest

from reports.cautions import foreign, installed, same_origin, slowed
from reports.run_folder import read
from tests.reports.conftest import write_run

WITHIN = "Training images are of the origin of photos, and gains may hold there alone; streets is not."


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "folder", "root": "/data/photos/images"}, [WITHIN]),
        ({"kind": "folder", "root": "/data/photos"}, [WITHIN]),
        ({"kind": "folder", "root": "/data/photos_of_others"}, []),
        ({"kind": "scenes", "root": None}, []),
    ],
)
def test_images_of_an_evaluations_origin_in_training_are_told(bare_run, make_row, source, said):
    sets = {"a": {"kind": "nyu", "root": "/data/photos/", "name": "photos"}, "streets": {"root": "/data/streets"}}
    config = {"data": {"sources": {"x": source}}, "evals": {"sets": sets}}
    rows = [make_row(dataset="photos"), make_row(dataset="streets")]
    assert same_origin(read(bare_run(rows, config=config))) == said


def test_of_drawn_images_no_other_origin_is_claimed(bare_run, make_row):
    drawn, photos = {"kind": "scenes", "root": None}, {"kind": "folder", "root": "/data/photos"}
    config = {"data": {"sources": {"a": drawn, "b": photos}}, "evals": {"sets": {"scenes": drawn, "photos": photos}}}
    rows = [make_row(dataset="photos"), make_row(dataset="scenes")]
    said = ["Training images are of the origin of photos, and gains may hold there alone."]
    assert same_origin(read(bare_run(rows, config=config))) == said


def test_a_run_of_another_version_and_measures_that_are_not_known_here_are_told(bare_run, make_row):
    same = {"gramlab": installed()}
    assert foreign(read(bare_run([make_row()], environment=same))) == []
    measures = "Measures that this version does not know: Smell sweetness."
    assert foreign(read(bare_run([make_row(eval="smell", metric="sweetness")], environment=same))) == [measures]
    version = f"Written by Gramlab 9.9.9, read by {installed()}."
    assert foreign(read(bare_run([make_row(step=300)], environment={"gramlab": "9.9.9"}))) == [version, measures]


def test_seeds_that_took_unlike_times_are_told(tmp_path):
    folder = write_run(tmp_path / "run", arms={"plain": {}}, seeds=(0, 1), steps=400, trunk_steps=0, every=200)
    assert slowed(read(folder)) == []
    status = folder / "plain-s1" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "seconds": 1800}))
    (said,) = slowed(read(folder))
    assert said.endswith("read times with care (plain 4 min to 30 min).")
