"""What `gramlab doctor` found at one place, and how it is told."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

NAMES, MARKS = 12, 8  # columns


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is like, whether it is as it should be, and what to do where it is not.

    A thing `lacks` where some command would like it better, and is `broken` where what every run needs is not sound.
    """

    name: str
    told: str
    state: Literal["ok", "lacks", "broken"] = "ok"
    do: str = ""


def text(title: str, findings: Sequence[Finding], *, width: int) -> str:
    """The findings of a section for a terminal of so many columns."""
    lines = [title]
    for one in findings:
        lines += _hanging(f"  {one.state:{MARKS}s}{one.name:{NAMES}s} {one.told}", width)
        lines += _hanging(f"  {'':{MARKS}s}{'→ do':{NAMES}s} {one.do}", width) if one.do else []
    return "\n".join(lines)


def _hanging(line: str, width: int) -> list[str]:
    indent = " " * (2 + MARKS + NAMES + 1)
    return textwrap.wrap(
        line, max(width, 60), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [line]


def summary(findings: Sequence[Finding]) -> str:
    """How much is broken and how much lacks, in one line."""
    lacks, broken = (sum(one.state == state for one in findings) for state in ("lacks", "broken"))
    wanted = f"lacking, of what some commands want: {lacks or 'nothing'}"
    return f"broken, of what gramlab needs: {broken or 'nothing'}; {wanted}"
