"""A run's report while the run goes on: made anew when its tables change, and served to a browser."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jinja2 import Template

from common.disk import matching
from common.errors import BadInput, first_line, printable
from common.interrupts import Interrupted
from reports.arguments import LOOPBACK
from reports.compared import compare
from reports.live.server import LOCAL, Server
from reports.run_folder import read
from reports.twin.page import twin

EVERY = 2.0  # seconds from one look at the tables to the next
CURVES_EVERY = 30.0  # seconds after which training curves alone make a new page
SHARE = 0.1  # of the time for making pages, and more only where the rest would be longer than the longest
LONGEST = 20.0  # seconds that changed tables wait, unless a page takes longer
TABLES = ("experiment.json", "results.jsonl", "*-s*/status.json", "*-s*/dense.jsonl")
CURVES = ("*-s*/metrics.jsonl",)
HERE = Path(__file__).parent

log = logging.getLogger("gramlab")

Marks = tuple[tuple[str, int, int], ...]


class Follower:
    """Keeps the page of a server as new as the tables of a run's folder; until there is a report, one that waits."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        self._seen: tuple[Marks, Marks] | None = None
        self._made, self._took, self._waits = 0.0, 0.0, True
        self._wait("The tables are being read.")

    @property
    def address(self) -> str:
        """Of the page, for a browser on this machine."""
        name = {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": "::1"}.get(self.server.host, self.server.host)
        return f"http://{f'[{name}]' if ':' in name else name}:{self.server.port}/"

    @property
    def told(self) -> str:
        """Where it is, and for whom."""
        alone = self.server.host in LOCAL
        whom = "for this machine alone" if alone else f"for EVERYONE who reaches this machine at {self.server.host}"
        return f"{printable(self.folder.name)}, live: {self.address} ({whom}; Ctrl-C ends it)"

    def refresh(self) -> bool:
        """Make the page anew where the tables have changed and it is time to; whether it was."""
        marks = _marks(self.folder, TABLES), _marks(self.folder, CURVES)
        if self._seen is not None:
            since = time.monotonic() - self._made
            curves_alone = marks[0] == self._seen[0]
            if marks == self._seen or since < rest_after(self._took) or (curves_alone and since < CURVES_EVERY):
                return False
        begun = time.monotonic()
        self._make()
        self._seen, self._made = marks, time.monotonic()
        self._took = self._made - begun
        return True

    def _make(self) -> None:
        """A table that is being written or is damaged, or a figure that fails, leaves the page that there is."""
        try:
            run = read(self.folder)
            page = twin(run, compare(run))
        except Exception as error:  # a training may go on in this process
            if not isinstance(error, BadInput | OSError):
                log.warning("%s: no new page (%s: %s)", self.folder.name, type(error).__name__, first_line(error))
            if self._waits:
                begun = (self.folder / "experiment.json").exists()
                self._wait(first_line(error) + ("" if begun else ". If no run begins in it, it is no run's folder"))
            return
        self._waits = False
        self._show(page)

    def _wait(self, why: str) -> None:
        page = Template((HERE / "waiting.html").read_text(encoding="utf-8"), autoescape=True)
        self._show(printable(page.render(name=self.folder.name, why=why)))

    def _show(self, page: str) -> None:
        """Serve the page, with the script that asks whether there is another version than its own."""
        version = hashlib.sha256(page.encode()).hexdigest()[:16]
        script = (HERE / "live.js").read_text(encoding="utf-8")
        head, _, tail = page.rpartition("</body>")
        made = json.dumps(time.strftime("%H:%M:%S"))
        told = f'const shown = "{version}", made = {made};'
        content = f'{head}<script type="module">{told}\n{script}</script></body>{tail}'
        self.server.page, self.server.version = content.encode(), version


def rest_after(took: float) -> float:
    """Seconds until the next page after one that took so many: of the time pages have at most half."""
    return max(min(took / SHARE, LONGEST), took)


def _marks(folder: Path, patterns: tuple[str, ...]) -> Marks:
    """What changes when a file does."""
    found = []
    for path in (path for pattern in patterns for path in matching(folder, pattern)):
        try:
            state = path.stat()
        except OSError:  # it is just being replaced
            continue
        found.append((str(path), state.st_mtime_ns, state.st_size))
    return tuple(found)


@contextmanager
def following(folder: Path, *, host: str = LOOPBACK, port: int = 0) -> Iterator[Follower]:
    """Serve the report of a run's folder inside; call `refresh` there. Raises `BadInput` where there is no folder."""
    if not folder.is_dir():
        raise BadInput(f"got no folder {folder}: want the folder of a run; give runs/<experiment>")
    with Server(folder, host, port) as server:
        page = Follower(folder, server)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        thread.start()
        try:
            yield page
        finally:
            server.shutdown()
            thread.join()


def watch(folder: Path, *, host: str = LOOPBACK, port: int = 0) -> int:
    """`gramlab report --watch`: serve until Ctrl-C, which is how it ends; returns the exit code."""
    with following(folder, host=host, port=port) as page:
        print(page.told, flush=True)
        if sys.stdout.isatty():
            open_browser(page.address)
        stay(page)
    return 0


def stay(page: Follower) -> None:
    """Keep the page as new as the tables until Ctrl-C."""
    try:
        while True:
            page.refresh()
            time.sleep(EVERY)
    except Interrupted as end:
        if end.code != 130:  # ended by another signal than Ctrl-C
            raise
        print(flush=True)


def open_browser(address: str) -> None:
    """Where one is at hand that has a window of its own."""
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(address)
