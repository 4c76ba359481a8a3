"""The twin in a real browser: what a reader sees and does, with mouse, keyboard, on paper and on a telephone."""

import csv
import io
import json
import os
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from pypdf import PdfReader

from evals.results.pictured import ImageKey
from reports.compared import compare
from reports.live import watching
from reports.live.watching import following
from reports.run_folder import read
from reports.twin.page import twin
from tests.reports.features.conftest import THREE, add_pictures

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium, or name it in CHROMIUM"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory, whole):
    """A page with all that a twin can show, pictures too."""
    images = [ImageKey("scenes", "val", f"val/{number:06d}") for number in (0, 40)]
    folder = tmp_path_factory.mktemp("runs") / "rooms"
    shutil.copytree(whole, folder)
    add_pictures(folder, images)
    run = read(folder)
    path = folder / "report.html"
    path.write_text(twin(run, compare(run)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, report):
    """Opens the page; at its end nothing was said in the console, and nothing was fetched."""
    said, asked, pages = [], [], []

    def open_page(**how):
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **how})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-ready]")
        pages.append(page)
        return page

    yield open_page
    assert not said
    assert {url for url in asked if not url.startswith("data:")} == {report.as_uri()}
    for page in pages:
        page.close()


def at_the_trade_off(page):
    """Figures follow where they are on the screen."""
    page.locator(".chart[data-spec=plane]").scroll_into_view_if_needed()
    return page


def choose_step(page, place):
    """Another step than the one that is shown; until the trade-off shows it."""
    before = page.locator(".chart[data-spec=plane] svg").inner_html()
    page.locator("#step").evaluate(
        "(one, place) => { one.value = place; one.dispatchEvent(new Event('input', { bubbles: true })); }", place
    )
    page.wait_for_function(
        "(was) => document.querySelector('.chart[data-spec=plane] svg').innerHTML !== was", arg=before
    )


def paths(page):
    """How many there are in the trade-off once it has been the same for a second."""
    return page.evaluate(
        """async () => {
          let count = -1;
          for (let same = 0; same < 10; same++) {
            await new Promise((done) => setTimeout(done, 100));
            const now = document.querySelectorAll(".chart[data-spec=plane] svg path").length;
            if (now !== count) [count, same] = [now, 0];
          }
          return count;
        }"""
    )


def test_every_figure_is_drawn(opened):
    page = opened()
    charts = page.locator(".chart")
    assert charts.count() > 6
    has_lines = """(all) => all.map((chart) => [chart.dataset.spec, [...chart.querySelectorAll(".mark-line path")]
      .filter((line) => line.getAttribute("d")?.includes("L")).length])"""
    assert all(lines >= len(THREE) for _, lines in charts.evaluate_all(has_lines))


def test_the_slider_moves_figures_numbers_and_pictures(opened):
    page = at_the_trade_off(opened())
    seen = []
    for place in (6, 4):
        choose_step(page, place)
        drawn = page.locator(".chart[data-spec=plane] svg").inner_html()
        seen.append(
            (
                drawn,
                page.locator("#now tbody").inner_text(),
                page.locator("[data-map=anchored] img").get_attribute("src"),
            )
        )
        assert page.locator("[data-map=anchored] small").inner_text() == f"step {5 * place}"
        assert page.locator("#at").inner_text() == f"step {5 * place}"
    assert all(early != late for early, late in zip(*seen, strict=True))


def test_the_keyboard_reaches_the_slider_and_moves_it(opened):
    page = opened()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "step":
            break
    assert page.evaluate("document.activeElement.id") == "step"
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('#at').textContent === 'step 35'")


def test_an_arm_that_is_pointed_at_is_lit_everywhere(opened):
    page = opened()
    page.locator("#results-section tbody tr[data-arm=anchored] th").hover()
    page.wait_for_selector("[data-map=anchored].lit")
    assert page.locator("#now .lit").count() == 1
    lit = page.locator("[data-arm].lit").evaluate_all("all => all.map((one) => one.dataset.arm)")
    assert len(lit) > 3
    assert set(lit) == {"anchored"}
    at_the_trade_off(page).locator(".chips [data-arm=renewed]").hover()
    named = page.locator(".chart[data-spec=plane] .mark-text.role-mark text")
    expect(named).to_have_text(["renewed"])


def test_arms_and_seeds_can_be_switched_off(opened):
    page = at_the_trade_off(opened())
    whole = paths(page)
    page.locator("input[name=seed][value='1']").uncheck()
    page.wait_for_function("(n) => document.querySelectorAll('.chart[data-spec=plane] svg path').length < n", arg=whole)
    fewer = paths(page)
    page.locator("input[name=arm][value=anchored]").uncheck()
    page.wait_for_function("(n) => document.querySelectorAll('.chart[data-spec=plane] svg path').length < n", arg=fewer)
    assert "anchored" not in page.locator("#now tbody").inner_text()
    assert not page.locator("[data-map=anchored]").is_visible()
    expect(page.locator("#now caption")).to_have_text("At the chosen step")
    while (on := page.locator("input[name=arm]:checked")).count():
        on.first.uncheck()
    expect(page.locator("#now caption")).to_contain_text("No arm is switched on")


