"""A cache within a size: the longest unused goes, what a running process may use stays, and one line tells."""

import fcntl
import os
import subprocess
import sys

import pytest

from common import bounded
from common.bounded import USERS, keep_within, used

MIB = 2**20
OLD = 1e9  # long before any process here began
USER = """
import sys
from pathlib import Path
from common.bounded import used
used(Path(sys.argv[1]), Path(sys.argv[1]) / sys.argv[2])
print("uses", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Four entries of one MiB each, in the order in which they were used."""
    monkeypatch.setattr(bounded, "_ours", {})
    for number, name in enumerate(("features/a/pooled", "features/a/dense", "manifests/b", "scenes-c-image.npy")):
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.write_bytes(bytes(MIB))
            path.with_suffix(".sha256").write_text("x")
        else:
            path.mkdir()
            (path / "rows").write_bytes(bytes(MIB))
        os.utime(path, (OLD + number, OLD + number))
    (tmp_path / "cache" / "of_others").write_bytes(bytes(MIB))
    return tmp_path / "cache"


def left(cache):
    return {path.name for path in (*cache.glob("*/*/*"), *cache.glob("*/*"), *cache.glob("*")) if path.exists()}


@pytest.fixture
def told(caplog):
    caplog.set_level("INFO", logger="gramlab")
    return caplog


def test_what_was_used_longest_ago_goes_first_and_is_told(cache, told):
    keep_within(cache, 2.5 / 1024, setting="cache_gib")
    assert not (cache / "features").joinpath("a").exists()
    assert (cache / "manifests/b/rows").exists()
    assert (cache / "scenes-c-image.npy").exists()
    assert "dropped 2 that were used longest ago, 2 MiB, to stay within cache_gib=0.00244141" in told.text
    keep_within(cache, 0.0001, setting="cache_gib")
    assert not [*cache.glob("scenes*")]
    assert (cache / "of_others").exists()


def test_use_makes_an_entry_the_last_to_go(cache):
    used(cache, cache / "features/a/pooled")
    keep_within(cache, 1.5 / 1024, setting="cache_gib")
    assert (cache / "features/a/pooled/rows").exists()
    assert not (cache / "features/a/dense").exists()
    assert not (cache / "scenes-c-image.npy").exists()


def test_nothing_goes_below_the_size_or_without_one(cache, told):
    for gib in (None, 1.0):
        keep_within(cache, gib, setting="cache_gib")
    assert len([*cache.glob("features/*/*")]) == 2
    assert not told.text
    keep_within(cache / "none", 1.0, setting="cache_gib")
    assert not (cache / "none").exists()


def test_what_a_running_process_uses_stays_until_it_has_ended(cache, told):
    command = [sys.executable, "-c", USER, str(cache), "manifests/b"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "uses\n"
        keep_within(cache, 0.0001, setting="cache_gib")
        assert (cache / "manifests/b/rows").exists()
        assert "dropped 3 that were" in told.text
        assert "more than cache_gib=0.0001: all 1 MiB may be in use" in told.text
        told.clear()
        keep_within(cache, 0.0001, setting="cache_gib")
        assert "dropped" not in told.text
        assert "all 1 MiB may be in use" in told.text
        other.kill()
    keep_within(cache, 0.0001, setting="cache_gib")
    assert not (cache / "manifests/b").exists()
    assert not [*(cache / USERS).iterdir()]


def test_an_entry_that_was_used_since_the_oldest_process_began_stays(cache):
    command = [sys.executable, "-c", USER, str(cache), "manifests/b"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (user,) = (cache / USERS).iterdir()
        os.utime(user, (OLD + 0.5, OLD + 0.5))  # as if it had begun long ago
        keep_within(cache, 0.0001, setting="cache_gib")
        assert left(cache) >= {"dense", "b", "scenes-c-image.npy"}
        assert not (cache / "features/a/pooled").exists()
        other.kill()


def test_another_process_that_makes_room_is_left_to_it(cache):
    (cache / USERS).mkdir()
    holder = os.open(cache / USERS, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    keep_within(cache, 0.0001, setting="cache_gib")
    assert (cache / "features/a/pooled/rows").exists()
    os.close(holder)
    keep_within(cache, 0.0001, setting="cache_gib")
    assert not (cache / "features/a").exists()
