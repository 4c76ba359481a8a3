"""An atlas: points by settings, gains against the equal arm without Gram, the law against an oracle, the picture."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.tri import TriContourSet
from scipy.stats import linregress

from common.errors import BadInput
from reports.estimates import columns
from reports.evidence import falls
from reports.evidence.asked import column
from reports.evidence.atlas import Point, law, points, settings_of
from reports.evidence.atlas_blocks import contour, gains, slopes
from reports.evidence.stored import Shelf
from reports.lane_settings import lane_settings
from reports.run_folder import read
from reports.tables import tables, write

WIDTHS, RATES = (48, 96, 192), (1e-3, 4e-3)
ARMS = {
    f"{kind}-{width}-{rate}": {"model.args.embed_dim": width, "optimizer.lr": rate} | gram
    for width in WIDTHS
    for rate in RATES
    for kind, gram in (("plain", {}), ("held", {"gram.weight": 2.0, "gram.start_step": 10}))
}
CONFIG = {"optimizer": {"lr": 2e-3}, "gram": {"weight": 0.0}, "model": {"args": {"embed_dim": 96}}}
MADE = {"arms": ARMS, "seeds": (0, 1, 2), "steps": 40, "trunk_steps": 0, "every": 10, "baseline": "plain-48-0.001"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Where the tables of `shelf` lie, once one of these tests has written them."""
    return tmp_path_factory.mktemp("written") / "atlas"


@pytest.fixture
def shelf(make_run, written, tmp_path):
    """The tables of a run of two rates and three widths, each with and without Gram anchoring."""
    if not written.exists():
        write(tables(read(make_run(name="atlas", config=CONFIG, **MADE))), written, to="parquet")
    shutil.copytree(written, tmp_path / "shelf" / "atlas")
    return Shelf(tmp_path / "shelf")


def line(slopes, constant, places, noise=()):
    """Points on a plane over doublings of settings, with `noise` on each."""
    noise = noise if len(noise) else np.zeros(len(places))
    return [
        Point(str(at), at, constant + sum(slopes[key] * np.log2(at[key]) for key in slopes) + off, 0, 0, 1)
        for at, off in zip(places, noise, strict=True)
    ]


def test_an_arm_that_forks_from_another_arm_has_its_settings_beneath_its_own(make_run):
    arms = {
        "wide": {"from": None, "model.args.embed_dim": 192},
        "fast": {"from": "wide", "at": 20, "optimizer.lr": 4e-3},
        "held": {"from": "fast", "gram.weight": 2.0},
        "plain": {},
    }
    config = CONFIG | {"trunk": {"steps": 20, "overrides": {"optimizer.lr": 1e-4}}}
    found = lane_settings(read(make_run(arms=arms, config=config, steps=40, trunk_steps=20, every=10)))
    by_arm = {arm: (own["model.args.embed_dim"], own["optimizer.lr"], own["gram.weight"]) for arm, own in found.items()}
    assert by_arm == {
        **{"trunk": (96, 1e-4, 0.0), "wide": (192, 2e-3, 0.0), "fast": (192, 4e-3, 0.0)},
        **{"held": (192, 4e-3, 2.0), "plain": (96, 2e-3, 0.0)},
    }
    assert all({*own} == {"model.args.embed_dim", "optimizer.lr", "gram.weight"} for own in found.values())


def test_tables_hold_each_arms_settings(shelf):
    found = settings_of(shelf.experiment("atlas"))
    assert [*found] == [*ARMS]
    assert found["held-48-0.004"]["optimizer.lr"] == 0.004
    assert (found["plain-192-0.001"]["gram.weight"], found["held-192-0.001"]["gram.weight"]) == (0.0, 2.0)


@pytest.mark.parametrize(("metric", "sign"), [("miou", 1), ("rmse", -1)])
def test_the_gain_is_over_the_arm_that_is_equal_but_for_gram_and_by_the_better_side(shelf, metric, sign):
    stored = shelf.experiment("atlas")
    found = points(stored, column(stored.run, metric), "gain")
    assert [point.arm for point in found] == [arm for arm in ARMS if arm.startswith("held")]
    table = stored.results.query(f"metric == '{metric}' and step == 40").set_index(["arm", "seed"])["value"]
    for point in found:
        partner = point.arm.replace("held", "plain")
        own = [sign * (table[point.arm, seed] - table[partner, seed]) for seed in (0, 1, 2)]
        assert point.value == pytest.approx(np.mean(own))
        assert point.low < point.value < point.high
        assert point.seeds == 3


