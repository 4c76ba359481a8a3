"""The report's pages in order: tables to matplotlib figures, one module per kind of page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reports.batches import batch_pages
from reports.compared import Differences
from reports.compute_pages import compute_pages
from reports.curves import metric_pages
from reports.features.pages import feature_pages
from reports.front_page import front_pages
from reports.graph_page import graph_pages
from reports.health_pages import health_pages
from reports.losses import loss_pages
from reports.page import Look, Page, looks, number_pages
from reports.provenance import provenance_pages
from reports.published_gram import published_pages
from reports.resolution import resolution_pages
from reports.run_folder import Run
from reports.since_pages import since_pages
from reports.spending_pages import spending_pages
from reports.tradeoff import tradeoff_page
from reports.tradeoff_grid import tradeoff_grid_pages
from reports.verdict_pages import verdict_pages

FRONT, CONTINUED_AFTER = "question and results", "compute"
PAGES: dict[str, Callable[[Run, Differences, Mapping[str, Look]], list[Page]]] = {
    FRONT: front_pages,
    "trade-off": lambda run, _, arm_looks: [tradeoff_page(run, arm_looks), *tradeoff_grid_pages(run, arm_looks)],
    "verdicts": verdict_pages,
    "since": lambda run, _, arm_looks: since_pages(run, arm_looks),
    "compute": compute_pages,
    "metrics": lambda run, _, arm_looks: metric_pages(run, arm_looks),
    "spending": lambda run, _, arm_looks: spending_pages(run, arm_looks),
    "graph": lambda run, _, arm_looks: graph_pages(run, arm_looks),
    "losses": lambda run, _, arm_looks: loss_pages(run, arm_looks),
    "health": lambda run, _, arm_looks: health_pages(run, arm_looks),
    "features": feature_pages,
    "resolution": lambda run, _, arm_looks: resolution_pages(run, arm_looks),
    "batches": lambda run, _, arm_looks: batch_pages(run, arm_looks),
    "published": published_pages,
    "provenance": lambda run, _, arm_looks: provenance_pages(run, arm_looks),
}


def render(run: Run, compared: Differences) -> list[Page]:
    """All pages, numbered; call it inside `reports.page.style()`.

    Page one is the first of `FRONT`; its other pages, tables that page one has no room for, wait until
    `CONTINUED_AFTER`, so that the trade-off is page two of every report.
    """
    arm_looks = looks(run.arms, run.baseline)
    drawn = {name: draw(run, compared, arm_looks) for name, draw in PAGES.items()}
    drawn[CONTINUED_AFTER] += drawn[FRONT][1:]
    drawn[FRONT] = drawn[FRONT][:1]
    pages = [page for group in drawn.values() for page in group]
    number_pages(pages, run.name)
    return pages
