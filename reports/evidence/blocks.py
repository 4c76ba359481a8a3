"""What a page can be filled with in words and tables: falls, verdicts, values, cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common.errors import BadInput
from reports import words
from reports.estimates import Column, Estimate, of_column, seed_ways
from reports.evidence import falls as measured
from reports.evidence.asked import Asked, asked, heading, parted
from reports.evidence.filled import Filled, plural, several, table
from reports.evidence.stored import Shelf
from reports.run_folder import COLUMN_KEYS
from reports.tidy import HOUR

LAST, AGAINST, AT = "last", "against:", "at:"


def falls(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT METRIC... [arms: ARM...]`: a row for each arm and metric, from the peak to the last value."""
    got = asked(shelf, given)
    rows = []
    for column in got.columns:
        for arm in got.arms:
            if (found := measured.falls(got.run, column, arm)) is not None:
                rows.append([f"`{arm}`", heading(got, column), *_fall_cells(column, found)])
    head = ["arm", "measure", "peak", "at step", "last", "at step", "fall", "seeds"]
    said = (
        "Fall from the peak to the last value, above 0 where the measure got worse; in brackets its 95 % interval over "
        "seeds. For each seed the peak's step is that of the mean of the other seeds; of one seed it is its own, by "
        "which a fall is too large by chance."
    )
    return Filled(f"{table(head, rows)}\n\n{said}")


def _fall_cells(column: Column, found: measured.Fall) -> list[str]:
    """The fall as "+11.2 % [+8.0, +14.4]" of the peak, or in the metric's unit where that is no share of anything."""
    first, last = found.peak_steps
    factor, digits, _ = words.fall_scale(column)
    fell, low, high = (words.number(x * factor, digits, signed=True) for x in (found.value, found.low, found.high))
    return [
        _number(column, found.peak),
        words.count(first) if first == last else f"{words.count(first)} … {words.count(last)}",
        _number(column, found.last),
        words.count(found.last_step),
        fell + (" %" if column.kind.ratio else "") + (f" [{low}, {high}]" if found.seeds > 1 else ""),
        str(found.seeds),
    ]