def test_the_fall_is_that_of_arms_without_gram(shelf):
    stored = shelf.experiment("atlas")
    miou = next(one for one in columns(stored.run) if one.metric == "miou")
    found = points(stored, miou, "fall")
    assert [point.arm for point in found] == [arm for arm in ARMS if arm.startswith("plain")]
    for point in found:
        own = falls.falls(stored.run, miou, point.arm)
        assert own is not None
        assert (point.value, point.low, point.high) == (own.value, own.low, own.high)


def test_a_law_of_one_setting_is_the_regression_line_and_its_interval():
    sizes, noise = [48, 96, 192, 384, 768], [0.01, -0.02, 0.015, 0.005, -0.01]
    found = law(line({"width": 0.03}, 0.2, [{"width": size} for size in sizes], noise), ["width"])
    doublings = np.log2(sizes)
    oracle = linregress(doublings, 0.2 + 0.03 * doublings + noise)
    assert found is not None
    assert found.slopes[0] == pytest.approx(oracle.slope)
    assert found.halves[0] == pytest.approx(3.182446305 * oracle.stderr)  # t(3, 0.975)
    assert found.constant == pytest.approx(oracle.intercept + oracle.slope * doublings.mean())


def test_the_error_of_a_law_is_at_points_that_it_was_fitted_without():
    """Against an oracle in plain loops."""
    rng = np.random.default_rng(3)
    places = [{"width": width, "rate": rate} for width in WIDTHS for rate in (1e-3, 2e-3, 4e-3)]
    made = line({"width": 0.03, "rate": -0.01}, 0.2, places, rng.normal(0, 0.01, len(places)))
    found = law(made, ["width", "rate"])
    far, flat = [], []
    design = np.array([[1, np.log2(at["width"]), np.log2(at["rate"])] for at in places])
    values = np.array([point.value for point in made])
    for out in range(len(places)):
        kept = np.arange(len(places)) != out
        fitted = np.linalg.lstsq(design[kept], values[kept], rcond=None)[0]
        far.append(values[out] - design[out] @ fitted)
        flat.append(values[out] - values[kept].mean())
    assert found is not None
    assert found.error == pytest.approx(np.sqrt(np.mean(np.square(far))))
    assert found.flat == pytest.approx(np.sqrt(np.mean(np.square(flat))))


def test_a_law_holds_in_about_as_many_draws_as_its_interval_says():
    rng = np.random.default_rng(0)
    places = [{"width": width, "rate": rate} for width in (48, 96, 192, 384) for rate in (1e-3, 2e-3, 4e-3)]
    held = 0
    for _ in range(1000):
        found = law(line({"width": 0.02, "rate": 0.0}, 0.1, places, rng.normal(0, 0.02, 12)), ["width", "rate"])
        assert found is not None
        held += abs(found.slopes[0] - 0.02) < found.halves[0]
    assert 930 <= held <= 970  # 950 ± 3 standard deviations


@pytest.mark.parametrize(
    "places",
    [
        [{"width": 48}, {"width": 96}],  # as many points as unknowns
        [{"width": 48}] * 5,  # one place alone
        [{"width": size} for size in (0, 48, 96, 192)],  # no doubling leads from 0
        [{"width": size} for size in (None, 48, 96, 192)],
    ],
)
def test_there_is_no_law_where_points_cannot_tell_one(places):
    assert law([Point("", at, 0.1, 0, 0, 1) for at in places], ["width"]) is None


def test_the_contour_shows_every_point_with_its_number(shelf):
    filled = contour(
        shelf, ["atlas", "miou", "rmse", "of:", "gain", "x:", "model.args.embed_dim", "y:", "optimizer.lr"]
    )
    ((name, figure),) = filled.figures.items()
    assert name in filled.text
    assert "6 points, 3 seeds each" in filled.text
    stored = shelf.experiment("atlas")
    panel = figure.axes[0]
    found = points(stored, column(stored.run, "miou"), "gain")
    shown = [text.get_text() for text in panel.texts]
    assert shown == [f"{100 * point.value:+.1f}".replace("-", "\u2212") for point in found]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["48", "96", "192"]
    assert any(isinstance(one, TriContourSet) for one in panel.collections)


