"""The storage of a study: workers that make it at the same moment, and looks that make none."""

from __future__ import annotations

import os
import socket
import struct
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from common.errors import BadInput
from harness.sweep_settings import Sweep
from harness.sweeps.storage import is_there, opened

SERVER = os.environ.get("GRAMLAB_POSTGRES", "")
WORKERS = 4


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.skipif(not SERVER, reason="no server"))])
def url(request, tmp_path) -> Iterator[str]:
    """A database that nobody has used yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    name = f"new_{os.getpid()}_{time.time_ns()}"
    server = SERVER.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(server, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield urllib.parse.urlsplit(SERVER)._replace(path=f"/{name}").geturl()
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # what silences them is for one thread
def test_workers_that_open_a_new_database_at_once_all_get_it(url, tmp_path):
    together = Barrier(WORKERS)

    def worker(_: int) -> int:
        together.wait()
        return len(opened(Sweep(storage=url), tmp_path).get_all_studies())

    with ThreadPoolExecutor(WORKERS) as hands:
        assert [*hands.map(worker, range(WORKERS))] == [0] * WORKERS


def test_a_look_into_a_new_database_makes_nothing_there(url, tmp_path):
    assert not is_there(Sweep(storage=url), tmp_path)
    assert not is_there(Sweep(storage=url), tmp_path)
    opened(Sweep(storage=url), tmp_path)
    assert is_there(Sweep(storage=url), tmp_path)


@pytest.fixture
def asking() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a server of PostgreSQL's protocol that asks for a password, and those it was told."""
    told, server = list[bytes](), socket.create_server(("127.0.0.1", 0))

    def exactly(client: socket.socket, count: int) -> bytes:
        return b"" if not count else client.recv(count, socket.MSG_WAITALL)

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                while True:  # encryption is asked for first, and refused
                    (length,) = struct.unpack("!I", exactly(client, 4))
                    (code,) = struct.unpack("!I", exactly(client, length - 4)[:4])
                    if code not in (80877103, 80877104):
                        break
                    client.sendall(b"N")
                client.sendall(b"R" + struct.pack("!II", 8, 3))  # the password in clear
                kind = exactly(client, 1)
                if kind == b"p":
                    (length,) = struct.unpack("!I", exactly(client, 4))
                    told.append(exactly(client, length - 4).rstrip(b"\0"))

    thread = Thread(target=serve)
    thread.start()
    yield server.getsockname()[1], told
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.mark.parametrize("place", ["PGPASSWORD", "PGPASSFILE"])  # PGPASSFILE stands for ~/.pgpass
def test_a_password_is_read_where_the_refusal_of_one_in_the_address_says(asking, monkeypatch, tmp_path, place):
    pytest.importorskip("psycopg")  # of the extra `postgres`
    port, told = asking
    with pytest.raises(BadInput, match=r"storage='postgresql://…@\S+': want it without a .*~/\.pgpass as HOST:"):
        Sweep(storage=f"postgresql://me:s3cret@127.0.0.1:{port}/name")
    file = tmp_path / "pgpass"
    file.write_text(f"127.0.0.1:{port}:name:me:s3cret\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    monkeypatch.setenv(place, str(file) if place == "PGPASSFILE" else "s3cret")
    with pytest.raises(BadInput, match="does not answer"):
        is_there(Sweep(storage=f"postgresql://me@127.0.0.1:{port}/name"), tmp_path)
    assert told == [b"s3cret"]
