"""gramlab tables RUN... [--to parquet|csv|latex|markdown] [--out FOLDER]: what runs gave, as tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.command import answer, end, parsed
from common.disk import whole, write_text
from common.errors import BadInput, listing, nearest
from reports import arguments
from reports.paper import latex, markdown
from reports.paper.sheet import Sheet, sheets
from reports.run_folder import Run, read
from reports.tidy import JOBS, RESULTS, VERDICTS, jobs, results, verdicts

Tables = Mapping[str, pa.Table]


def tables(run: Run, against: Sequence[str] = ()) -> dict[str, pa.Table]:
    """The tidy tables of a run by name, with differences from its baseline and from the arms of `against`.

    Equal runs give equal tables.
    """
    frames = {"results": (results(run), RESULTS), "jobs": (jobs(run), JOBS)}
    frames["verdicts"] = (verdicts(run, against), VERDICTS)
    return {
        name: pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(None)
        for name, (frame, schema) in frames.items()
    }


def write_parquet(table: pa.Table, path: Path) -> None:
    """Equal tables give equal bytes; what repeats is stored once a column, and the bytes of numbers by their place."""
    fine = [name for name in ("value", "low", "high", "difference") if name in table.column_names]
    often = [name for name in table.column_names if name not in fine]
    how: dict[str, Any] = {"use_dictionary": often, "use_byte_stream_split": fine, "store_schema": False}
    pq.write_table(table, path, compression="zstd", compression_level=19, **how)


def write_csv(table: pa.Table, path: Path) -> None:
    """What is unknown is left empty."""
    table.to_pandas().to_csv(path, index=False, lineterminator="\n")


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {"parquet": write_parquet, "csv": write_csv}
READ: dict[str, tuple[str, Callable[[Sequence[Sheet]], str]]] = {
    "latex": ("results.tex", latex.text),
    "markdown": ("results.md", markdown.text),
}


def write(found: Tables, folder: Path, *, to: str) -> None:
    """One file a table into `folder`; all are replaced together, at the end."""
    with ExitStack() as together:
        for name, table in found.items():
            WRITERS[to](table, together.enter_context(whole(folder / f"{name}.{to}")))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 with one line on stderr for input that the user can mend."""
    return answer(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    options = parsed(arguments.tables, "tables", argv)
    runs = [read(folder) for folder in options.runs]
    _refuse_namesakes(runs)
    _refuse_strangers(runs, options.against)
    for run in runs:
        folder = run.folder / "tables" if options.out is None else options.out / run.name
        done = _write_for_readers if options.to in READ else _write_for_programs
        for line in (f"{folder}{done(run, options.against, folder, options.to)}", *_left_out(run), *run.damaged):
            print(line)
    return 0


def _write_for_programs(run: Run, against: Sequence[str], folder: Path, to: str) -> str:
    found = tables(run, against)
    write(found, folder, to=to)
    return f": {told(found)}"


def _write_for_readers(run: Run, against: Sequence[str], folder: Path, to: str) -> str:
    found, (name, text) = sheets(run, against), READ[to]
    write_text(folder / name, text(found))
    measures = sum(len(grid.heads) for grid in found[0].grids)
    step = "each at its last step" if found[0].step is None else f"at step {found[0].step}"
    gaps = f"; not done: {listing(found[0].missing, most=2)}" if found[0].missing else ""
    return f"/{name}: {len(run.arms)} arms and {measures} measures, {step}{gaps}"


def told(found: Tables) -> str:
    """How much is in the tables: "360 results and 120 differences of 21 jobs, 3 of them not done"."""
    states: pd.Series = found["jobs"].to_pandas()["state"]
    open_ones = int((states != "done").sum())
    amounts = f"{found['results'].num_rows} results and {found['verdicts'].num_rows} differences of {len(states)} jobs"
    return amounts + (f", {open_ones} of them not done" if open_ones else "")


def _left_out(run: Run) -> list[str]:
    lost = [row.arm for row in run.rows if row.arm not in run.lanes]
    arms = listing(sorted(set(lost)))
    return [f"{len(lost)} results of arms that experiment.json does not name are left out: {arms}"] if lost else []


def _refuse_strangers(runs: Sequence[Run], against: Sequence[str]) -> None:
    for run in runs:
        if unknown := next((arm for arm in against if arm not in run.arms), None):
            do = nearest(unknown, run.arms, otherwise=f"known: {', '.join(run.arms)}")
            raise BadInput(f"got --against {unknown}: want arms of {run.name}; {do}")


def _refuse_namesakes(runs: Sequence[Run]) -> None:
    names = [run.name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"got two runs of the name {twice}: want one of each; give them one at a time, to other folders")


if __name__ == "__main__":
    end(main())
