"""The storage of a study: workers that make it at the same moment, and looks that make none."""

from __future__ import annotations

import os
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

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
