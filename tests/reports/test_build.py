import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.backends.backend_pdf import PdfPages
from pypdf import PdfReader

from common import disk
from evals.results.table import load
from reports.build import build, main
from reports.figures import PAGES

pytestmark = pytest.mark.slow  # whole runs and whole PDFs

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"steps": 40, "trunk_steps": 20, "every": 10}
TWO = {"plain": {}, "anchored": {"gram.weight": 2.0, "gram.start_step": 20, "gram.update_every": 10}}


def _pages(path):
    return [" ".join(page.extract_text().replace("\u00a0", " ").split()) for page in PdfReader(path).pages]


def test_the_report_has_its_pages_on_a4_landscape(ablation):
    path = ablation / "report.pdf"
    pages = _pages(path)
    heads = [
        "Does Gram anchoring",
        "Dense against global",
        "What was shown",
        "Since the start",
        "Equal steps, equal compute",
        "Each metric over",
        "What came from what",
        "Losses and schedules",
        "The paper's table",
        "Configuration and",
    ]
    names = [next(head for head in heads if head in page) for page in pages]  # a head may go on to further pages
    assert list(dict.fromkeys(names)) == heads
    assert all(f"{number} / {len(pages)}" in page and "gram_ablation" in page for number, page in enumerate(pages, 1))
    box = PdfReader(path).pages[0].mediabox
    assert (round(box.width / 72, 2), round(box.height / 72, 2)) == (11.69, 8.27)


def test_page_one_tells_question_findings_and_cautions(ablation):
    first = _pages(ablation / "report.pdf")[0]
    assert "double_resolution vs plain at step 40: mIoU +" in first
    assert "over evaluation images only (one seed" in first
    assert "One seed: differences between arms prove nothing." in first
    assert "baseline" in first
    assert "Incomplete" not in first


def _assert_page_two_is_the_trade_off(pages):
    assert "Dense against global" in pages[1]
    titles = ["What was shown", "Results, continued", "Each metric over", "Losses and schedules", "Configuration and"]
    firsts = [next(number for number, page in enumerate(pages) if title in page) for title in titles]
    assert firsts == sorted(firsts)
    return pages[firsts[1]]


def test_eight_columns_leave_the_primary_ones_on_page_one(bare_run, two_sets):
    arms = ["plain", *(f"arm{n}" for n in range(4))]
    pages = _pages(build(bare_run(two_sets(["trunk", *arms]), steps=40, trunk_steps=20)))
    further = _assert_page_two_is_the_trade_off(pages)
    assert all(title in pages[0] for title in ("kNN top-1", "Linear top-1", "Depth RMSE"))
    assert "streets, %" in pages[0]
    assert "rooms, %" in pages[0]
    assert "Pixel accuracy" not in pages[0]
    assert further.count("Pixel accuracy") == 2
    assert "Depth δ1" in further
    assert all(arm in page for arm in arms for page in (pages[0], further))


def test_eight_arms_stand_on_page_one(make_run):
    arms = {f"renewed_every_{n}": {"gram.weight": float(n)} for n in range(8)}
    pages = _pages(build(make_run(arms=arms, died=True, **SMALL)))
    assert "Dense against global" in pages[1]
    assert all(f"{arm} gram.weight" in pages[0] for arm in [*arms][1:])
    assert not any("Results, continued" in page for page in pages)
    assert "± is half" in pages[0]


def test_arms_without_a_place_on_page_one_follow_before_the_metrics(bare_run, two_sets):
    arms = [f"arm{n:02d}" for n in range(30)]
    pages = _pages(build(bare_run(two_sets(arms), baseline="arm00", steps=40)))
    _assert_page_two_is_the_trade_off(pages)
    tables = [page for page in pages if "kNN top-1 Linear top-1" in page or "Results, continued" in page]
    assert all(any(arm in page for page in tables) for arm in arms)


def test_page_one_shows_peak_memory(ablation):
    first = _pages(ablation / "report.pdf")[0]
    assert "peak memory" in first
    assert first.count("1.4 GiB") == 7


def test_several_seeds_speak_of_seeds(make_run):
    first = _pages(build(make_run(seeds=(0, 1, 2), arms=TWO, **SMALL)))[0]
    assert "intervals over 3 seeds and the evaluation images, paired by both" in first
    assert "evaluation images only" not in first
    assert "One seed" not in first


