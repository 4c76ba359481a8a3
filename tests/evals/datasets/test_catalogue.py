import os
import subprocess
import sys
from enum import Enum

import pytest

from evals.datasets.catalogue import KINDS, open_set
from evals.errors import BadInput


class Kind(Enum):
    scenes = "scenes"


def test_a_kind_may_be_a_name_or_a_setting():
    for kind in ("scenes", Kind.scenes):
        dataset = open_set(kind, split="val", size=16, count=5, seed=3, name="rooms")
        assert (dataset.name, dataset.split, len(dataset), dataset.image(0).shape) == ("rooms", "val", 5, (16, 16, 3))
    assert open_set("scenes").name == "scenes"
    assert len(open_set("scenes")) == 1000


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("scene", {}, "got data set kind 'scene': want one of scenes, folder, ade20k, nyu; did you mean 'scenes'?"),
        ("cifar", {}, "got data set kind 'cifar': want one of scenes, folder, ade20k, nyu; correct it"),
        ("scenes", {"sizes": 3}, "got setting 'sizes' for a data set: want root, split, .*; did you mean 'size'?"),
        ("scenes", {"root": "x"}, "got root for scenes: want none"),
        ("scenes", {"classes": ["ball"]}, "got classes for scenes: want none"),
        ("folder", {}, "got no root for a set of kind 'folder': want its folder; set root"),
        ("nyu", {"root": "x", "size": 64}, "got size for a set of kind 'nyu': want none, it belongs to scenes"),
        ("ade20k", {"root": "x", "seed": 1}, "got seed for a set of kind 'ade20k': want none"),
        ("folder", {"root": "x", "count": 0}, "got count 0 for a set of kind 'folder': want at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(kind, given, message):
    with pytest.raises(BadInput, match=message.replace("?", r"\?")) as caught:
        open_set(kind, **given)
    assert "\n" not in str(caught.value)


def test_every_kind_of_the_experiments_can_be_opened():
    from harness.settings import SetKind

    assert {kind.value for kind in SetKind} == set(KINDS)


def test_opening_a_set_imports_nothing_heavy():
    code = "import sys; from evals.datasets.catalogue import open_set; open_set('scenes', count=1).image(0); "
    code += "print(sorted({'torch', 'mmseg', 'h5py', 'matplotlib', 'PIL'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
