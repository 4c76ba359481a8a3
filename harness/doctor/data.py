"""Which data is found: the folder that GRAMLAB_DATA names, and the public sets in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from common.errors import BadInput, first_line
from evals.datasets.catalogue import DATA, KNOWN, open_named, part_of
from harness.doctor.finding import Finding

SPLITS = ("train", "val")


def findings() -> Iterator[Finding]:
    """All of it; of the sets, that they can be listed: `gramlab prepare --check` reads every file."""
    yield Finding("rooms", "rendered here, nothing to download")
    given = os.environ.get(DATA)
    do = f"export {DATA}=FOLDER; gramlab prepare lists what to download, docs/data.md how it lies there"
    if not given:
        yield Finding(DATA, "is not set: no photographs but of folders that you name", "lacks", do)
        return
    folder = Path(given)
    if not folder.is_dir():
        yield Finding(DATA, f"{folder} is no folder", "lacks", do)
        return
    yield Finding(DATA, str(folder))
    there = [name for name, known in KNOWN.items() if (folder / known.folder).exists()]
    yield from (known_set(name, folder / KNOWN[name].folder) for name in there)
    if absent := [f"{name} ({known.folder})" for name, known in KNOWN.items() if name not in there]:
        yield Finding("others", f"not there: {', '.join(absent)}")


def known_set(name: str, folder: Path) -> Finding:
    """A public set: how many images it has, and of how many that are published."""
    found, parts = [], []
    try:
        for split in SPLITS:
            dataset = open_named(name, root=folder, split=split, quiet=True)
            found.append(f"{len(dataset):,} in {dataset.split}")
            parts += [part] if (part := part_of(dataset, KNOWN[name])) else []
    except BadInput as error:
        return Finding(name, first_line(error), "lacks", f"gramlab prepare --check {name} {folder} tells more")
    if parts:
        do = f"finish the download; gramlab prepare --check {name} {folder} tells what is missing"
        return Finding(name, f"images: {', '.join(found)}; {', '.join(parts)}", "lacks", do)
    return Finding(name, f"images: {', '.join(found)}")
