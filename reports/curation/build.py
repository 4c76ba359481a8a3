"""Renders `curation.pdf`, beside the manifest: what was asked and kept, sizes of clusters, contact sheets, drops."""

from __future__ import annotations

from pathlib import Path

from common.disk import whole
from reports.curation.front import front_page
from reports.curation.sheets import sheet_pages
from reports.curation.sizes import sizes_page
from reports.curation.story import Story
from reports.page import number_pages, style
from reports.pdf import as_pdf

NAME = "curation.pdf"


def build(story: Story, folder: Path) -> Path:
    """Write the PDF, whole at the end; returns its path."""
    target = folder / NAME
    with style():
        pages = [front_page(story), sizes_page(story.sizes)]
        pages += [page for sheet in story.sheets for page in sheet_pages(sheet)]
        number_pages(pages, story.name)
        pdf = as_pdf(pages, title=story.name)
    with whole(target) as new:
        new.write_bytes(pdf)
    return target
