"""Tidy tables of runs: what they hold against the run's own files, their bytes, their size, what is refused."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evals.results.table import load
from harness.run import main as run_experiment
from reports.build import build
from reports.run_folder import read
from reports.tables import main, tables, write_parquet
from reports.tidy import JOBS, RESULTS, VERDICTS

ROOT = Path(__file__).resolve().parents[2]
TWO = {"plain": {}, "anchored": {"gram.weight": 2.0, "gram.start_step": 20}}
SMALL = {"arms": TWO, "steps": 40, "trunk_steps": 20, "every": 10}
SCHEMAS = {"results": RESULTS, "verdicts": VERDICTS, "jobs": JOBS}


def written(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_measured_number_is_there_once_and_exactly(make_run):
    folder = make_run(seeds=(0, 1), **SMALL)
    assert main([str(folder)]) == 0
    table = pd.read_parquet(folder / "tables" / "results.parquet")
    keys = ["arm", "seed", "step", "eval", "dataset", "split", "metric", "protocol", "protocol_hash", "size"]
    measured = load(folder / "results.jsonl").sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(
        table[[*keys, "value"]], measured[[*keys, "value"]], check_dtype=False, check_exact=True
    )
    np.testing.assert_array_equal(table[["low", "high"]], measured[["low", "high"]].astype("float32"))
    assert set(table["experiment"]) == {"gram_ablation"}


def test_verdicts_are_those_that_the_report_writes(make_run):
    folder = make_run(seeds=(0, 1), **SMALL)
    build(folder)
    report = pd.read_csv(folder / "verdicts.csv")
    found = tables(read(folder))["verdicts"].to_pandas()
    by = ["eval", "metric", "at", "arm"]
    numbers = ["difference", "low", "high", "p_different", "baseline_value", "budget", "step"]
    first, second = (frame.sort_values(by, ignore_index=True)[by + numbers] for frame in (found, report))
    pd.testing.assert_frame_equal(first, second, check_dtype=False)
    assert found.groupby(["eval", "metric", "arm"])["foremost"].sum().tolist() == [1] * 6
    assert set(found[found["foremost"]]["at"]) == {"steps"}


def test_training_until_then_counts_what_arms_share(make_run):
    """By hand: a step takes 0.55 s, and 1 operation in the trunk and `plain`, 3 in `anchored`."""
    compute = {arm: [{"from": 0, "flops": 3.0 if arm == "anchored" else 1.0}] for arm in ("trunk", *TWO)}
    found = tables(read(make_run(compute=compute, **SMALL)))
    rows = found["results"].to_pandas().drop_duplicates(["arm", "step"]).set_index(["arm", "step"])
    assert rows.loc[("trunk", 10), "hours"] == pytest.approx(10 * 0.55 / 3600)
    assert rows.loc[("anchored", 30), "hours"] == pytest.approx(30 * 0.55 / 3600)
    assert rows.loc[("anchored", 30), "flops"] == 20 + 3 * 10
    assert rows.loc[("plain", 40), "flops"] == 40
    jobs = found["jobs"].to_pandas().set_index("arm")
    assert jobs.loc["anchored", "hours"] == pytest.approx(20 * 0.55 / 3600)
    assert jobs.loc["anchored", "flops"] == 3 * 20
    assert jobs["place"].to_dict() == {"trunk": 0, "plain": 1, "anchored": 2}
    assert jobs["baseline"].to_dict() == {"trunk": False, "plain": True, "anchored": False}


def test_what_no_record_tells_is_null(make_run):
    folder = make_run(**SMALL)
    for file in ("metrics.jsonl", "status.json"):
        (folder / "anchored-s0" / file).unlink()
    found = tables(read(folder))
    rows = found["results"].to_pandas().set_index("arm")
    assert rows.loc["anchored", ["gram", "hours", "flops"]].isna().all(axis=None)
    assert rows.loc["trunk", "hours"].notna().all()
    lost = found["jobs"].to_pandas().set_index("arm").loc["anchored"]
    assert (lost["state"], pd.isna(lost["hours"]), pd.isna(lost["flops"])) == ("absent", True, True)


@pytest.mark.slow
def test_a_real_run_tells_where_gram_was_on_and_what_each_row_came_from(tmp_path, write_tiny):
    sets = {
        name: {"size": 32, "count": count, "split": split, "name": "rooms"}
        for name, count, split in (("kept", 24, "val"), ("asked", 8, "test"))
    }
    knn = {"protocol": "knn", "train": "kept", "test": "asked"}
    arms = {"plain": {}, "late": {"gram.weight": 2.0, "gram.start_step": 4}}
    evals = {"every": 2, "sets": sets, "tasks": {"knn": knn}}
    path = write_tiny(steps=6, trunk={"steps": 2}, arms=arms, evals=evals)
    assert run_experiment([str(path)]) == 0
    folder = tmp_path / "runs" / "tiny"
    assert main([str(folder), "--out", str(tmp_path / "tables")]) == 0
    found = {name: pd.read_parquet(tmp_path / "tables" / "tiny" / f"{name}.parquet") for name in SCHEMAS}
    by_step = found["results"].groupby(["arm", "step"])["gram"].first().to_dict()
    assert by_step == {
        **{("trunk", 0): False, ("trunk", 2): False, ("plain", 4): False, ("plain", 6): False},
        **{("late", 4): False, ("late", 6): True},
    }
    record = json.loads((folder / "experiment.json").read_text())
    segments = {arm: record["jobs"][f"{arm}-s0"]["segment"] for arm in ("trunk", "plain", "late")}
    assert found["results"].groupby("arm")["segment"].unique().map(list).to_dict() == {
        arm: [segment] for arm, segment in segments.items()
    }
    jobs = found["jobs"].set_index("arm")
    assert (jobs["state"] == "done").all()
    assert jobs.loc["late", "parent"] == "trunk"
    assert set(jobs["git"]) == {record["environment"]["git"]}
    assert (found["results"]["flops"].diff().dropna() != 0).any()


def test_equal_runs_give_equal_bytes_whatever_order_they_were_written_in(make_run, tmp_path):
    folder = make_run(**SMALL)
    for number in range(2):
        assert main([str(folder), "--out", str(tmp_path / str(number))]) == 0
        lines = (folder / "results.jsonl").read_text().splitlines()
        random.Random(0).shuffle(lines)
        (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    first, second = (written(tmp_path / str(number) / "gram_ablation") for number in range(2))
    assert first == second
    assert set(first) == {"results.parquet", "verdicts.parquet", "jobs.parquet"}


def test_csv_holds_what_parquet_holds(make_run, tmp_path):
    folder = make_run(**SMALL)
    for to in ("csv", "parquet"):
        assert main([str(folder), "--to", to, "--out", str(tmp_path)]) == 0
    for name, schema in SCHEMAS.items():
        csv, parquet = (tmp_path / "gram_ablation" / f"{name}.{to}" for to in ("csv", "parquet"))
        one, two = pd.read_csv(csv, keep_default_na=True), pd.read_parquet(parquet)
        assert list(one) == list(two) == schema.names
        pd.testing.assert_frame_equal(one, two.replace("", None), check_dtype=False)


def test_a_large_experiment_stays_well_under_a_megabyte(tmp_path):
    """20 arms, 5 seeds, 15 evaluations, 20 metrics, all digits of all values random."""
    rng, count = np.random.default_rng(0), 20 * 5 * 15 * 20
    place = np.arange(count)
    jobs, steps, metrics = place // 300, place // 20 % 15, place % 20
    values = rng.random(count)
    used = rng.random(1500)[place // 20]
    columns = {
        **{"experiment": ["degradation"] * count, "arm": [f"arm-{job // 5}" for job in jobs], "seed": jobs % 5},
        **{"step": 200 * steps, "eval": [f"task-{m // 4}" for m in metrics], "dataset": ["scenes"] * count},
        **{"split": ["test"] * count, "metric": [f"metric-{m}" for m in metrics], "value": values},
        **{"low": values - rng.random(count) / 100, "high": values + rng.random(count) / 100, "images": [512] * count},
        **{"higher_is_better": metrics % 2 == 0, "unit": ["share"] * count, "size": [64] * count},
        **{"protocol": [f"task-{m // 4}-quick-v1" for m in metrics], "data": ["56ae2b88"] * count},
        **{
            "protocol_hash": [f"cbe8c18{m // 4}" for m in metrics],
            "gram": steps > 4,
            "hours": used,
            "flops": used * 1e15,
        },
        **{"segment": [f"{job:016x}" for job in jobs], "code": ["0.1.0 3ff9b7a77e"] * count},
    }
    frame = pd.DataFrame(columns)
    write_parquet(pa.Table.from_pandas(frame, schema=RESULTS, preserve_index=False), tmp_path / "results.parquet")
    assert (tmp_path / "results.parquet").stat().st_size < 600_000
    pd.testing.assert_series_equal(pd.read_parquet(tmp_path / "results.parquet")["value"], frame["value"])


def test_every_column_is_documented_with_its_type():
    sections = re.split(r"^## ", (ROOT / "docs" / "tables.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = {section.split("\n", 1)[0]: section for section in sections}
    types = {
        "text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "yes or no": pa.bool_(),
        "number, 32 bit": pa.float32(),
    }  # fmt: skip
    for name, schema in SCHEMAS.items():
        rows = re.findall(r"^\| (`[^|]+) \|([^|]*)\|", told[name], re.MULTILINE)
        found = [(column, kind.strip()) for columns, kind in rows for column in re.findall(r"`(\w+)`", columns)]
        assert [column for column, _ in found] == list(schema.names), name
        assert [(c, k) for c, k in found if k and schema.field(c).type != types[k]] == []


def test_how_much_there_is_and_what_is_not_done_is_told(make_run, capsys, make_row):
    arms = {**TWO, "third": {}, "fourth": {}, "fifth": {}}
    folder = make_run(died=True, **{**SMALL, "arms": arms})
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(vars(make_row(run="gram_ablation", arm="stranger"))) + "\n")
    assert main([str(folder)]) == 0
    told = capsys.readouterr().out.splitlines()
    table = pq.read_table(folder / "tables" / "results.parquet")
    assert told[0].startswith(f"{folder}/tables: {table.num_rows} results and ")
    assert told[0].endswith(" of 6 jobs, 3 of them not done")
    assert told[1] == "1 results of arms that experiment.json does not name are left out: stranger"
    assert "stranger" not in set(table["arm"].to_pylist())


@pytest.mark.parametrize("broken", ["nowhere", "twice", "format", "against"])
def test_bad_input_is_one_line_and_nothing_is_written(make_run, tmp_path, capsys, broken):
    folder = make_run(**SMALL)
    given = {
        "nowhere": [folder, tmp_path / "nowhere"],
        "twice": [folder, folder],
        "format": [folder, "--to", "html"],
        "against": [folder, "--against", "anchor"],
    }[broken]
    assert main([*map(str, given), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gramlab: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
