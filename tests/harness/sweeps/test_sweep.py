"""Whole sweeps of real, tiny trials: what comes out, what goes on, what is never run twice, what is refused."""

import csv
import json
import re
import signal
import time

import optuna
import pytest
from pypdf import PdfReader

import harness.sweeps.record
from common.interrupts import RESUME
from harness.config import load
from harness.run import main as run
from harness.sweep import main
from tests.processes import Command

ROOMS = {"size": 32, "split": "val", "name": "rooms"}
EVALS = {
    "sets": {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}},
    "tasks": {"segmentation": {"protocol": "segmentation", "train": "kept", "test": "asked"}},
}
# long enough for a worker to be stopped in it, and kept often enough to go on with
LONG = {"steps": 60, "evals": EVALS | {"every": 60}, "runtime": {"threads": 1, "checkpoint_every": 5}}


def table(tmp_path):
    """The rows of `sweep.csv`."""
    return [*csv.DictReader((tmp_path / "runs" / "tiny" / "sweep.csv").read_text().splitlines())]


def study_in_journal(tmp_path):
    journal = optuna.storages.journal.JournalFileBackend(str(tmp_path / "runs" / "tiny" / "study.journal"))
    return optuna.load_study(study_name="tiny", storage=optuna.storages.JournalStorage(journal))


