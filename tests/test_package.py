"""What `make package` tells of licences and of known weaknesses, and which distributions the package asks for."""

import subprocess
from importlib.metadata import distribution

import pytest

from tests.package import ROOT, audit, audited, licence, needed


def test_the_package_asks_for_no_tool_of_development():
    names = {one.metadata["Name"].lower() for one in needed("gramlab")}
    assert {"gramlab", "torch", "timm", "numpy"} <= names
    assert names.isdisjoint({"pytest", "ruff", "basedpyright", "hypothesis", "pip-audit", "playwright"})


def test_a_licence_is_that_which_the_distribution_states():
    assert licence(distribution("gramlab")) == "MIT"


def test_known_weaknesses_are_told_with_the_version_that_has_none():
    weak = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    found = [weak, {"name": "b", "version": "1", "vulns": []}, {"name": "c", "skip_reason": "not found"}]
    assert audited(found).splitlines() == [
        "pip-audit: 2 of 3 packages are known to whom it asked",
        "  a 1: CVE-1, mended in 2",
    ]


def test_nobody_is_asked_unless_that_is_welcome(monkeypatch):
    monkeypatch.delenv("GRAMLAB_AUDIT", raising=False)
    assert audit().startswith("pip-audit: not asked")


def test_what_a_build_leaves_in_a_checkout_is_ignored_by_git():
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    left = ["build/lib/common/errors.py", "dist/gramlab-1-py3-none-any.whl", "gramlab.egg-info/PKG-INFO"]
    done = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == left
