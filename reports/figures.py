"""The report's pages in order: tables to matplotlib figures, one module per kind of page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reports.curves import metric_pages
from reports.front_page import front_pages
from reports.losses import loss_pages
from reports.page import Look, Page, looks, number_pages
from reports.provenance import provenance_pages
from reports.run_folder import Run
from reports.tradeoff import tradeoff_page

PAGES: dict[str, Callable[[Run, Mapping[str, Look]], list[Page]]] = {
    "question and results": front_pages,
    "trade-off": lambda run, arm_looks: [tradeoff_page(run, arm_looks)],
    "metrics": metric_pages,
    "losses": loss_pages,
    "provenance": provenance_pages,
}


def render(run: Run) -> list[Page]:
    """All pages, numbered; call it inside `reports.page.style()`."""
    arm_looks = looks(run.arms, run.baseline)
    pages = [page for draw in PAGES.values() for page in draw(run, arm_looks)]
    number_pages(pages, run.name)
    return pages