def test_any_measure_can_be_drawn_against_any_other(opened):
    page = at_the_trade_off(opened())
    before = page.locator(".chart[data-spec=plane] svg").inner_html()
    titles = page.locator("#x option").all_inner_texts()
    wanted = next(title for title in titles if title.startswith("Depth RMSE"))
    page.locator("#x").select_option(label=wanted)
    page.wait_for_function(
        "(was) => document.querySelector('.chart[data-spec=plane] svg').innerHTML !== was", arg=before
    )
    assert wanted in page.locator("#now thead").inner_text()


def test_a_sign_and_what_it_is_to_know_become_the_axes_at_one_press(opened):
    page = opened()
    page.locator("#signs-section .look").first.click()
    expect(page.locator("#x option:checked")).to_have_text("Locality on scenes")
    expect(page.locator("#y option:checked")).to_contain_text("mIoU on scenes")
    expect(page.locator(".chart[data-spec=plane]")).to_be_in_viewport()


def test_a_finger_that_taps_a_mark_is_told_its_value(opened):
    page = opened(viewport={"width": 360, "height": 800}, has_touch=True, is_mobile=True)
    told = page.locator("#vg-tooltip-element.visible")
    mark = at_the_trade_off(page).locator(".chart[data-spec=plane] .mark-symbol path").last
    mark.tap()
    expect(told).to_contain_text("step ")
    page.locator("#trade-off-title").tap()
    expect(told).to_have_count(0)


def test_columns_sort_by_their_numbers(opened):
    page = opened()
    head = page.locator("#results-section th", has_text="Depth RMSE").first
    for order in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        place = head.evaluate("(one) => [...one.parentElement.children].indexOf(one)")
        shown = page.locator(
            f"#results-section tbody tr > :nth-child({place + 1}) > span:first-child"
        ).all_inner_texts()
        numbers = [float(text) for text in shown]
        assert numbers == sorted(numbers, reverse=order == "descending")


def test_numbers_are_copied_as_csv(opened):
    page = opened()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")  # as of files in some browsers
    page.locator("#trade-off-section .copy").first.click()
    page.wait_for_selector("#by-hand[open]")
    rows = [*csv.reader(io.StringIO(page.locator("#by-hand textarea").input_value()))]
    assert rows[0][0] == "arm"
    assert {row[0] for row in rows[1:]} == {"trunk", *THREE}
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_all_can_be_read_and_no_barrier_is_serious(opened, width, scheme):
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    smallest = page.evaluate(
        """() => {
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          let least = Infinity;
          while (texts.nextNode()) {
            const one = texts.currentNode.parentElement;
            if (!texts.currentNode.data.trim() || !one.checkVisibility()) continue;
            if (one.closest("script, style, option")) continue;
            const placed = one.getScreenCTM?.() ?? { a: 1, b: 0 };
            const scale = Math.hypot(placed.a, placed.b);
            least = Math.min(least, parseFloat(getComputedStyle(one).fontSize) * scale);
          }
          return least;
        }"""
    )
    assert smallest >= 11
    found = Axe().run(page).response["violations"]
    serious = [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found
               if one["impact"] in ("serious", "critical")]  # fmt: skip
    assert not serious


def test_on_paper_all_parts_are_there_and_nothing_to_press(opened, tmp_path):
    page = opened(color_scheme="dark")
    page.pdf(path=tmp_path / "printed.pdf", prefer_css_page_size=True)
    pages = [one.extract_text() for one in PdfReader(tmp_path / "printed.pdf").pages]
    box = PdfReader(tmp_path / "printed.pdf").pages[0].mediabox
    assert box.width > box.height
    assert 3 <= len(pages) <= 20
    assert all(text.strip() for text in pages)
    heads = (
        "Verdicts in words",
        "Dense against global",
        "What the features look like",
        "Since the start",
        "Losses and",
    )
    assert all(any(head in text for text in pages) for head in heads)
    assert not any("CSV\n" in text for text in pages)


def test_a_served_page_follows_its_run_and_stays_where_it_was(browser, make_run, monkeypatch):
    monkeypatch.setattr(watching, "rest_after", lambda took: 0.0)  # made whenever something has changed
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}, "anchored": {"gram.weight": 2.0}})
    table, said = folder / "results.jsonl", []

    def measure(step):
        last = json.loads(table.read_text().splitlines()[-1])
        table.write_text(table.read_text() + json.dumps(last | {"step": step}) + "\n")
        assert live.refresh()

    def before_it_asked(route):
        measure(50)
        route.continue_()

    with following(folder) as live:
        live.refresh()
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.route("**/version", before_it_asked, times=1)
        page.goto(live.address)
        page.wait_for_function("document.querySelector('#at')?.textContent === 'step 50'")
        page.wait_for_selector("html[data-ready]")
        page.evaluate("scrollTo(0, 900)")
        measure(60)
        # figures that are drawn as they come into sight push what is below them: by less than half a screen
        near = "Math.abs(scrollY - 900) < innerHeight / 2"
        page.wait_for_function(f"document.querySelector('#at')?.textContent === 'step 60' && {near}")
        page.close()
    assert not said
