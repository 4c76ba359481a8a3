"""What a reader is warned of."""

import json

import pytest

from reports.cautions import cautions, collapsed, foreign, installed, passed_over, same_origin, skipped, slowed
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


def test_steps_that_were_passed_over_are_told_with_their_terms_where_they_are_an_arms_own(tmp_path):
    """The trunk's last steps are not the arms', which share nothing of it but their beginning."""
    arms = {"plain": {}, "anchored": {"gram.weight": 1.0}}
    own = {"segment": "a", "start": 200, "stop": 400, "parent": "trunk-s1"}
    jobs = {"plain-s1": own, "trunk-s0": {"segment": "b", "start": 0, "stop": 200, "parent": None}}
    folder = write_run(tmp_path / "run", arms=arms, seeds=(0, 1), steps=400, trunk_steps=200, every=200, jobs=jobs)
    assert passed_over(read(folder)) == []
    bad = [{"step": step, "terms": ["koleo", "grad_norm"], "images": ["a", "b"]} for step in (260, 230, 180)]
    (folder / "plain-s1" / "bad_steps.json").write_text(json.dumps({"steps": bad}))
    (folder / "trunk-s0" / "bad_steps.json").write_text(json.dumps({"steps": bad[2:]}))
    run = read(folder)
    (said,) = passed_over(run)
    assert said == (
        "Passed over without learning from the batch, since not all was finite: "
        "trunk seed 0 step 180 (koleo, grad_norm), plain seed 1 steps 230 (koleo, grad_norm), 260 (koleo, grad_norm)."
    )
    assert said in cautions(run)


def test_a_damaged_list_of_steps_is_a_gap(tmp_path):
    folder = write_run(tmp_path / "run", arms={"plain": {}}, steps=40, trunk_steps=0, every=20)
    (folder / "plain-s0" / "bad_steps.json").write_text("[]")
    (said,) = read(folder).damaged
    assert said.startswith("plain-s0/bad_steps.json cannot be read")


def test_a_sign_of_collapse_is_told_where_it_is_an_arms_own(tmp_path):
    folder = write_run(tmp_path / "run", arms={"plain": {}, "other": {}}, seeds=(0, 1), steps=400, trunk_steps=200)
    for arm, step in (("plain", 160), ("other", 300)):
        status = folder / f"{arm}-s1" / "status.json"
        sign = {
            "step": step,
            "since": step - 50,
            "series": "cls_rank",
            "value": 1.4,
            "words": "tokens span 1.40 directions",
        }
        status.write_text(json.dumps(json.loads(status.read_text()) | {"collapse": sign}))
    (said,) = collapsed(run := read(folder))
    assert said == "Signs of collapse: other seed 1 from step 250 to 300 and maybe on: tokens span 1.40 directions."
    assert said in cautions(run)


def test_images_that_were_skipped_are_told_by_lane(tmp_path):
    folder = write_run(tmp_path / "run", arms={"plain": {}, "other": {}}, seeds=(0, 1), steps=400, trunk_steps=200)
    assert skipped(read(folder)) == []
    rows = [
        {"step": 3, "source": "photos", "place": at, "image": f"cat/{at}.jpg", "reason": "cut off"} for at in (7, 2)
    ]
    for lane, own in (("plain-s0", rows), ("plain-s1", rows[:1]), ("trunk-s1", rows[1:])):
        (folder / lane / "skipped.json").write_text(json.dumps({"skipped": own}))
    said = "Training images that could not be read were skipped, and others stood in: 1 of trunk, 2 of plain"
    assert skipped(read(folder)) == [f"{said} (photos/cat/2.jpg, photos/cat/7.jpg)."]
    (folder / "plain-s0" / "skipped.json").write_text("{")
    (gap,) = [gap for gap in read(folder).damaged if "skipped.json" in gap]
    assert gap.startswith("plain-s0/skipped.json cannot be read")
