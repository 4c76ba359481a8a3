"""What `gramlab doctor` tells of a sound installation, and of one in which something is missing or broken."""

import json
import os
import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image

from harness import cli
from harness.doctor import command, data, demo, device, software
from harness.doctor.finding import Finding, summary, text

ROOT = Path(__file__).resolve().parents[3]


def test_it_tells_what_is_installed_and_that_the_demo_can_run(capsys, monkeypatch):
    monkeypatch.delenv(data.DATA, raising=False)
    assert cli.main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [*told] == ["summary", *command.SECTIONS]
    by_name = {title: {one["name"]: one for one in told[title]} for title in command.SECTIONS}
    assert f"torch {torch.__version__.partition('+')[0]}" in by_name["software"]["packages"]["told"]
    assert f"mmsegmentation {version('mmsegmentation')}" in by_name["software"]["packages"]["told"]
    assert {*metadata("gramlab").get_all("Provides-Extra")} <= by_name["software"].keys()
    assert "GFLOP/s in float32 and" in by_name["machine"]["speed"]["told"]
    assert by_name["data"][data.DATA]["state"] == "lacks"
    assert "make demo can run" in by_name["demo"]["demo"]["told"]
    assert "broken, of what gramlab needs: nothing; lacking" in told["summary"]


def test_a_package_that_is_broken_is_told_and_so_is_what_it_takes_with_it(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    done = subprocess.run(
        [sys.executable, "harness/cli.py", "doctor", "--json"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    found = {one["name"]: one for title in command.SECTIONS for one in told[title]}
    assert found["torch"]["told"] == (
        "is installed, but cannot be imported: libcudart.so.13: cannot open shared object file"
    )
    assert f"--force-reinstall --no-deps torch=={version('torch')}" in found["torch"]["do"]
    assert (found["machine"]["state"], found["demo"]["state"]) == ("broken", "broken")
    assert found["rooms"]["state"] == "ok"


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ("pytest", ""),
        ("pytest>9999", f"{pytest.__version__}: want >9999"),
        ("no-such-package>=2", "is not installed: want no-such-package>=2"),
    ],
)
def test_packages_are_judged_by_their_versions(wanted, fault):
    assert software.fault_of(Requirement(wanted)) == fault


def test_an_extra_that_is_missing_says_what_it_is_for_and_how_it_is_installed():
    found = software.of_extra("hf", [Requirement("no-such-package>=2"), Requirement("pytest")])
    assert found.told == "backbones by hf:NAME – no-such-package is not installed: want no-such-package>=2"
    assert found.state == "lacks"
    assert found.do.endswith("--editable '.[hf]'")
    assert summary([found]) == ("broken, of what gramlab needs: nothing; lacking, of what some commands want: 1")


@pytest.mark.parametrize("extra", metadata("gramlab").get_all("Provides-Extra"))
def test_every_extra_says_what_it_is_for(extra):
    assert software.FOR[extra]


def test_a_python_that_is_too_old_is_broken():
    assert software.python(">=3.99").state == "broken"
    assert software.python(">=3.11").state == "ok"


def test_a_compiler_is_found_by_its_variable_or_missed(monkeypatch, tmp_path):
    (tmp_path / "my-cc").write_text("")
    (tmp_path / "my-cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert software.compiler().state == "lacks"
    monkeypatch.setenv("CXX", "my-cc")
    assert software.compiler() == Finding("C++", str(tmp_path / "my-cc"))


def test_little_memory_a_full_disk_and_a_driver_without_a_gpu_are_told_with_what_to_do(tmp_path):
    few = [device.memory(1.0, 2.0), device.disk(tmp_path, 0.5), device.no_gpu(driver=True)]
    assert {one.state for one in few} == {"lacks"}
    assert all(one.do for one in few)
    assert {
        one.state for one in (device.memory(9.0, 9.0), device.disk(tmp_path, 9.0), device.no_gpu(driver=False))
    } == {"ok"}


def test_a_set_that_is_whole_in_part_or_damaged_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv(data.DATA, str(tmp_path / "nowhere"))
    assert {one.name: one.state for one in data.findings()}[data.DATA] == "lacks"
    monkeypatch.setenv(data.DATA, str(tmp_path))
    for split in ("train", "val"):
        (tmp_path / "imagenette128" / split / "dog").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "imagenette128" / split / "dog" / "1.png")
    (tmp_path / "camvid").mkdir()
    found = {one.name: one for one in data.findings()}
    assert found[data.DATA].told == str(tmp_path)
    assert "1 of the 9,469 images that are published" in found["imagenette"].told
    assert (found["imagenette"].state, found["camvid"].state) == ("lacks", "lacks")
    assert "gramlab prepare --check camvid" in found["camvid"].do
    assert "ade20k (ADEChallengeData2016)" in found["others"].told


def test_a_demo_that_cannot_run_is_broken(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "DEMO", tmp_path / "gram_ablation.yaml")
    found = demo.demo()
    assert found.state == "broken"
    assert "no experiment file" in found.told


def test_findings_fit_the_terminal_and_lose_no_word():
    found = [Finding("packages", "one two three " * 30, "broken", "word " * 40), Finding("a", "b")]
    shown = text("software", found, width=80)
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.split().count("three") == 30
    assert shown.split().count("word") == 40
