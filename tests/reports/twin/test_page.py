"""The twin as a file: it holds all that it shows, and nothing that others wrote runs in it."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from common.timeline import Curve, Timeline, write_timeline
from reports.compared import compare
from reports.estimates import columns, trajectory
from reports.run_folder import read
from reports.twin.page import twin

# the engine that draws has threads of its own, which tests that fork later had better not have
_DRAW = "import json, sys, vl_convert; print(json.dumps([*map(vl_convert.vegalite_to_svg, json.load(sys.stdin))]))"


class _Elements(HTMLParser):
    """Every element with its attributes, and the content of scripts."""

    def __init__(self, page):
        super().__init__()
        self.found, self.scripts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data


def page_of(folder):
    run = read(folder)
    return twin(run, compare(run))


def content_of(page):
    return json.loads(_Elements(page).scripts[0])


@pytest.fixture(scope="module")
def page(rooms):
    return page_of(rooms)


def test_nothing_is_fetched_and_the_file_is_small(page):
    reached = [
        value
        for _, attributes in _Elements(page).found
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster") and value
    ]
    assert reached
    assert all(value.startswith(("#", "data:")) for value in reached), reached
    assert "@import" not in page
    assert not re.search(r"url\(\s*['\"]?(?!data:|#)", page.partition("<body>")[0])
    assert "default-src 'none'" in page
    assert len(page.encode()) < 8_000_000


def test_the_licences_of_what_the_page_holds_are_in_it(page):
    (told,) = [comment for comment in re.findall(r"<!--(.*?)-->", page, re.DOTALL) if "Interactive Data Lab" in comment]
    for condition in ("Redistributions in binary form must reproduce", "appear in all copies", "substantial portions"):
        assert condition in told


def test_the_same_tables_give_the_same_page(rooms, page):
    assert page_of(rooms) == page


def test_means_are_those_of_the_report(rooms, page):
    run, means = read(rooms), content_of(page)["sheets"]["means"]
    shown = [dict(zip(means["ids"], row, strict=True)) for row in means["rows"]]
    for number, column in enumerate(columns(run)):
        for lane in run.lanes:
            for estimate in trajectory(run, column, lane):
                (row,) = [one for one in shown if (one["arm"], one["step"]) == (lane, estimate.step)]
                percent = 100 if column.is_share else 1
                assert row[f"c{number}"] == pytest.approx(estimate.value * percent)
                assert row[f"c{number}_low"] <= row[f"c{number}"] <= row[f"c{number}_high"]


def test_each_figure_has_its_numbers_to_copy(page):
    content, elements = content_of(page), _Elements(page).found
    figures = [attributes["data-spec"] for _, attributes in elements if "data-spec" in attributes]
    assert set(figures) == set(content["specs"])
    copies = [attributes for _, attributes in elements if attributes.get("class") == "copy"]
    assert len(copies) >= len(figures)
    for one in copies:
        sheet = content["sheets"][one["data-sheet"]]
        assert set(one.get("data-ids", sheet["ids"][0]).split()) <= set(sheet["ids"])


def as_drawn(spec, content):
    """The specification with what the page's script gives it: its rows, and the last step as the chosen one."""
    used = {layer["data"]["name"] for layer in spec["layer"] if "name" in layer["data"]}
    rows = {
        name: [dict(zip(sheet["ids"], row, strict=True)) for row in sheet["rows"]]
        for name, sheet in content["sheets"].items()
        if name in used
    }
    last = {"name": "upto", "value": content["steps"][-1]}
    params = [last if one["name"] == "upto" else one for one in spec["params"]]
    return {**spec, "width": 400, "datasets": rows, "params": params}


@pytest.mark.slow
def test_each_figure_draws_a_line_of_each_lane(rooms, page):
    content = content_of(page)
    specs = json.dumps([as_drawn(spec, content) for spec in content["specs"].values()])
    done = subprocess.run([sys.executable, "-c", _DRAW], input=specs, capture_output=True, text=True, check=True)
    wanted = {f"var(--arm-{number})" for number in range(len(read(rooms).lanes))}
    for name, drawn in zip(content["specs"], json.loads(done.stdout), strict=True):
        lines = drawn.partition('class="mark-line')[2]
        paths = [dict(re.findall(r'([\w-]+)="([^"]*)"', path)) for path in re.findall(r"<path [^>]*>", lines)]
        # of lines alone: marks are filled
        colours = {one.get("stroke") for one in paths if "L" in one.get("d", "") and one.get("fill", "none") == "none"}
        assert wanted <= colours, name