def test_a_run_that_died_says_what_is_missing(make_run):
    first = _pages(build(make_run(died=True, **SMALL)))[0]
    assert "Incomplete" in first
    assert "renewed: failed at step 30 of 40 (step 300: dino_global=nan, ibot=7.1)" in first
    assert "double_resolution: interrupted at step 30 of 40" in first
    assert "homogeneous: not started" in first


def test_the_command_says_what_is_missing_or_damaged(make_run, capsys):
    folder = make_run(died=True, **SMALL)
    with (folder / "results.jsonl").open("a") as table:
        table.write('{"arm": "plain", "va')
    assert main([str(folder)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{folder / 'report.pdf'}\n"
    assert "homogeneous: not started\n" in said.err
    assert "results.jsonl:67: " in said.err


def test_one_evaluated_step_is_enough(make_run):
    pages = _pages(build(make_run(arms=TWO, steps=1, trunk_steps=0, every=10)))
    assert len(pages) == 9
    assert "anchored vs plain at step 1" in pages[0]


def test_a_run_that_died_in_its_trunk_still_gives_a_report(bare_run, make_row):
    dense = {"eval": "segmentation", "metric": "miou"}
    rows = [make_row(arm="trunk", step=step, **kind) for step in (0, 10) for kind in ({}, dense)]
    pages = _pages(build(bare_run(rows, arms={"plain": {}, "anchored": {}}, steps=40, trunk_steps=20)))
    assert "plain, anchored: not started" in pages[0]
    assert "anchored vs plain: no step behind their start was evaluated for both" in pages[0]


def test_rows_alone_are_enough(bare_run, make_row):
    pages = _pages(build(bare_run([make_row(low=float("nan"), high=float("nan"))])))
    assert "needs a global measure" in pages[1]
    assert "No training curve" in pages[4]


def test_a_measure_without_a_finite_value_is_shown_as_such(bare_run, make_row):
    pages = _pages(build(bare_run([make_row(), make_row(eval="depth", metric="rmse", value=float("nan"))])))
    assert "no finite value" in pages[2]
    assert "not a finite number" in pages[0]


def test_dollars_and_long_words_in_names_do_no_harm(bare_run, make_row):
    rows = [make_row(), make_row(arm="cost_$x_$y^2"), make_row(metric="new$metric", eval="other", dataset="d" * 90)]
    assert "cost_$x_$y^2" in _pages(build(bare_run(rows, question="What is $1? " * 60)))[0]


def test_unlike_protocols_are_flagged(bare_run, make_row):
    first = _pages(build(bare_run([make_row(), make_row(arm="anchored", protocol_hash="bb")])))[0]
    assert "measured under 2 protocols" in first
    assert "#aa" in first
    assert "#bb" in first


def test_the_same_tables_give_the_same_bytes_and_pictures_on_request(make_run, tmp_path, fonts_cut_anew):
    folder = make_run(arms=TWO, **SMALL)
    names = ("results.csv", "verdicts.csv")
    first, tables = build(folder).read_bytes(), [(folder / name).read_bytes() for name in names]
    fonts_cut_anew()
    assert build(folder, png=tmp_path / "pictures").read_bytes() == first
    assert [(folder / name).read_bytes() for name in names] == tables
    assert b"CreationDate" not in first
    written = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    count = len(_pages(folder / "report.pdf"))
    assert written == sorted(f"page-{number}.png" for number in range(1, count + 1))


def test_fonts_are_embedded(ablation):
    fonts = [
        font.get_object()
        for page in PdfReader(ablation / "report.pdf").pages
        for font in page["/Resources"]["/Font"].values()
    ]
    assert fonts
    assert all(_embedded(font) for font in fonts)


def _embedded(font):
    described = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
    return "/FontFile2" in described["/FontDescriptor"] or font["/Subtype"] == "/Type3"


def test_results_csv_holds_the_rows_exactly(ablation):
    keys = ["arm", "seed", "step", "eval", "dataset", "metric"]
    expected = load(ablation / "results.jsonl").astype({"seed": int, "step": int})
    table = pd.read_csv(ablation / "results.csv", dtype=str)[expected.columns].astype(expected.dtypes)
    first, second = (frame.sort_values(keys, ignore_index=True) for frame in (table, expected))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_the_command_works_without_torch_from_anywhere(make_run, tmp_path):
    folder = make_run(arms=TWO, **SMALL)
    code = (
        "import atexit, runpy, sys; sys.argv = sys.argv[1:]\n"
        "atexit.register(lambda: print(sorted({'torch', 'timm', 'mmseg'} & set(sys.modules))))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    script = str(ROOT / "reports" / "build.py")
    done = subprocess.run(
        [sys.executable, "-c", code, script, str(folder)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(folder / "report.pdf"), "[]"]


BROKEN = {
    "nothing": lambda folder: folder.rename(folder.parent / "elsewhere"),
    "a file": lambda folder: (folder.rename(folder.parent / "elsewhere"), folder.write_text("a file")),
    "no rows": lambda folder: (folder / "results.jsonl").write_text(""),
    "no experiment": lambda folder: (folder / "experiment.json").unlink(),
    "a record of another version": lambda folder: _rewritten(folder / "experiment.json", seeds="0"),
    "rows of another version": lambda folder: _rewritten(folder / "results.jsonl", protocol_hash=None),
    "a file for the pictures": lambda folder: (folder.parent / "png").write_text("a file"),
}


def _rewritten(path, **changes):
    """Each line of a file of records, with other values or, for None, without them."""
    rows = [{**json.loads(line), **changes} for line in path.read_text().splitlines()]
    lines = [json.dumps({key: value for key, value in row.items() if value is not None}) for row in rows]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "words", [["--png", "pages", "--tables"], ["--png", "pages", "--watch"], ["--tables", "--watch"]]
)
def test_what_contradicts_itself_is_refused_in_one_line(make_run, capsys, words):
    assert main([str(make_run(arms=TWO, **SMALL)), *words]) == 2
    assert re.fullmatch(rf"gramlab: got {words[0]} with {words[-1]}, which .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("broken", BROKEN)
def test_bad_input_is_one_line_and_leaves_the_old_report(make_run, tmp_path, capsys, broken):
    folder = make_run(arms=TWO, **SMALL)
    (folder / "report.pdf").write_bytes(b"old")
    BROKEN[broken](folder)
    assert main([str(folder), "--png", str(tmp_path / "png")]) == 2
    said = capsys.readouterr().err
    named = folder / "experiment.json" if broken == "a record of another version" else "got"
    assert said.startswith(f"gramlab: {named} ")
    assert ": want " in said
    assert said.count("\n") == 1
    kept = tmp_path / "elsewhere" if (tmp_path / "elsewhere").exists() else folder
    assert (kept / "report.pdf").read_bytes() == b"old"


def test_a_failure_while_drawing_leaves_the_old_report_and_no_litter(make_run, monkeypatch):
    def fails(run, compared, arm_looks):
        raise ValueError("a page that cannot be drawn")

    folder = make_run(arms=TWO, **SMALL)
    (folder / "report.pdf").write_bytes(b"old")
    monkeypatch.setitem(PAGES, "losses", fails)
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(ValueError, match="cannot be drawn"):
        build(folder)
    assert (folder / "report.pdf").read_bytes() == b"old"
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_page_that_cannot_be_drawn_is_the_only_error_and_leaves_the_old_report(ablation, monkeypatch, checksums):
    def fails(*args, **kwargs):
        raise ValueError("a page that cannot be drawn")

    build(ablation)
    before = checksums(ablation)
    monkeypatch.setattr(PdfPages, "savefig", fails)
    with pytest.raises(ValueError, match="a page that cannot be drawn") as error:
        build(ablation)
    assert error.value.__context__ is None
    assert checksums(ablation) == before


def test_a_report_that_finds_no_room_is_one_line_and_leaves_the_old_one(ablation, capsys, checksums, files_at_most):
    build(ablation)
    before = checksums(ablation)
    capsys.readouterr()
    with files_at_most(10_000):
        assert main([str(ablation)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gramlab: ")]
    assert said == [
        f"gramlab: cannot write {ablation}/report.pdf (File too large): raise the limit on the size of files (ulimit "
        "-f); the same command does it again"
    ]
    assert checksums(ablation) == before


def test_what_a_killed_report_left_goes_with_the_next_one(ablation, checksums):
    build(ablation)
    before = checksums(ablation)
    dead = ablation / ".partial-of-the-dead"
    dead.mkdir()
    (dead / "report.pdf").write_bytes(b"half")
    disk.sweep.cache_clear()  # a process looks once
    build(ablation)
    assert checksums(ablation) == before
