"""Names that bear a step, such as `step_000012`, or a seed, such as `plain-s0`: written and read in one place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

_NAME = re.compile(r"(?P<kind>[a-z]+)_(?P<step>[0-9]{6}|[1-9][0-9]{6,17})")
# in names of exported backbones' folders: of which network they are
KINDS: dict[Literal["teacher", "student"], str] = {"teacher": "step", "student": "student"}


def step_name(step: int, kind: str = "step") -> str:
    """`step_000012`."""
    return f"{kind}_{step:06d}"


def step_of(name: str, kind: str = "step") -> int | None:
    """The step that a name bears; None for any other, such as `step_12`, `step_000012.bak` or `step_000012 (copy)`."""
    match = _NAME.fullmatch(name)
    return int(match["step"]) if match and match["kind"] == kind else None


def job_name(arm: str, seed: int) -> str:
    """`plain-s0`."""
    return f"{arm}-s{seed}"


def arm_of(name: str, seed: int | None) -> dict[str, str]:
    """`{"arm": …}` for the name of a job with this seed; {} for any other, such as that of a segment."""
    arm = name.removesuffix(f"-s{seed}")
    return {} if arm in ("", name) else {"arm": arm}


def files_by_step(folder: Path, suffix: str) -> dict[int, Path]:
    """What bears a name `step_NNNNNN` with this suffix in a folder, files or folders, the earliest first."""
    return _sorted({path: step_of(path.stem) for path in folder.glob(f"step_*{suffix}")})


def folders_by_step(folder: Path, kind: str = "step") -> dict[int, Path]:
    """The folders `<kind>_NNNNNN` in a folder, the earliest first."""
    return _sorted({path: step_of(path.name, kind) for path in folder.glob(f"{kind}_*") if path.is_dir()})


def _sorted(found: dict[Path, int | None]) -> dict[int, Path]:
    return dict(sorted((step, path) for path, step in found.items() if step is not None))
