"""What tests share: the tiny experiment in a folder, steps of it, weights to compare, a machine as they want it."""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from matplotlib.backends import _backend_pdf_ps

from harness import gram_view
from harness.beginning import fresh_state
from harness.config import load
from harness.data.batches import Batches
from harness.data.pool import Pool, open_pool
from harness.graph import jobs
from harness.job import Job
from harness.model import Network, initialise, patch_size
from harness.schedules import at
from harness.settings import Experiment
from harness.state import State
from harness.step import train_step
from tests.tiny import TINY, changed, merged, snapshot

gc.disable()  # until all tests are collected: a third of the time that it takes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs come first, so that processes which share the tests have short ones left to end together with."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection_finish() -> None:
    """What tests leave is looked for again."""
    gc.enable()


@pytest.fixture
def signals_heard() -> Iterator[None]:
    """What a test starts hears Ctrl-C and a closed terminal, also where a shell or nohup told us to ignore them."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums are split over threads, so a comparison bit for bit wants a fixed number of them; tiny models want one.

    Commands that a test calls find that number named, and measure none.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def fonts_cut_anew() -> Iterator[Callable[[], None]]:
    """What reports show of a font is cut out of it once for all tests of a process, and anew after a call of this."""
    real = _backend_pdf_ps.get_glyphs_subset
    with ExitStack() as opened, pytest.MonkeyPatch.context() as patch:

        @cache
        def cut(file: Any, letters: frozenset[Any]) -> Any:
            return opened.enter_context(real(file, set(letters)))

        patch.setattr(
            _backend_pdf_ps, "get_glyphs_subset", lambda file, letters: nullcontext(cut(file, frozenset(letters)))
        )
        yield cut.cache_clear


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is synced to the disk while the test runs, in order; each path as it is called then."""
    paths: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        paths.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


@pytest.fixture(scope="session")
def files_at_most() -> Callable[[int], AbstractContextManager[None]]:
    """`with files_at_most(n):` no file grows beyond n bytes, whoever writes it: a full disk for every machine."""

    @contextmanager
    def limit(most: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def tiny_text() -> Callable[..., str]:
    """The tiny experiment as YAML, with sections merged in; its runs and caches stay in the given folder."""

    def text(place: Path, **sections: Any) -> str:
        places = {"runtime": {"folder": str(place / "runs"), "cache": str(place / "cache")}}
        return yaml.safe_dump(merged(merged(TINY, places), sections), sort_keys=False)

    return text


@pytest.fixture
def write_tiny(tmp_path: Path, tiny_text: Callable[..., str]) -> Callable[..., Path]:
    """Writes the tiny experiment, with sections merged in, as a file in the test's folder."""

    def write(**sections: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(tiny_text(tmp_path, **sections))
        return path

    return write


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The tiny experiment, read as users' files are."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY, sort_keys=False))
    return load(path)


@pytest.fixture(scope="session")
def pool(tiny: Experiment) -> Pool:
    """The tiny experiment's images, rendered once."""
    found = open_pool(tiny.data)
    found.preload()
    return found


@pytest.fixture(scope="session")
def change() -> Callable[..., Any]:
    """`change(settings, {"gram.weight": 2.0})`: a checked copy with other values at dotted keys."""
    return changed


@pytest.fixture(scope="session")
def make_batches(pool: Pool) -> Callable[..., Batches]:
    """The batches that training with these settings would see."""

    def make(settings: Experiment, *, seed: int = 0, pool: Pool = pool) -> Batches:
        patch = settings.model.args["patch_size"]
        gram = gram_view.crops(settings.gram, settings.crops, patch)
        return Batches(
            pool, data=settings.data, crops=settings.crops, ibot=settings.ibot, gram=gram, seed=seed, patch=patch
        )

    return make


@pytest.fixture(scope="session")
def take_steps(make_batches: Callable[..., Batches]) -> Callable[..., tuple[State, list[dict[str, float]]]]:
    """Real training steps without a folder: the state after them, and each step's terms."""

    def take(
        settings: Experiment, steps: int, *, seed: int = 0, state: State | None = None, pool: Pool | None = None
    ) -> tuple[State, list[dict[str, float]]]:
        batches = make_batches(settings, seed=seed, **({"pool": pool} if pool else {}))
        state = state or fresh_state(settings, seed, torch.device("cpu"))
        assert patch_size(state.student.backbone) == batches.patch
        rows = []
        for step in range(state.step, state.step + steps):
            terms = train_step(state, batches[step], at(settings, step), settings, seed=seed)
            rows.append({name: float(value) for name, value in terms.items()})
        return state, rows

    return take


@pytest.fixture(scope="session")
def weights() -> Callable[[State], dict[str, torch.Tensor]]:
    """A copy of all that a state holds, by name: networks, Gram teacher and optimizer moments."""
    return snapshot


@pytest.fixture(scope="session")
def same() -> Callable[[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]], bool]:
    """Whether two dictionaries of tensors are equal bit for bit."""
    return lambda one, other: one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def make_job(tiny: Experiment, tmp_path: Path) -> Callable[..., Job]:
    """The job of one arm of the tiny experiment, changed, in the test's folder."""

    def make(values: Mapping[str, Any] | None = None, *, arm: str = "plain", folder: Path = tmp_path) -> Job:
        experiment = changed(tiny, {"runtime.folder": str(folder), **(values or {})})
        experiment = changed(experiment, {"arms": {arm: experiment.arms[arm]}})
        return jobs(experiment, fingerprint=lambda data: "24 rooms")[-1]

    return make


@pytest.fixture
def jobs_of(tiny: Experiment, tmp_path: Path) -> Callable[..., dict[str, Job]]:
    """The jobs of the tiny experiment, changed, by arm, the last seed's; they lie in the test's folder."""

    def make(values: Mapping[str, Any], *, folder: Path = tmp_path) -> dict[str, Job]:
        experiment = changed(tiny, {"runtime.folder": str(folder), **values})
        return {job.arm: job for job in jobs(experiment, fingerprint=lambda data: "24 rooms")}

    return make


@pytest.fixture(scope="session")
def checksums() -> Callable[[Path], dict[str, str]]:
    """Every file below a folder with the hash of its content."""

    def of(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    return of


@pytest.fixture(scope="session")
def stirred() -> Callable[[Experiment], Network]:
    """A network whose every weight differs from its neutral value, so that a forgotten part shows."""

    def make(settings: Experiment) -> Network:
        found = Network(settings)
        initialise(found, torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in found.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return found

    return make
