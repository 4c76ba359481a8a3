"""What is installed: Python, the packages that the project asks for, those of its extras, a C++ compiler."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, packages_distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from common.errors import first_line, listing
from harness.doctor.finding import Finding

PROJECT = "gramlab"
ROOT = Path(__file__).resolve().parents[2]
INSTALL = f"make install, or: cd {ROOT}; {sys.executable} -m pip install --constraint constraints.txt --editable "
FOR = {
    "hf": "backbones by hf:NAME",
    "slurm": "launcher=slurm",
    "postgres": "sweeps of many machines",
    "remote": "shards behind http(s)",
    "mlflow": "trackers=[mlflow]",
    "wandb": "trackers=[wandb]",
    "docs": "make docs, the site of docs/",
    "audit": "make package, known weaknesses",
    "dev": "tests, lint and types",
}


def findings() -> Iterator[Finding]:
    """All of it; imports every package that is needed, since one that is installed may still be unsound."""
    try:
        about = metadata(PROJECT)
    except PackageNotFoundError:
        yield Finding(PROJECT, "is not installed for this Python", "broken", f"{INSTALL}.")
        return
    yield Finding(PROJECT, f"{about['Version']}, from {ROOT}")
    yield python(about["Requires-Python"])
    asked = [Requirement(text) for text in about.get_all("Requires-Dist") or []]
    needed = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    modules = modules_of(packages_distributions())
    yield from packages(needed, modules)
    for extra in about.get_all("Provides-Extra") or []:
        own = [one for one in asked if one not in needed and one.marker and one.marker.evaluate({"extra": extra})]
        yield of_extra(extra, own)
    yield compiler()


def python(wanted: str) -> Finding:
    """The interpreter, against the versions that the project takes."""
    told = f"{platform.python_version()}, {sys.executable}"
    if platform.python_version() in SpecifierSet(wanted, prereleases=True):
        return Finding("Python", told)
    return Finding("Python", f"{told}: want {wanted}", "broken", "make install PYTHON=python3.12, or another that fits")


def packages(needed: Sequence[Requirement], modules: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Those that are wrong, each by itself, and all others in one line with their versions."""
    sound = []
    for one in needed:
        if fault := fault_of(one):
            yield Finding(one.name, fault, "broken", f"{INSTALL}.")
        elif fault := import_fault(one.name, modules):
            again = f"{sys.executable} -m pip install --force-reinstall --no-deps {one.name}=={version(one.name)}"
            yield Finding(one.name, fault, "broken", again)
        else:
            sound.append(f"{one.name} {version(one.name)}")
    yield Finding("packages", f"{len(sound)} of {len(needed)} as they should be: {', '.join(sound)}")


def fault_of(wanted: Requirement) -> str:
    """What is wrong with an installed package by its version; "" where nothing is."""
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"is not installed: want {wanted.name}{wanted.specifier}"
    return "" if wanted.specifier.contains(found, prereleases=True) else f"{found}: want {wanted.specifier}"


def import_fault(name: str, modules: Mapping[str, Sequence[str]]) -> str:
    """What goes wrong when a package is imported; "" where nothing does."""
    known = modules.get(canonicalize_name(name), [name.replace("-", "_")])
    nearest = max(known, key=lambda module: SequenceMatcher(None, module.lower(), name.lower()).ratio())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(nearest)
    except Exception as error:  # whatever a package that is not sound raises
        return f"is installed, but cannot be imported: {first_line(error)}"
    return ""


def modules_of(distributions: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """From a package's name to the modules that it brings, without private ones."""
    found: dict[str, list[str]] = {}
    for module, names in distributions.items():
        for name in names:
            if not module.startswith("_"):
                found.setdefault(canonicalize_name(name), []).append(module)
    return found


def of_extra(extra: str, asked: Sequence[Requirement]) -> Finding:
    """An extra of the project: whether all that it asks for is there, and what for."""
    purpose = FOR.get(extra, "")
    faults = [f"{one.name} {fault}" for one in asked if one.name != PROJECT and (fault := fault_of(one))]
    if not faults:
        return Finding(extra, f"{purpose} – all of it is installed")
    return Finding(extra, f"{purpose} – {listing(faults)}", "lacks", f"{INSTALL}'.[{extra}]'")


def compiler() -> Finding:
    """Whether there is a C++ compiler, by CXX or by the usual names."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    if place := next(filter(None, map(shutil.which, names)), None):
        return Finding("C++", place)
    wish = "packages without a wheel for this machine are built by one, and torch.compile wants one"
    do = "install g++ or clang by the system's packages; on macOS xcode-select --install"
    return Finding("C++", f"no compiler ({', '.join(names)}): {wish}", "lacks", do)
