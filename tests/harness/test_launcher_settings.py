"""Settings of the launcher: the short form, and options of sbatch that are refused."""

import pytest

from common.errors import BadInput
from harness.config import load
from harness.launcher_settings import Launcher


def test_the_short_form_names_the_launcher_and_leaves_the_rest_of_its_settings(write_tiny):
    path = write_tiny(launcher={"name": "slurm", "partition": "gpu"})
    assert load(path, ["launcher=local"]).launcher == Launcher(name="local", partition="gpu")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"time": 30}, "flags.time: want launcher.minutes in its place"),
        ({"dependency": "afterok:1"}, "flags.dependency: want a long option of sbatch that the launcher does not give"),
        ({"--gres": "gpu:1"}, "flags.--gres: want a long option of sbatch"),
        ({"cpus-per-task": "many"}, "flags.cpus-per-task='many': want a number of cores, 1 or more"),
    ],
)
def test_options_of_sbatch_that_cannot_be_meant_are_refused(flags, said):
    with pytest.raises(BadInput) as refused:
        Launcher(name="slurm", flags=flags)
    assert said in str(refused.value)


def test_a_grace_as_long_as_the_limit_is_refused():
    with pytest.raises(BadInput, match="grace=60: want fewer seconds than minutes=1 has"):
        Launcher(name="slurm", minutes=1, grace=60)