def refused(arguments, capsys):
    """The one line that a refusal prints."""
    assert main([str(one) for one in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gramlab: ")
    assert said.count("\n") == 1, said
    return said.removeprefix("gramlab: ").strip()


def trained(tmp_path):
    """The folders of jobs, with when their curve was last written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "tiny").glob("*/metrics.jsonl")}


@pytest.mark.slow
def test_a_sweep_leaves_a_record_a_table_a_report_and_an_experiment_for_each_of_its_front(
    write_sweep, record, tmp_path, capsys
):
    assert main([str(write_sweep()), "runtime.draw=true"]) == 0
    folder = tmp_path / "runs" / "tiny"
    found = record()
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 3
    assert {*trained(tmp_path)} == {"trunk-s0", "plain-s0", "trial-0000-s0", "trial-0001-s0", "trial-0002-s0"}
    for trial in found["trials"]:
        ((seed, miou, low, high),), ((_, hours, *_),) = trial["values"]["miou"], trial["values"]["hours"]
        assert seed == 0
        assert low <= miou <= high
        assert hours > 0
    assert set(found["references"]) == {"plain"}
    assert [row["trial"] for row in table(tmp_path)] == [trial["arm"] for trial in found["trials"]]
    assert len(PdfReader(folder / "sweep.pdf").pages) == 5  # three trials tell nothing of importances
    assert {path.stem for path in (folder / "front").glob("*.yaml")} == set(found["front"])
    said = capsys.readouterr().out
    assert said.endswith("sweep.pdf\n")
    assert "\n3 of 3 trials: 3 complete, 0 pruned, 0 failed\n" in said
    assert all(f"\nfront: {arm}: mIoU " in said for arm in found["front"])
    assert "\nto compare with: plain: mIoU " in said


@pytest.mark.slow
def test_a_front_member_s_experiment_has_its_settings_and_runs_as_it_is_on_seeds_that_the_sweep_did_not_see(
    write_sweep, record, tmp_path
):
    assert main([str(write_sweep(trials=1))]) == 0
    (trial,) = record()["trials"]
    path = tmp_path / "runs" / "tiny" / "front" / f"{trial['arm']}.yaml"
    experiment = load(path)
    assert experiment.arms == {"plain": {}, trial["arm"]: trial["params"]}
    assert experiment.seeds == [1, 2, 3]
    assert "optimistic" in path.read_text()
    assert run([str(path), "seeds=[1]", "runtime.draw=true"]) == 0
    assert (tmp_path / "runs" / experiment.name / "report.pdf").is_file()


@pytest.mark.slow
def test_more_trials_continue_the_study_and_train_none_again(write_sweep, record, tmp_path):
    path = write_sweep()
    assert main([str(path), "--trials", "1"]) == 0
    before, first = trained(tmp_path), record()["trials"][0]
    assert main([str(path), "--trials", "3"]) == 0
    after = trained(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2
    assert record()["trials"][0] == first


@pytest.mark.slow
def test_the_same_command_proposes_the_same_trials(write_sweep, record, tmp_path, tiny_text):
    assert main([str(write_sweep())]) == 0
    whole = [trial["params"] for trial in record()["trials"]]
    path = write_sweep({"name": "again"})
    for count in ("1", "3"):
        assert main([str(path), "--trials", count]) == 0
    again = json.loads((tmp_path / "runs" / "again" / "sweep.json").read_text())
    assert [trial["params"] for trial in again["trials"]] == whole


def test_a_trial_with_the_settings_of_another_is_told_its_values_and_never_trained(write_sweep, record, tmp_path):
    space = {"gram.weight": {"choices": [2.0]}, "gram.resolution": {"choices": [2.0]}}
    assert main([str(write_sweep(space=space))]) == 0
    first, *others = record()["trials"]
    assert [trial["same_as"] for trial in others] == [first["arm"]] * 2
    assert [trial["values"] for trial in others] == [first["values"]] * 2
    assert {*trained(tmp_path)} == {"trunk-s0", "plain-s0", "trial-0000-s0"}
    assert record()["front"] == [first["arm"]]


@pytest.mark.slow
def test_settings_that_come_to_the_same_are_one_too(write_sweep, record):
    """The resolution of a Gram teacher that is off shapes nothing."""
    space = {"gram.weight": {"choices": [0.0, 2.0]}, "gram.resolution": {"choices": [1.0, 2.0]}}
    assert main([str(write_sweep(space=space, trials=8, sampler={"name": "RandomSampler"}))]) == 0
    trials = [trial for trial in record()["trials"] if trial["params"]["gram.weight"] == 0]
    assert len({trial["params"]["gram.resolution"] for trial in trials}) == 2
    assert sum(trial["same_as"] is None for trial in trials) == 1


@pytest.mark.slow
def test_hopeless_trials_end_early_by_a_label_free_measure_with_several_objectives(write_sweep, record, tmp_path):
    pruner = {"name": "ThresholdPruner", "args": {"lower": 1e9}, "by": "health.rankme"}
    assert main([str(write_sweep(pruner=pruner))]) == 0
    for trial in record()["trials"]:
        assert trial["state"] == "pruned"
        assert [*trial["shown"]] == ["4"]
        status = json.loads((tmp_path / "runs" / "tiny" / f"{trial['arm']}-s0" / "status.json").read_text())
        assert (status["state"], status["step"]) == ("done", 4)
    assert record()["front"] == []


@pytest.mark.slow
def test_one_objective_that_is_pruned_by_is_reported_to_optuna_as_well(write_sweep, tmp_path):
    pruner = {"name": "MedianPruner", "args": {"n_startup_trials": 5}}
    assert main([str(write_sweep(objectives=["miou"], pruner=pruner, trials=1))]) == 0
    (trial,) = study_in_journal(tmp_path).trials
    assert [*trial.intermediate_values] == [4, 6]
    assert trial.value == trial.intermediate_values[6]


@pytest.mark.slow
def test_a_trial_whose_settings_exclude_one_another_fails_with_its_reason_and_the_others_go_on(write_sweep, record):
    space = {"gram.weight": {"choices": [2.0]}, "gram.start_step": {"choices": [2, 4, 6]}}  # 6 is the end
    assert main([str(write_sweep(space=space, trials=12, sampler={"name": "RandomSampler"}))]) == 0
    states = {trial["params"]["gram.start_step"]: (trial["state"], trial["reason"]) for trial in record()["trials"]}
    assert states[2] == states[4] == ("complete", None)
    assert states[6][0] == "failed"
    assert "gram.start_step=6" in states[6][1]


@pytest.mark.slow
def test_objectives_are_means_over_several_seeds(write_sweep, record, tmp_path):
    assert main([str(write_sweep({"seeds": [0, 1]}, trials=1, objectives=["knn.top1"]))]) == 0
    (trial,) = record()["trials"]
    assert [seed for seed, *_ in trial["values"]["knn.top1"]] == [0, 1]
    (known,) = study_in_journal(tmp_path).trials
    assert known.value == pytest.approx(sum(value for _, value, *_ in trial["values"]["knn.top1"]) / 2)


@pytest.mark.slow
def test_the_front_is_confirmed_on_fresh_seeds_and_both_values_stand_in_the_table(write_sweep, record, tmp_path):
    path = write_sweep(trials=2)
    assert main([str(path)]) == 0
    assert main([str(path), "--confirm", "2", "runtime.draw=true"]) == 0
    confirmed = record()["confirmed"]
    assert confirmed["seeds"] == [1, 2]
    assert set(confirmed["values"]) == {"plain", *record()["front"]}
    assert all([seed for seed, *_ in values["miou"]] == [1, 2] for values in confirmed["values"].values())
    assert (tmp_path / "runs" / "tiny-confirm" / "report.pdf").is_file()
    assert all(bool(row["fresh miou"]) == (row["front"] == "True") for row in table(tmp_path))


@pytest.mark.slow
def test_a_front_member_that_diverges_on_fresh_seeds_is_left_without_their_values(write_sweep, record, monkeypatch):
    """A rate under which the loss grows without bounds stands for a setting that only luck kept finite."""
    path = write_sweep(trials=1, space={"optimizer.lr": {"choices": [2e-3, 3e-3]}})
    assert main([str(path)]) == 0
    real = harness.sweeps.record.arms
    blown = lambda trials: {arm: {"optimizer.lr": 1e30} for arm in real(trials)}  # noqa: E731 - in place of a function
    monkeypatch.setattr("harness.sweeps.record.arms", blown)
    assert main([str(path), "--confirm", "2"]) == 1
    assert record()["confirmed"]["values"]["trial-0000"] == {"hours": [], "miou": []}


@pytest.mark.slow
def test_the_confirmation_is_planned_as_what_it_is(write_sweep, tmp_path, capsys):
    path = write_sweep(trials=1)
    assert main([str(path)]) == 0
    capsys.readouterr()
    assert main([str(path), "--confirm", "2", "--plan"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("experiment tiny-confirm\n2 arms × 2 seeds")
    assert "sweep of" not in said
    assert not (tmp_path / "runs" / "tiny-confirm" / "experiment.json").exists()


@pytest.mark.slow
def test_a_folder_that_holds_another_trial_ends_the_command_and_fails_no_trial(write_sweep, tmp_path, capsys):
    """A study that was moved away leaves its trials' links, under which other settings were trained."""
    path = write_sweep(trials=1, sampler={"name": "RandomSampler", "args": {"seed": 0}})
    assert main([str(path)]) == 0
    (tmp_path / "runs" / "tiny" / "study.journal").unlink()
    other = write_sweep(trials=1, sampler={"name": "RandomSampler", "args": {"seed": 1}})
    capsys.readouterr()
    assert main([str(other)]) == 2
    assert "trial-0000-s0" in capsys.readouterr().err.splitlines()[-1]
    for link in (tmp_path / "runs" / "tiny").glob("trial-*"):
        link.unlink()
    assert main([str(other)]) == 0
    (trial,) = study_in_journal(tmp_path).get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert trial.user_attrs["arm"] == "trial-0000"


@pytest.mark.parametrize("name", ["trial", "trial-0000"])
def test_an_arm_with_the_name_of_a_trial_is_refused(write_sweep, capsys, name):
    said = refused([write_sweep({"arms": {name: {}}})], capsys)
    assert said == f"arms.{name}: a sweep calls its trials so: want another name"


def test_the_plan_tells_what_is_searched_and_what_all_of_it_costs_and_writes_its_drawing_alone(
    write_sweep, tmp_path, capsys
):
    path = write_sweep({"schedule": {"counts_from": "segment"}})
    assert main([str(path), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "evaluation set rooms/test: " in out
    assert "note: every arm: schedule.counts_from=segment: nothing counts from there" in out
    assert re.search(r"left to do: about .* with 3 trials, less where they are pruned or equal \(", out)
    assert "sweep of 3 trials" in out
    assert "gram.weight: 0.1 to 10.0 on a log scale" in out
    assert "gram.update_every: one of null, 2, only if gram.teacher is 'snapshot'" in out
    drawing = tmp_path / "runs" / "tiny" / "plan.pdf"
    assert out.endswith(f"timeline: {drawing}\n")
    assert [one for one in (tmp_path / "runs").rglob("*") if one.is_file()] == [drawing]
    note = "note: the file describes a sweep; its arms alone are run here"
    assert note not in out
    assert run([str(path), "--plan"]) == 0
    assert note in capsys.readouterr().out


def test_an_arm_that_no_run_can_do_is_refused_as_in_any_experiment(write_sweep, tmp_path, capsys):
    arms = {"plain": {}, "short": {"optimizer.lr_end": 0.0, "optimizer.warmup_steps": 9}}
    assert "arms.short: optimizer.warmup_steps=9: want fewer than" in refused([write_sweep({"arms": arms})], capsys)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_trial_that_no_run_could_do_fails_with_its_reason(write_sweep, record):
    space = {"optimizer.warmup_steps": {"choices": [1, 9]}}
    sections = {"optimizer": {"lr_end": 0.0}, "arms": {}}
    assert main([str(write_sweep(sections, space=space, trials=6, sampler={"name": "RandomSampler"}))]) == 0
    found = {trial["params"]["optimizer.warmup_steps"]: trial for trial in record()["trials"]}
    assert (found[1]["state"], found[9]["state"]) == ("complete", "failed")
    assert "optimizer.warmup_steps=9: want fewer than" in found[9]["reason"]


@pytest.mark.slow
def test_a_study_in_sqlite_goes_on_as_one_in_a_journal(write_sweep, record, tmp_path):
    path = write_sweep(storage=f"sqlite:///{tmp_path}/study.db")
    for count in ("1", "2"):
        assert main([str(path), "--trials", count]) == 0
    assert [trial["state"] for trial in record()["trials"]] == ["complete"] * 2
    assert not (tmp_path / "runs" / "tiny" / "study.journal").exists()


@pytest.mark.slow
def test_a_study_made_by_other_settings_is_refused_and_the_differences_are_named(
    write_sweep, tmp_path, capsys, checksums
):
    path = write_sweep(trials=1)
    assert main([str(path)]) == 0
    before = checksums(tmp_path / "runs")
    capsys.readouterr()
    for change, difference in {
        "steps=8": "steps was 6, is 8",
        "evals.every=3": "evals.every was 2, is 3",
        "sweep.objectives=[miou]": "sweep.objectives was ['miou', 'hours'], is ['miou']",
        "seeds=[0,1]": "seeds was [0], is [0, 1]; what it forks from",
        "evals.sets.asked.count=9": "the evaluations, by their protocols or their sets",
    }.items():
        want = "): want those, or another name=... for a new study"
        assert refused([path, change], capsys) == f"the study 'tiny' was made by other settings ({difference}{want}"
    space = {"gram.weight": {"low": 0.1, "high": 11.0, "log": True}}
    assert "sweep.space.gram.weight.high was 10.0, is 11.0; " in refused([write_sweep(space=space)], capsys)
    assert "optimizer.lr was 0.001, is 0.01" in refused([path, "optimizer.lr=0.01"], capsys)  # by its trunk already
    assert checksums(tmp_path / "runs") == before


@pytest.mark.slow
def test_another_sampler_or_pruner_or_fewer_trials_may_go_on_with_a_study(write_sweep, record, capsys):
    assert main([str(write_sweep(trials=1, pruner={"name": "MedianPruner"}))]) == 0
    assert main([str(write_sweep(trials=2, sampler={"name": "RandomSampler"}))]) == 0
    assert "the study has 1 trial, 1 of them at an end; 1 left to do for sweep.trials=2" in capsys.readouterr().out
    pruner = {"name": "ThresholdPruner", "args": {"lower": 1e9}, "by": "health.rankme"}
    assert main([str(write_sweep(trials=3, pruner=pruner))]) == 0
    assert [trial["state"] for trial in record()["trials"]] == ["complete", "complete", "pruned"]
    assert [trial["pruned"] and trial["pruned"]["by"] for trial in record()["trials"]] == [None, None, "health.rankme"]
    capsys.readouterr()
    assert main([str(write_sweep()), "--trials", "2"]) == 0
    said = capsys.readouterr().out
    assert "nothing to do: the study has 3 trials, all at an end, and sweep.trials=2 asks for no more" in said
    assert record()["wanted"] == 3


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"objectives": ["knn.top2"]}, "sweep.objectives: no task yields 'knn.top2'; did you mean 'knn.top1'?"),
        ({"objectives": []}, "sweep.objectives is empty"),
        ({"space": {}}, "sweep.space is empty"),
        ({"space": {"gram.weight": {"low": 2, "high": 1}}}, "sweep.space.gram.weight.low=2.0: want below high=1.0"),
        ({"space": {"gram.weight": {"low": -1, "high": 1}}}, "sweep.space.gram.weight: got -1: want a number,"),
        ({"sampler": {"name": "Tpe"}}, "sweep.sampler: Optuna has no 'Tpe'"),
        ({"pruner": {"name": "MedianPruner", "by": "mio"}}, "sweep.pruner.by: no task yields 'mio'"),
        ({"storage": "postgresql://nobody@127.0.0.1:1/none"}, "sweep.storage=postgresql://nobody@127.0.0.1:1/none"),
        ({"storage": "postgres://me:secret@127.0.0.1:1/none"}, "sweep.storage='postgres://…@127.0.0.1:1/none': want"),
        ({"storage": "sqlite:////nowhere/at/all/study.db"}, "sweep.storage=sqlite:////nowhere/at/all/study.db"),
        ({"storage": "sqlite:///"}, "sweep.storage=sqlite:///: a study in memory is lost with its process"),
        ({"storage": "sqlite://"}, "sweep.storage=sqlite://: a study in memory is lost with its process"),
        ({"storage": "sqlite:///:memory:"}, "sweep.storage=sqlite:///:memory:: a study in memory is lost"),
        ({"storage": "study.db"}, "sweep.storage=study.db: want sqlite:///FILE in a folder"),
        ({"storage": "mysql://me:secret@host/x"}, "sweep.storage='mysql://…@host/x': want it without a"),
        ({"storage": "postgresql+no_driver://host/x"}, "sweep.storage=postgresql+no_driver://host/x "),
        ({"storage": "postgresql+psycopg2cffi://host/x"}, "needs the package psycopg2cffi: want postgresql://… and "),
        ({"storage": "mongodb://localhost/x"}, "sweep.storage=mongodb://localhost/x: want sqlite"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line_and_nothing_is_written(write_sweep, tmp_path, capsys, sweep, said):
    assert said in refused([write_sweep(**sweep)], capsys)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("launcher", ["local", "slurm"])
def test_a_launcher_has_nothing_to_launch_in_a_sweep(write_sweep, tmp_path, capsys, launcher):
    assert f"launcher={launcher}: a sweep trains its trials itself" in refused(
        [write_sweep(), f"launcher={launcher}"], capsys
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_sweep_of_which_every_trial_fails_says_so_and_ends_with_one(write_sweep, record, capsys):
    path = write_sweep({"optimizer": {"lr": 1e30}}, trials=1)
    assert main([str(path)]) == 1
    log = capsys.readouterr().err
    assert "plain-s0: stopped, since not all is finite" in log or "trunk-s0: stopped" in log
    assert "every trial failed: " in log
    assert [trial["state"] for trial in record()["trials"]] == ["failed"]


def test_confirming_without_a_finished_trial_is_refused(write_sweep, tmp_path, capsys):
    assert "no completed trial yet" in refused([write_sweep(), "--confirm", "3"], capsys)
    assert "want at least one seed" in refused([write_sweep(), "--confirm", "0"], capsys)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_damaged_journal_is_refused_with_the_way_out(write_sweep, tmp_path, capsys):
    path = write_sweep(trials=1)
    assert main([str(path)]) == 0
    capsys.readouterr()
    journal = tmp_path / "runs" / "tiny" / "study.journal"
    journal.write_bytes(b"no journal\n" + journal.read_bytes())
    said = refused([path], capsys)
    assert str(journal) in said
    assert "move it and the links trial-* beside it away" in said


def wait_for(condition, *processes):
    """What `condition` gives once it is true; the processes must live until then."""
    while not (found := condition()):
        assert all(process.poll() is None for process in processes), [process.communicate() for process in processes]
        time.sleep(0.01)
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("signals_heard")
@pytest.mark.parametrize(
    ("storage", "number"),
    [(None, signal.SIGKILL), ("sqlite:///{}/study.db", signal.SIGKILL), (None, signal.SIGTERM)],
    ids=["journal-killed", "sqlite-killed", "journal-asked-to-leave"],
)
def test_the_trial_of_a_worker_that_is_gone_is_taken_up_by_another_and_goes_on_from_its_state(
    write_sweep, record, tmp_path, storage, number
):
    path = write_sweep(
        LONG,
        trials=3,
        heartbeat=3600,  # which nobody here waits for
        storage=storage and storage.format(tmp_path),
        space={"gram.weight": {"low": 0.1, "high": 10.0, "log": True}},
    )
    folder = tmp_path / "runs" / "tiny"
    gone, left = (Command("harness/sweep.py", path, folder=tmp_path) for _ in range(2))
    wait_for(lambda: under_way(folder, gone.pid), gone, left)
    gone.send_signal(number)
    gone.communicate()
    assert gone.returncode == (-9 if number == signal.SIGKILL else RESUME)
    said = left.communicate(timeout=300)[1]
    assert left.returncode == 0, said
    assert re.search(r"trial-000\d-s0: goes on from step \d", said)
    found = record()["trials"]
    assert [(trial["arm"], trial["state"]) for trial in found] == [(f"trial-{n:04d}", "complete") for n in range(3)]
    for curve in folder.glob("trial-*/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in curve.read_text().splitlines()]
        assert steps == [*range(3, LONG["steps"] + 1)], curve
    assert len(table(tmp_path)) == 3


def counts(tmp_path, **states):
    """How many trials of the study in the journal are in these states, those taken up again one by one."""
    known = [trial.state.name.lower() for trial in study_in_journal(tmp_path).trials]
    return all(known.count(state) == count for state, count in states.items())


@pytest.mark.slow
@pytest.mark.usefixtures("signals_heard")
def test_a_worker_that_stood_still_leaves_its_trial_to_the_one_that_took_it_up_and_goes_on_with_others(
    write_sweep, record, tmp_path
):
    path = write_sweep(LONG, trials=3, heartbeat=5, space={"gram.weight": {"low": 0.1, "high": 10.0, "log": True}})
    folder = tmp_path / "runs" / "tiny"
    still, other = (Command("harness/sweep.py", path, folder=tmp_path) for _ in range(2))
    wait_for(lambda: under_way(folder, still.pid), still, other)
    stood_at = under_way(folder, still.pid)[0].name.removesuffix("-s0")
    still.send_signal(signal.SIGSTOP)
    wait_for(lambda: any("failed_trial" in t.system_attrs for t in study_in_journal(tmp_path).trials), still, other)
    still.send_signal(signal.SIGCONT)
    said, others = still.communicate(timeout=300)[1], other.communicate(timeout=300)[1]
    assert (still.returncode, other.returncode) == (0, 0), said + others
    assert said.count(f"{stood_at}: taken up by another worker while this one stood still; leaves it") == 1
    assert "Traceback" not in said
    assert [(trial["arm"], trial["state"]) for trial in record()["trials"]] == [
        (f"trial-{n:04d}", "complete") for n in range(3)
    ]
    assert counts(tmp_path, fail=1, complete=3, waiting=0)
    for curve in folder.glob("trial-*/metrics.jsonl"):
        assert [json.loads(line)["step"] for line in curve.read_text().splitlines()] == [
            *range(3, LONG["steps"] + 1)
        ], curve


@pytest.mark.slow
@pytest.mark.usefixtures("signals_heard")
def test_a_trial_that_waits_for_its_equal_goes_behind_it_where_the_worker_of_that_one_is_gone(
    write_sweep, record, tmp_path
):
    path = write_sweep(LONG, trials=2, heartbeat=5, space={"gram.weight": {"choices": [2.0]}})
    workers, folder = [Command("harness/sweep.py", path, folder=tmp_path) for _ in range(2)], tmp_path / "runs" / "tiny"
    wait_for(lambda: any(under_way(folder, worker.pid) for worker in workers), *workers)
    wait_for(lambda: counts(tmp_path, running=2), *workers)
    gone, left = sorted(workers, key=lambda worker: not under_way(folder, worker.pid))
    gone.kill()
    gone.communicate()
    said = left.communicate(timeout=300)[1]
    assert left.returncode == 0, said
    assert "trial-0001: goes back into the queue, behind trial-0000, whose worker is gone" in said
    first, second = record()["trials"]
    assert (first["arm"], first["state"], first["same_as"]) == ("trial-0000", "complete", None)
    assert (second["arm"], second["state"], second["same_as"]) == ("trial-0001", "complete", "trial-0000")
    assert second["values"] == first["values"]
    assert {*trained(tmp_path)} == {"trunk-s0", "plain-s0", "trial-0000-s0"}
    assert counts(tmp_path, complete=2, fail=2, waiting=0)


def under_way(folder, worker):
    """The trials that a worker is at, where it has kept a state of them."""
    busy = [lock.parent for lock in folder.glob("trial-*/.lock") if lock.read_text() == str(worker)]
    return [trial for trial in busy if [*trial.glob("states/step_*.safetensors")]]
