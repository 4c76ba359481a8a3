"""What the site needs beyond the pages: what they link to outside of docs/, and folders, as pages of their own."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
LANGUAGES = {".yaml": "yaml", ".py": "python", ".toml": "toml", ".sh": "bash"}
# GitHub shows a link that leaves docs/ as the file, and one to a folder as its list
OUTSIDE = re.compile(r"\]\((?P<place>\.\./[^)#\s]+|[\w/.-]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Headings get GitHub's anchors, so that a link leads to the same place in both."""
    config.mdx_configs["toc"] = config.mdx_configs.get("toc", {}) | {"slugify": slugify(case="lower")}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside of docs/, and each folder inside, that a page links to."""
    shown = {}
    for file in files.documentation_pages():
        for match in OUTSIDE.finditer(file.content_string):
            path = target(match["place"])
            if path is not None:
                shown[address(path)] = path
    for uri, path in shown.items():
        text = listing(path) if path.is_dir() else shown_file(path)
        files.append(File.generated(config, uri, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to what is outside lead to its page; in code within a table, GitHub's escaped bar is a bar."""
    at_home = OUTSIDE.sub(lambda match: homed(match, page.file.src_uri), markdown)
    return re.sub(r"^\|.*$", lambda row: re.sub(r"`[^`]*`", _bare_bars, row[0]), at_home, flags=re.MULTILINE)


def homed(match: re.Match[str], page: str) -> str:
    """The link as the site has it, from the page at `page`."""
    path = target(match["place"])
    if path is None:
        return match[0]
    return f"]({posixpath.relpath(address(path), posixpath.dirname(page))})"


def target(place: str) -> Path | None:
    """The file outside of docs/, or the folder inside, that `place` names; None where the site has it, or nobody."""
    path = Path(os.path.normpath(DOCS / place))
    wanted = path.is_dir() if path.is_relative_to(DOCS) else path.is_file()
    return path if wanted and path.is_relative_to(ROOT) else None


def address(path: Path) -> str:
    """Where the page of a file or a folder lies in the site."""
    return f"repository/{path.relative_to(ROOT).as_posix()}.md"


def shown_file(path: Path) -> str:
    fence = "`" * 8
    language = LANGUAGES.get(path.suffix, "text")
    text = path.read_text(encoding="utf-8")
    return f"# {path.relative_to(ROOT).as_posix()}\n\n{fence}{language}\n{text}\n{fence}\n"


def listing(folder: Path) -> str:
    """The files of a folder of docs/ with their sizes."""
    name = folder.relative_to(ROOT).as_posix()
    rows = [
        f"| [{path.name}]({posixpath.relpath(path.relative_to(DOCS).as_posix(), posixpath.dirname(address(folder)))}) "
        f"| {path.stat().st_size / 1000:,.0f} kB |"
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
    return "\n".join([f"# {name}", "", "| file | size |", "|---|---|", *rows, ""])


def _bare_bars(code: re.Match[str]) -> str:
    return code[0].replace("\\|", "|")
