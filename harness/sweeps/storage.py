"""The storage that a study is kept in: a journal file beside the run, or a database by its URL."""

from __future__ import annotations

import random
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from common.errors import BadInput, first_line
from harness.sweep_settings import Sweep
from harness.sweeps.journal import Journal

PATIENCE = 5  # seconds for a server to answer
SQLITE_PATIENCE = 60  # seconds for other workers to be done with the file
RACE = 1.0  # seconds within which the tables that another sweep was making are there
TRIES = 5
URLS = (
    "sqlite:///FILE in a folder that is there, or postgresql://USER@HOST/NAME of a server that runs; null "
    "keeps the study in the run's folder"
)
Storage = Journal | RDBStorage


def journal_path(folder: Path) -> Path:
    """Where the study is kept when no URL says otherwise."""
    return folder / "study.journal"


def is_there(sweep: Sweep, folder: Path) -> bool:
    """Whether there is a storage to look into: a look must not make one. Raises `BadInput` where none can be made."""
    if sweep.storage is None:
        return journal_path(folder).is_file()
    if not re.match(r"(sqlite|postgres(ql)?)(\+\w+)?:", sweep.storage):
        raise BadInput(f"sweep.storage={sweep.storage}: want {URLS}")
    if not sweep.storage.startswith("sqlite"):
        with _answering(sweep, folder):
            return inspect(create_engine(_with_driver(sweep.storage), **_engine(sweep.storage))).has_table("studies")
    if (file := re.fullmatch(r"sqlite:///(?!:memory:)(.+)", sweep.storage)) is None:
        raise BadInput(
            f"sweep.storage={sweep.storage}: a study in memory is lost with its process: want sqlite:///FILE"
        )
    if not (path := Path(file[1])).parent.is_dir():
        raise BadInput(f"sweep.storage={sweep.storage}: no folder {path.parent}: want one that is there; make it first")
    return path.is_file()


def opened(sweep: Sweep, folder: Path) -> Storage:
    """The storage. Raises `BadInput` for one that does not answer in a few seconds, or holds something else."""
    with _answering(sweep, folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if sweep.storage is None:
            return Journal(journal_path(folder), heartbeat=sweep.heartbeat)
        given: dict[str, Any] = {"engine_kwargs": _engine(sweep.storage), "heartbeat_interval": sweep.heartbeat}
        for _ in range(TRIES - 1):
            with suppress(DBAPIError):  # sweeps that make the tables of a new database at once trip over one another
                return RDBStorage(_with_driver(sweep.storage), **given)
            time.sleep(random.uniform(0, RACE))  # of any length, lest they do so again
        return RDBStorage(_with_driver(sweep.storage), **given)


@contextmanager
def _answering(sweep: Sweep, folder: Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise BadInput(
            f"sweep.storage={sweep.storage} needs the package {error.name}: want postgresql://… and "
            "pip install gramlab[postgres]"
        ) from error
    except Exception as error:  # of SQLAlchemy, of a driver, or of the journal's parser
        place = sweep.storage or str(journal_path(folder))
        want = (
            f"want {URLS}"
            if sweep.storage
            else "want the journal that a sweep wrote; move it and the links trial-* beside it away, and a new study "
            "takes up what is trained"
        )
        raise BadInput(f"sweep.storage={place} does not answer ({_said(error)}): {want}") from error


def _engine(url: str) -> dict[str, Any]:
    patience = {"connect_timeout": PATIENCE} if url.startswith("postgres") else {"timeout": SQLITE_PATIENCE}
    return {"connect_args": patience, "poolclass": NullPool}  # trials last: no connection is held between two words


def _with_driver(url: str) -> str:
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def _said(error: Exception) -> str:
    """The first words of an error, those of the driver where one was at fault."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return first_line(getattr(cause, "orig", None) or cause)
