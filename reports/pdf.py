"""Pages as one PDF, and how fine they are as pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.backends.backend_pdf import PdfPages

from common.drawing import make_drawable
from common.progress import Bar
from reports.page import Page

PNG_DPI = 130


def as_pdf(pages: Sequence[Page], *, title: str, bar: str = "report") -> bytes:
    """The pages as one PDF, every text in letters that its font has."""
    # without a creation date the same tables give the same bytes
    metadata = {"Title": f"Gramlab: {title}", "Creator": "Gramlab", "CreationDate": None}
    content = io.BytesIO()
    pdf = PdfPages(content, metadata=metadata)  # closed on success alone: a page that failed would fail it once more
    for page in Bar(pages, desc=bar, unit="page", lines=False):
        make_drawable(page.figure)
        pdf.savefig(page.figure)
    pdf.close()
    return content.getvalue()