def test_gains_name_the_arm_that_they_are_over_and_hold_what_the_points_hold(shelf):
    filled = gains(shelf, ["atlas", "miou", "rmse"])
    stored = shelf.experiment("atlas")
    first = points(stored, column(stored.run, "miou"), "gain")[0]
    row = next(line for line in filled.text.splitlines() if line.startswith("| `held-48-0.001`"))
    cells = [cell.strip() for cell in row.replace("\u2212", "-").replace("\u00a0", " ").split("|")[1:-1]]
    assert cells[1] == "`plain-48-0.001`"
    assert cells[2] == f"{100 * first.value:+.1f} [{100 * first.low:+.1f}, {100 * first.high:+.1f}]"
    assert cells[-2:] == ["40", "3"]
    assert filled.text.count("| `held") == 6
    assert filled.text.endswith("brackets: 95 % intervals over seeds.")


def test_gains_of_one_seed_say_that_they_have_no_interval(make_run, tmp_path):
    run = read(make_run(name="atlas", config=CONFIG, **MADE | {"seeds": (0,)}))
    write(tables(run), tmp_path / "shelf" / "atlas", to="parquet")
    assert gains(Shelf(tmp_path / "shelf"), ["atlas", "miou"]).text.endswith("one seed, so no interval.")


def test_points_that_differ_in_more_than_the_axes_are_averaged_and_that_is_said(shelf):
    filled = contour(shelf, ["atlas", "miou", "of:", "gain", "x:", "model.args.embed_dim", "y:", "gram.weight"])
    assert "at the 3 places the mean over points that differ in other settings" in filled.text
    panel = next(iter(filled.figures.values())).axes[0]
    assert len(panel.texts) == 3
    assert not any(isinstance(one, TriContourSet) for one in panel.collections)  # of a line


def test_the_law_is_told_per_doubling_in_the_metrics_unit(shelf):
    filled = slopes(shelf, ["atlas", "miou", "of:", "gain", "keys:", "model.args.embed_dim", "optimizer.lr"])
    stored = shelf.experiment("atlas")
    found = law(points(stored, column(stored.run, "miou"), "gain"), ["model.args.embed_dim", "optimizer.lr"])
    assert found is not None
    row = next(line for line in filled.text.splitlines() if line.startswith("| mIoU, points"))
    assert f"{100 * found.slopes[0]:+.1f} [" in row.replace("\u2212", "-")
    assert row.endswith("| 6 |")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("atlas miou x: optimizer.lr y: gram.weight", "got of: nothing: want one of gain, fall"),
        ("atlas miou of: gian x: optimizer.lr y: gram.weight", "got of: gian: want one of gain, fall"),
        ("atlas miou of: gain x: optimizer.lr", "got y:: want a setting behind it"),
        ("atlas miou of: gain x: optimizer.rl y: gram.weight", "want one in which arms of atlas differ; did you mean"),
        ("atlas miou of: gain x: optimizer.lr y: gram.weight arms: plain-48-0.001", "got no gain in atlas: want arms"),
        ("atlas of: gain x: optimizer.lr y: gram.weight", "got no metric of atlas"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(shelf, block, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        contour(shelf, block.split())
    assert "\n" not in str(error.value)


def test_a_setting_that_is_no_number_is_no_axis(make_run, tmp_path):
    arms = {"plain": {}, "held": {"gram.weight": 2.0, "gram.teacher": "start"}}
    made = make_run(name="words", arms=arms, config=CONFIG, steps=40, trunk_steps=0, every=10)
    write(tables(read(made)), tmp_path / "shelf" / "words", to="parquet")
    with pytest.raises(BadInput, match=r"got gram.teacher: start: want numbers along an axis"):
        contour(Shelf(tmp_path / "shelf"), ["words", "miou", "of:", "gain", "x:", "gram.teacher", "y:", "gram.weight"])


def test_tables_without_settings_ask_for_being_written_anew(shelf, tmp_path):
    path = tmp_path / "shelf" / "atlas" / "jobs.parquet"
    pd.read_parquet(path).drop(columns="settings").to_parquet(path)
    with pytest.raises(BadInput, match=r"has no column settings: want the tables of this version; write it by"):
        Shelf(tmp_path / "shelf").experiment("atlas")