def verdicts(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT METRIC... [against: ARM] [at: PLACE] [arms: ARM...]`: each arm minus another, with its verdict."""
    got, base, found = _compared(shelf, given)
    arms = [arm for arm in got.arms if arm != base]
    lines = {arm: [_line(found, arm, column) for column in got.columns] for arm in arms}
    shown = [line for of_arm in lines.values() for line in of_arm if line is not None]
    if not shown:
        raise BadInput(f"got no verdicts of {got.tables.name} for these arms: want arms that are compared in it")
    places = {arm: several(_place(line) for line in of_arm if line is not None) for arm, of_arm in lines.items()}
    unlike = len(set(places.values())) > 1
    rows = [
        [f"`{arm}`", *map(_verdict, of_arm, got.columns), *([places[arm]] if unlike else [])]
        for arm, of_arm in lines.items()
    ]
    head = ["arm", *(heading(got, column, difference=True) for column in got.columns), *(["at"] if unlike else [])]
    where = "" if unlike else f" at {next(iter(places.values()))}"
    return Filled(f"{table(head, rows)}\n\nArm minus `{base}`{where}; {_basis(shown)}.")


def _compared(shelf: Shelf, given: Sequence[str]) -> tuple[Asked, str, list[dict[str, Any]]]:
    """What is asked for, the arm that the others are compared with, and the lines of the table that say how."""
    behind, rest = parted(given, (AGAINST, AT))
    got = asked(shelf, rest)
    base, place = got.run.baseline, ""
    if AGAINST in given:
        add = f"add it by `gramlab tables RUN --out {shelf.folder} --against ARM`"
        base = _one_of(got.tables.verdicts["baseline"], AGAINST, behind, do=f"; {add}")
    if AT in given:
        place = _one_of(words.PLACES, AT, behind)
    lines: Any = got.tables.verdicts.query("baseline == @base")
    lines = lines[lines["at"] == place] if place else lines[lines["foremost"]]
    return got, base, lines.to_dict("records")


def _one_of(known: Iterable[str], name: str, behind: Mapping[str, list[str]], *, do: str = "") -> str:
    """The word behind a name, which is one of those that are known."""
    found, unlike = behind[name], [*dict.fromkeys(known)]
    if len(found) != 1 or found[0] not in unlike:
        raise BadInput(f"got {' '.join([name, *found])}: want one of {', '.join(unlike)} behind it{do}")
    return found[0]


def _place(line: dict[str, Any]) -> str:
    return f"step {words.count(line['step'])}" if line["at"] == "steps" else words.PLACES[line["at"]]


def _line(found: Sequence[dict[str, Any]], arm: str, column: Column) -> dict[str, Any] | None:
    """The verdict of an arm in a column; None where there is none."""
    wanted = {"arm": arm, **{key: getattr(column, key) for key in COLUMN_KEYS}}
    return next((line for line in found if wanted.items() <= line.items()), None)


def _verdict(line: dict[str, Any] | None, column: Column) -> str:
    """ "+5.0 [+2.6, +7.3], better" """
    if line is None:
        return words.NONE
    estimate = Estimate(line["difference"], line["low"], line["high"], line["step"], line["seeds"], line["over"])
    return f"{words.difference(column, estimate)}, {line['verdict']}"


def _basis(shown: Sequence[dict[str, Any]]) -> str:
    """What intervals and words rest on."""
    seeds, over = (several(line[key] for line in shown) for key in ("seeds", "over"))
    said = plural(seeds, "seed") + "; "
    said += f"brackets: 95 % intervals over {over}" if over else "no interval is known"
    made = {int(line["comparisons"]) for line in shown if line["comparisons"] > 1}
    return said + (f", words corrected over {several(sorted(made))} comparisons of a measure (Holm)" if made else "")


def values(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT STEP METRIC... [arms: ARM...]`: mean and range over seeds; STEP may be `last`, of each arm."""
    if len(given) < 2 or not (given[1] == LAST or given[1].isdecimal()):
        got = given[1] if len(given) > 1 else "no step"
        raise BadInput(f"got {got}: want a step behind the experiment; give a number, or {LAST}")
    got = asked(shelf, [given[0], *given[2:]])
    step = None if given[1] == LAST else int(given[1])
    rows = []
    for arm in got.arms:
        found = [_by_seed(got, column, arm, step) for column in got.columns]
        counts, at = {len(one) for one in found}, {s for one in found for s, _ in one}
        where = (several(map(words.count, sorted(at))), several(sorted(counts - {0})))
        rows.append([f"`{arm}`", *map(_range, got.columns, found), *where])
    if not any(row[-2] for row in rows):
        raise BadInput(f"got step {given[1]}: want one at which {got.tables.name} was evaluated; give {LAST}")
    head = ["arm", *(heading(got, column) for column in got.columns), "step", "seeds"]
    return Filled(f"{table(head, rows)}\n\nMean over seeds, in brackets the lowest and the highest of them.")


def _by_seed(got: Asked, column: Column, arm: str, step: int | None) -> list[tuple[int, float]]:
    """Step and value of each seed that has one there, on the arm's way from step 0."""
    last = max((row.step for row in of_column(got.run, column) if row.arm == arm), default=0)
    at = last if step is None else step
    return [(at, way[at]) for way in seed_ways(got.run, column, arm).values() if at in way]


def _range(column: Column, found: Sequence[tuple[int, float]]) -> str:
    """ "22.6 (22.1 … 23.0)" """
    if not found:
        return words.NONE
    numbers = np.array([value for _, value in found])
    mean = _number(column, float(numbers.mean()))
    if len(numbers) == 1:
        return mean
    return f"{mean} ({_number(column, float(numbers.min()))} … {_number(column, float(numbers.max()))})"


def cost(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT`: seeds, steps, hours, machine, commit."""
    if len(given) != 1:
        raise BadInput(f"got {' '.join(given) or 'nothing'}: want the name of one experiment alone")
    tables = shelf.experiment(given[0])
    jobs, run = tables.jobs, tables.run
    hours, cpu_hours, flops = (float(np.nansum(jobs[key])) for key in ("hours", "cpu_hours", "flops"))
    seconds, cpu = hours * HOUR, cpu_hours * HOUR
    times = [f"{words.span(seconds)} of training" + (f" ({words.span(cpu)} of a CPU thread)" if cpu else "")]
    if flops:
        times.append(words.operations(flops))
    said = [
        f"{plural(len(run.arms), 'arm')}, {plural(len(run.seeds), 'seed')} ({', '.join(map(str, run.seeds))})",
        f"up to step {words.count(run.steps)}",
        f"{sum(jobs['state'] == 'done')} of {plural(len(jobs), 'job')} done",
        f"{', '.join(times)}, evaluations not counted",
        _machine(run.environment),
        f"commit {several(jobs['git']) or 'unknown'}",
    ]
    return Filled("; ".join(said) + ".")


def _machine(known: Mapping[str, Any]) -> str:
    """ "2 cores of …, 24 GiB, torch 2.15.0", as far as it was recorded."""
    parts = {"cores": "{:.0f} cores", "cpu": "{}", "memory_gib": "{:.0f} GiB", "torch": "torch {}"}
    own = {key: value for key, value in known.items() if value == value and value is not None}  # neither None nor NaN
    said = [form.format(own[key]) for key, form in parts.items() if key in own]
    if own.get("device", "cpu") != "cpu":
        said.insert(0, str(own["device"]))
    return ", ".join(said) or "machine unknown"


def _number(column: Column, value: float) -> str:
    return words.number(value * words.scale(column), words.digits(column))
