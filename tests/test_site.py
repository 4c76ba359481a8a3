"""The site of docs/: built as `make docs` builds it, it leads nowhere wrong and fetches nothing."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

markdown = pytest.importorskip("markdown")
markdown_it = pytest.importorskip("markdown_it")
pytest.importorskip("material", reason="`make docs` installs what the site is built with")

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
# what a reader sees the structure of a page by
SEEN = {"h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "tr", "th", "td", "pre", "code", "em", "strong", "a", "img"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    told = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    return folder


class Page(HTMLParser):
    """The tags and words of a page in their order, and what its links and sources name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.shape: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.anchors: set[str] = set()
        self._words = ""
        self.feed(text)
        self._end_words()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.add(given.get("id") or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        else:
            self.sources += [given[name] or "" for name in ("src", "href") if name in given]
        if tag in SEEN:
            self._end_words()
            self.shape.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        if tag in SEEN or tag == "p":
            self._end_words()
        if tag in SEEN:
            self.shape.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self._words += data

    def _end_words(self) -> None:
        words = " ".join(self._words.split())
        self.shape += [words] if words else []
        self._words = ""


def built(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}


def test_the_site_fetches_nothing(site):
    fetched = {source for page in built(site).values() for source in page.sources if "//" in source}
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert fetched == set()
    assert re.findall(r"url\(\"?(https?:[^)]*)|@import", styles) == []


def test_every_link_of_the_site_leads_to_a_file_and_an_anchor_of_it(site):
    pages = built(site)
    lost = []
    for path, page in pages.items():
        for link in page.links:
            place, _, anchor = unquote(link).partition("#")
            if place.startswith(("http://", "https://")):
                continue
            there = (path.parent / place).resolve() if place else path
            known = pages[there].anchors if there in pages else {""}
            if not there.is_file() or (anchor and anchor not in known):
                lost.append((path.relative_to(site).as_posix(), link))
    assert lost == []


def test_what_lies_outside_of_the_pages_is_shown_by_a_page(site):
    shown = (site / "repository/evals/protocols/knn-quick.yaml.html").read_text(encoding="utf-8")
    assert "Weighted nearest neighbours on class tokens" in shown
    listed = (site / "repository/docs/results/degradation.html").read_text(encoding="utf-8")
    assert 'href="../../../results/degradation/results.parquet"' in listed


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_site_reads_a_page_as_github_does(path):
    """Else: four spaces in front of what belongs to an item of a list, and an empty line before the next item."""
    text = re.sub(r"\A---\n.*?\n---\n", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    rows = re.sub(r"^\|.*$", lambda row: row[0].replace("\\|", "¦"), text, flags=re.MULTILINE)
    extensions = [name if isinstance(name, str) else next(iter(name)) for name in SETTINGS["markdown_extensions"]]
    kept = [name for name in extensions if name not in ("toc", "pymdownx.highlight")]
    ours = markdown.markdown(rows, extensions=kept, extension_configs={"pymdownx.superfences": {}})
    github = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(rows)
    assert Page(ours).shape == Page(github).shape
