"""The report as one self-contained page: what its template is filled with, and the page itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common.errors import printable
from reports import provenance, words
from reports.cautions import cautions
from reports.compared import Differences
from reports.estimates import primary
from reports.page import Look, looks
from reports.published_gram import NOT_COMPARABLE
from reports.results_table import legend_text
from reports.run_folder import Run
from reports.since_start import baseline_change
from reports.steady import moving
from reports.twin import bundle, charts, context, tables
from reports.twin.curves import Panel, batches, training
from reports.twin.gallery import MOST_BYTES, Gallery, gallery
from reports.twin.grid import Grid
from reports.twin.looks import Lane, lanes_of
from reports.twin.measures import EFFORT, Field, Used, fields, happened, means, singles
from reports.twin.sheets import embedded
from reports.twin.sizes import Sizes, sizes
from reports.verdict_pages import judged

HERE = Path(__file__).parent
MOST_BUT_VEGA = 6_500_000  # bytes of a page, of 8 MB in all


class Figure(NamedTuple):
    """A chart of the page: its name, what it shows in words, and which columns of which sheet its button copies."""

    name: str
    title: str
    sheet: str
    ids: Sequence[str]
    note: str = ""


def twin(run: Run, compared: Differences) -> str:
    """The page as HTML, which needs nothing beside it: no network, no other file; equal runs give equal pages."""
    arm_looks = looks(run.arms, run.baseline)
    lanes, known, used = lanes_of(run, arm_looks), fields(run), Used(run)
    steps = sorted({row.step for row in run.rows if row.arm in run.lanes})
    curves, curve_sheets = training(run)
    shares, share_sheets = batches(run)
    over, over_sheets = sizes(run)
    moves = moving(run)
    panels = [one for one in known if one.column in moves]
    grids = _grids(run, compared, arm_looks, known)
    settings, settings_sheet = tables.configuration(run)
    made = {
        "means": means(run, known, used),
        "singles": singles(run, known, used),
        "happened": happened(run, known, used),
        **curve_sheets,
        **share_sheets,
        **over_sheets,
        **{grid.name: grid.sheet for grid in grids.values()},
        "settings": settings_sheet,
    }
    sheets = {name: sheet.plain() for name, sheet in made.items()}
    specs = _specs(run, lanes, known, panels=panels, curves=[*curves, *shares], last=steps[-1])
    specs |= {one.name: charts.over_sizes(lanes, one.name, one.sizes) for one in over}
    pictures = gallery(run, compared, room=_room(sheets, specs))
    page = _template().render(
        **_said(run, compared),
        run=run,
        lanes=lanes,
        by_name={one.name: one for one in lanes},
        grids=grids,
        gallery=pictures,
        parts=_parts(grids, {"features": pictures, "sizes": over, "batches": shares}),
        steps=steps,
        axes=known,
        effort=EFFORT,
        plane=_plane(known),
        metrics=_metrics(panels),
        curves=curves,
        constants=[f"{one.title} {one.constant}" for one in curves if one.constant],
        moving=[_curve(one) for one in curves if not one.constant],
        batches=[_curve(one) for one in shares],
        sizes=[_size(one) for one in over],
        not_comparable=NOT_COMPARABLE,
        settings=settings,
        as_yaml=provenance.shown,
        style=Markup((HERE / "twin.css").read_text(encoding="utf-8")),
        glue=Markup((HERE / "twin.js").read_text(encoding="utf-8")),
        vega=bundle.script(),
        licences=Markup((HERE / "licences.txt").read_text(encoding="utf-8")),
        data=embedded(_data(run, steps, known=known, sheets=sheets, specs=specs, pictures=pictures)),
    )
    return printable(page)


def _room(sheets: Mapping[str, Any], specs: Mapping[str, Any]) -> int:
    """Bytes that the numbers leave to pictures; in the page they stand once more as tables, half as large."""
    held = len(embedded([sheets, specs]))
    return min(MOST_BYTES, MOST_BUT_VEGA - held - held // 2)


def _said(run: Run, compared: Differences) -> dict[str, Any]:
    """The sentences of the page."""
    return {
        "asked": words.asked(run),
        "said": words.headline(run, compared),
        "baseline_change": baseline_change(run),
        "interval_note": words.interval_note(run, compared),
        "cautions": cautions(run),
        "incomplete": words.incomplete(run),
        "legend": legend_text(run),
        "families": words.comparisons(one for _, arms in judged(run, compared) for one in arms),
    }


def _data(
    run: Run,
    steps: Sequence[int],
    *,
    known: Sequence[Field],
    sheets: Mapping[str, Any],
    specs: Mapping[str, Any],
    pictures: Gallery | None,
) -> dict[str, Any]:
    x, y = _axes(run, known)
    start = {"step": None, "hidden": [], "hiddenSeeds": [], "x": x, "y": y, "along": "step", "theme": ""}
    return {
        "name": run.name,
        "steps": steps,
        "stepsSaid": [words.count(step) for step in steps],
        "fields": {one.name: one.title for one in known},
        "sheets": sheets,
        "specs": specs,
        "gallery": pictures.plain() if pictures else None,
        "state": start | ({"image": "0", "kind": "components"} if pictures else {}),
    }


def _axes(run: Run, known: Sequence[Field]) -> tuple[str, str]:
    """What the trade-off is drawn of: the measures of the PDF's page, or what the run has in their place."""
    names = {one.column: one.name for one in known}
    across, up = primary(run, "global"), primary(run, "dense")
    first = next((one.name for one in known if one.column is not None), "step")
    if across is not None and up is not None:
        return names[across], names[up]
    return "step", names.get(up or across, first)


