"""The settings of an experiment as docs/settings.md lists them: all that help and completion want, without torch.

A test keeps that page as the classes of settings are, whose import takes seconds.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from common.command import columns
from common.errors import BadInput, nearest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"


class Listed(NamedTuple):
    """A setting by its dotted key, with its default, what it may be and what it means, as the page has them."""

    key: str
    default: str
    wanted: str
    meaning: str


@cache
def listed() -> list[Listed]:
    """Every setting, those without a section first and the others by section; [] where the page is not installed."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    found = [
        Listed(*row) for row in re.findall(r"^\| `(\S+)` \| `(.*?)` \| (.*?) \| (.*?) \| .* \|$", text, re.MULTILINE)
    ]
    return sorted(found, key=lambda setting: "." in setting.key)  # stable: sections stay together


def overview(part: str = "") -> str:
    """The settings whose keys hold `part`, each with its default and the first phrase of what it means.

    Raises `BadInput` where there is none.
    """
    if not (found := [setting for setting in listed() if part in setting.key]):
        if not listed():
            raise BadInput(f"no page of settings {PAGE}: want the repository that gramlab is installed from")
        names = {word for setting in listed() for word in (setting.key, *setting.key.split("."))}
        do = nearest(part, names, otherwise="--settings alone shows all")
        raise BadInput(f"--settings {part}: no key has it in it: want a part of one; {do}")
    rows = columns([(s.key, s.default, s.meaning.partition("; ")[0]) for s in found]).splitlines()
    parts = groupby(rows, key=lambda row: row.split()[0].rpartition(".")[0].partition(".")[0])
    return "\n\n".join("\n".join(part) for _, part in parts)


def overrides(prefix: str, **given: object) -> dict[str, str]:
    """What may stand in the place of `key=value`: keys, groups of files, and behind a key the values that it lists."""
    from harness.layers import EXPERIMENTS, groups  # which reads YAML; help does not

    key, sign, _ = prefix.partition("=")
    if not sign:
        keys = {f"{s.key}=": s.meaning.partition("; ")[0] for s in listed() if "NAME" not in s.key}
        return keys | {f"{group}=": f"another file of {group}/" for group in groups(EXPERIMENTS)}
    values = next((_values(setting.wanted) for setting in listed() if setting.key == key), [])
    values = values or sorted(file.stem for file in EXPERIMENTS.glob(f"{key}/*.yaml"))
    return {f"{key}={value}": "" for value in values}


def _values(wanted: str) -> list[str]:
    """The values that the words of a page list: `one of a, b`, `true or false`, and null where it may be."""
    bare, null = wanted.removesuffix(", or null"), wanted.endswith(", or null")
    listed = bare.removeprefix("one of ").split(", ") if bare.startswith("one of ") else []
    listed = ["true", "false"] if bare == "true or false" else listed
    return [*listed, "null"] if null else listed