@pytest.mark.slow
def test_what_was_planned_is_drawn_pale_behind_what_was_logged(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}, "anchored": {"gram.weight": 2.0}})
    alone = Curve(("anchored",), 0, 40, (0, 20, 39), (0.0, 2e-3, None))
    both = Curve(("plain", "anchored"), 0, 40, (0, 40), (1e-3, 2e-3))
    curves = {"Learning rate": (alone, both)}
    write_timeline(folder / "plan.json", Timeline("x", "", ("plain", "anchored"), (), (), curves))
    content = content_of(page_of(folder))
    (name,) = [name for name, sheet in content["sheets"].items() if "Learning rate" in sheet["titles"]]
    spec = json.dumps([as_drawn(content["specs"][name], content)])
    done = subprocess.run([sys.executable, "-c", _DRAW], input=spec, capture_output=True, text=True, check=True)
    broad = re.findall(r'<path [^>]*stroke="(var[^"]+)"[^>]*stroke-width="7"', json.loads(done.stdout)[0])
    assert broad == ["var(--arm-2)", "var(--rule)"]


@pytest.mark.slow
@pytest.mark.parametrize("tied", [(), ("x",), ("y",), ("x", "y")], ids=str)
def test_the_arms_that_no_other_equals_or_beats_in_both_measures_are_joined(rooms, page, tied):
    content = content_of(page)
    spec = as_drawn(content["specs"]["plane"], content)
    x, y = (next(one["value"] for one in spec["params"] if one["name"] == name) for name in ("x", "y"))
    sides = {
        name: next(one["value"] for one in spec["params"] if one["name"] == "fields")[name]["side"] for name in (x, y)
    }
    means = spec["datasets"]["means"]
    rows = [row for row in means if row["step"] == content["steps"][-1]]
    if tied:  # with the arm that is best in the other measure, in one measure or both
        other = x if tied == ("y",) else y
        one = max(rows, key=lambda row: (sides[other] * row[other], sides[x] * row[x]))
        worse = {axis: one[axis] - sides[axis] * 0.01 for axis, name in ((x, "x"), (y, "y")) if name not in tied}
        means.append({**one, "arm": "tied", **worse})
        rows.append(means[-1])
    places = {(sides[x] * row[x], sides[y] * row[y]) for row in rows}
    best = [one for one in places if not any(a >= one[0] and b >= one[1] and (a, b) != one for a, b in places)]
    done = subprocess.run(
        [sys.executable, "-c", _DRAW], input=json.dumps([spec]), capture_output=True, text=True, check=True
    )
    (drawn,) = re.findall(r'<path [^>]*d="([^"]*)"[^>]*stroke-width="6"', json.loads(done.stdout)[0])
    assert len(re.findall("[ML]", drawn)) == len(best) > 1


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!--", "&amp;"]
)
def test_what_users_wrote_is_text_wherever_it_stands(make_run, text):
    small = {"steps": 40, "trunk_steps": 20, "every": 10, "arms": {"plain": {}, "anchored": {"gram.weight": 2.0}}}
    tame = _Elements(page_of(make_run(name="tame", question="Why?", source="Here.", notes=["Well."], **small)))
    wild = _Elements(page_of(make_run(name="wild", question=text, source=text, notes=[text], **small)))
    assert [tag for tag, _ in wild.found] == [tag for tag, _ in tame.found]


def test_a_byte_of_a_name_that_is_no_utf8_is_shown_by_its_number(make_run):
    page = page_of(make_run(steps=40, trunk_steps=20, every=10, notes=["ph\udcf6tos"]))
    assert "ph\\xf6tos" in page
    assert page.encode()


def test_a_run_that_died_says_what_is_missing(make_run):
    page = page_of(make_run(steps=40, trunk_steps=20, every=10, died=True))
    assert "<h3>Incomplete</h3>" in page


def test_a_run_of_one_arm_has_nothing_to_compare_and_says_so(make_run):
    page = page_of(make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}}))
    assert "One arm only (plain): nothing to compare it with." in page
    assert 'id="verdicts-section"' not in page
    assert 'id="compute-section"' not in page
    verdicts = content_of(page)["sheets"]["verdicts"]
    assert verdicts["rows"] == []
    assert "verdict" in verdicts["ids"]


def test_a_run_that_logged_no_curve_says_so(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=10)
    for path in folder.glob("*/metrics.jsonl"):
        path.unlink()
    page = page_of(folder)
    assert "No training curve was logged (metrics.jsonl)." in page
    assert not any(name.startswith("curve") for name in content_of(page)["specs"])


def test_a_setting_is_copied_whole(make_run):
    pairs = [[number, [number, *range(8)]] for number in range(8)]
    page = page_of(make_run(steps=40, trunk_steps=20, every=10, config={"data": {"pairs": pairs}}))
    rows = {key: value for _, key, value in content_of(page)["sheets"]["settings"]["rows"]}
    assert json.loads(rows["pairs"]) == pairs


def test_a_run_without_pictures_has_no_place_for_them(page):
    assert "features-section" not in page
    assert content_of(page)["gallery"] is None