def _grids(run: Run, compared: Differences, arm_looks: Mapping[str, Look], known: Sequence[Field]) -> dict[str, Grid]:
    made = [tables.results(run, compared, arm_looks), tables.verdicts(run, compared), tables.since(run)]
    made += [tables.compute(run, compared), tables.overrides(run)]
    made += [context.lineage(run), context.signs(run, known), context.theirs(), context.ours(run, compared)]
    return {grid.name: grid for grid in made}


def _specs(
    run: Run,
    lanes: Sequence[Lane],
    known: Sequence[Field],
    *,
    panels: Sequence[Field],
    curves: Sequence[Panel],
    last: int,
) -> dict[str, charts.Spec]:
    x, y = _axes(run, known)
    found = {"plane": charts.trade_off(lanes, known, across=x, up=y, last=last)}
    for one in panels:
        found[one.name] = charts.panel(lanes, known, one, forks=run.forks, last=last)
    logged = max((float(curve["step"].values.max()) for curve in run.curves.values() if "step" in curve), default=0.0)
    for panel in (one for one in curves if not one.constant):
        found[panel.sheet] = charts.curve(lanes, panel, forks=run.forks, last=max(int(logged), run.steps or 0))
    return found


def _plane(known: Sequence[Field]) -> Figure:
    ids = ["arm", *EFFORT] + [
        f"{one.name}{end}" for one in known if one.column is not None for end in ("", "_low", "_high")
    ]
    return Figure("plane", "The trade-off: any measure against any other", "means", ids)


def _metrics(panels: Sequence[Field]) -> list[Figure]:
    return [
        Figure(
            one.name,
            one.title,
            "means",
            ["arm", *EFFORT, one.name, f"{one.name}_low", f"{one.name}_high"],
            f"{words.hint(one.column)} · {one.column.version}",
        )
        for one in panels
        if one.column is not None
    ]


def _curve(panel: Panel) -> Figure:
    return Figure(
        panel.sheet, panel.title, panel.sheet, ["arm", "seed", "step", "value"], "log scale" if panel.log else ""
    )


def _size(one: Sizes) -> Figure:
    return Figure(one.name, one.title, one.name, ["arm", "step", "size", "value", "low", "high"], one.note)


def _parts(grids: Mapping[str, Grid], others: Mapping[str, object]) -> list[tuple[str, str]]:
    """The sections of the page, by the names of their places; without tables of no line, and what else is empty."""
    named = {
        **{"results": "Results", "trade-off": "Trade-off", "features": "Features", "verdicts": "Verdicts"},
        **{"since": "Since the start", "compute": "Compute", "metrics": "Metrics", "sizes": "Input size"},
        **{"lineage": "Lineage", "losses": "Losses", "signs": "Label-free signs", "batches": "Batches"},
        **{"ours": "The paper's table", "provenance": "Configuration"},
    }
    absent = {name for name, grid in grids.items() if not grid.lines} | {
        name for name, one in others.items() if not one
    }
    return [(name, title) for name, title in named.items() if name not in absent]


@cache
def _template() -> Any:
    # what users wrote is text: it is escaped wherever it stands
    made = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return made.get_template("twin.html")
