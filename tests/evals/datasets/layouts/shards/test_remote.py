"""Shards behind a server: by ranges of bytes alone, and with one line where it fails."""

import base64
import os
import re
import shlex
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from common.errors import BadInput
from common.workers import batches
from evals.datasets.catalogue import open_set
from evals.datasets.layouts.shards import places
from evals.datasets.settings import Set
from harness.data.pool import open_pool
from harness.data_settings import Data
from tests.evals.datasets.layouts.shards.test_shards import packed, png

pytest.importorskip("aiohttp")  # of the extra `remote`
ROOT = Path(__file__).parents[5]


class Ranges(SimpleHTTPRequestHandler):
    """Serves a folder by ranges, and takes down how many bytes it gave."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        content = (self.server.folder / self.path.lstrip("/")).read_bytes()
        if self.server.password not in (None, self.headers.get("Authorization")):
            self.send_error(401)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if self.server.fails > 0:
            self.server.fails -= 1
            self.send_error(503)
            return
        first, last = map(int, asked.groups()) if asked and self.server.ranges else (0, len(content) - 1)
        part = content[first : last + 1]
        self.send_response(206 if len(part) < len(content) else 200)
        if len(part) < len(content):
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self._head(len(part))
        self.wfile.write(part)
        self.server.given.append((first, len(part)))

    def do_HEAD(self):
        path = self.server.folder / self.path.lstrip("/")
        if not path.exists():
            self.send_error(404)
            return
        if self.server.password not in (None, self.headers.get("Authorization")):
            self.send_error(401)
            return
        self.send_response(200)
        self._head(path.stat().st_size)

    def _head(self, length):
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A server on this machine with two shards of five images, and its address."""
    for number in range(2):
        own = range(5 * number, 5 * number + 5)
        members = [pair for n in own for pair in ((f"{n}.png", png(n)), (f"{n}.cls", str(n % 2).encode()))]
        packed(tmp_path / f"a-{number}.tar", members)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    server.folder, server.given, server.ranges, server.fails = tmp_path, [], True, 0
    server.password = None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server, f"http://127.0.0.1:{server.server_port}/a-{{0..1}}.tar"
    server.shutdown()
    thread.join()
    server.server_close()


def test_images_come_from_a_server_by_their_own_bytes(served, tmp_path):
    server, url = served
    found = open_set("shards", root=url, cache=tmp_path / "cache")
    disk = open_set("shards", root=tmp_path / "a-{0..1}.tar")
    assert found.fingerprint() == disk.fingerprint()
    server.given.clear()
    for at in (7, 2, 9):
        assert np.array_equal(found.image(at), disk.image(at))
    assert [length for _, length in server.given] == [512 + len(png(at)) for at in (7, 2, 9)]


def test_an_index_in_the_cache_asks_for_no_more_than_a_look(served, tmp_path):
    server, url = served
    open_set("shards", root=url, cache=tmp_path / "cache")
    server.given.clear()
    open_set("shards", root=url, cache=tmp_path / "cache")
    assert len(server.given) == 1 + 8  # whether it gives ranges, and pictures that are looked at
    assert sum(length for _, length in server.given) < 8 * 1024


def test_worker_processes_read_from_the_server_too(served, tmp_path):
    _, url = served
    found = open_set("shards", root=url, cache=tmp_path / "cache")
    disk = open_set("shards", root=tmp_path / "a-{0..1}.tar")
    made = list(batches(found.image, 10, workers=2))
    assert all(np.array_equal(image, disk.image(at)) for at, image in enumerate(made))


def test_what_fails_for_a_moment_is_asked_again_and_what_fails_on_is_told_in_a_line(served, monkeypatch, tmp_path):
    server, url = served
    monkeypatch.setattr(places, "WAITS", (0.0, 0.0))
    found = open_set("shards", root=url)
    server.fails = 2
    assert np.array_equal(found.image(3), open_set("shards", root=tmp_path / "a-{0..1}.tar").image(3))
    server.fails = 9
    with pytest.raises(BadInput, match=r"got no answer for http://\S+/a-0\.tar \(.*\): want its store"):
        found.image(3)


@pytest.mark.parametrize("fails", [1, 2])  # the first bytes, or a part in the midst of the shard
def test_a_server_that_fails_while_a_shard_is_indexed_is_asked_again(served, monkeypatch, tmp_path, fails):
    _, url = served
    monkeypatch.setattr(places, "WAITS", (0.0,))
    monkeypatch.setattr(places, "BLOCK", 1024)
    whole, asked = Ranges.do_GET, []

    def cut(self):
        asked.append(self.path)
        if len(asked) == fails + 1:
            self.close_connection = True  # as a server that goes down in the midst of an answer
            self.connection.close()
        else:
            whole(self)

    monkeypatch.setattr(Ranges, "do_GET", cut)
    assert len(open_set("shards", root=url)) == 10


def test_a_store_that_is_away_is_not_blamed_on_an_image(served, monkeypatch):
    server, url = served
    monkeypatch.setattr(places, "WAITS", ())
    pool = open_pool(Data(sources={"photos": Set(kind="shards", root=url)}, unreadable="skip", unreadable_share=1.0))
    server.fails = 99
    for ask in (pool.image, pool.fault):
        with pytest.raises(
            BadInput, match=r"got no answer for .*/a-0\.tar .*; no image is at fault: give the same"
        ) as told:
            ask(3)
        assert "exclude" not in str(told.value)
    assert not pool.stand_in.skipped


def test_credentials_are_read_from_netrc_as_the_refusal_says(served, tmp_path):
    server, url = served
    server.password = "Basic " + base64.b64encode(b"me:secret").decode()
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    code = "import sys; from evals.datasets.catalogue import open_set; print(len(open_set('shards', root=sys.argv[1])))"
    name, _, value = places.NETRC.partition("=")
    for extra, said in (({}, "401"), ({name: shlex.split(value)[0]}, "10\n")):
        env = {**os.environ, "NETRC": str(tmp_path / "netrc"), **extra}
        done = subprocess.run([sys.executable, "-c", code, url], env=env, capture_output=True, text=True, cwd=ROOT)
        assert said in done.stdout + done.stderr


def test_a_server_without_ranges_is_refused(served, monkeypatch):
    server, url = served
    monkeypatch.setattr(places, "WAITS", ())
    server.ranges = False
    with pytest.raises(BadInput, match="want one that does"):
        open_set("shards", root=url)


def test_a_missing_shard_is_named(served, monkeypatch):
    _, url = served
    with pytest.raises(BadInput, match=r"got no shard http://\S+/a-2\.tar: want files"):
        open_set("shards", root=url.replace("0..1", "0..2"))
