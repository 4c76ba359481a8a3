"""From YAML and `key=value` to settings: what composes, what is refused, and that every refusal is one helpful line."""

import dataclasses
import re
import shlex

import pytest
import yaml

from common.errors import BadInput
from evals.datasets.catalogue import KINDS
from evals.datasets.settings import Set
from harness import settings
from harness.config import ADDED, arm_settings, as_dict, identity, load, science, trunk_settings
from harness.crop_settings import VERSION, Sizes
from harness.layers import flatten
from harness.losses.gram import Gram
from harness.losses.table import LOSSES


@pytest.fixture
def read(tmp_path):
    """Loads the text as an experiment file."""

    def of(text: str, *overrides: str):
        path = tmp_path / "some.yaml"
        path.write_text(text)
        return load(path, overrides)

    return of


def test_an_empty_file_is_the_defaults_under_the_files_name(read):
    assert as_dict(read("")) == {**as_dict(settings.Experiment()), "name": "some"}


def test_values_arrive_with_their_types(read):
    found = read(
        "steps: 7\nseeds: [1, 2]\ndevice: cpu\n"
        "optimizer: {lr: 1e-3, clip: null}\n"
        "gram: {weight: 2, start_step: 3, teacher: ema, resolution: 2}\n"
        "data: {sources: {rooms: {kind: scenes, count: 5}}}\n"
    )
    assert (found.steps, found.seeds, found.device) == (7, [1, 2], "cpu")
    assert (found.optimizer.lr, found.optimizer.clip) == (0.001, None)
    assert found.gram == Gram(weight=2.0, start_step=3, teacher="ema", resolution=2.0)
    assert isinstance(found.gram.weight, float)
    assert found.data.sources == {"rooms": Set(kind="scenes", count=5)}


def test_the_command_line_comes_last(read):
    text = "steps: 7\ngram: {weight: 1.0}\narms: {a: {}, b: {gram.weight: 3.0}, c: {}}\nbaseline: a\n"
    found = read(text, "steps=9", "gram.start_step=2", "+koleo.weight=0.5", "data.sources={rooms: {count: 3}}")
    assert (found.steps, found.gram.start_step, found.koleo.weight) == (9, 2, 0.5)
    assert found.data.sources["rooms"].count == 3
    assert found.gram.weight == 1.0
    assert list(read(text, "arms=[b,c]").arms) == ["b", "c"]
    assert read(text, "arms=[b,c]").baseline is None
    assert list(read(text, "~arms.b").arms) == ["a", "c"]
    assert arm_settings(read(text, "arms.b.gram.weight=4"), "b").gram.weight == 4.0


def test_arms_are_chosen_by_an_override_or_by_an_argument_and_the_baseline_is_one_of_them(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("arms: {a: {}, b: {gram.weight: 3.0}, c: {}}\nbaseline: a\n")
    for found in (load(path, ["arms=[c,b]"]), load(path, arms=["c", "b"])):
        assert (list(found.arms), found.baseline) == (["c", "b"], None)
        assert arm_settings(found, "b").gram.weight == 3.0
    assert load(path, arms=["a"]).baseline == "a"
    with pytest.raises(BadInput, match=r"arms: no arm 'bb'; known: a, b, c; did you mean 'b'\?"):
        load(path, arms=["a", "bb"])


def test_a_mapping_of_ones_own_names_replaces_the_files_and_one_of_a_section_adds(read):
    text = """
gram: {start_step: 3}
model: {args: {depth: 2, num_heads: 2}}
arms: {a: {gram.weight: 2.0, gram.start_step: 4}, b: {}}
baseline: a
data: {sources: {one: {count: 3}, two: {}}, batch_size: 5}
evals: {sets: {rooms: {}}, tasks: {knn: {train: rooms, test: rooms}}}
"""
    found = read(text, "arms={mine: {gram.weight: 1.0}}")
    assert (found.arms, found.baseline) == ({"mine": {"gram.weight": 1.0}}, None)
    assert read(text, "arms.a={gram.start_step: 5}").arms["a"] == {"gram.start_step": 5}
    assert read(text, "arms={}").arms == {}
    assert list(read(text, "data.sources={three: {}}").data.sources) == ["three"]
    assert read(text, "data.sources={}").data.sources == {}
    assert read(text, "evals.tasks={}").evals.tasks == {}
    assert read(text, "model.args={depth: 3}").model.args == {"depth": 3}
    assert read(text, "data={sources: {three: {}}}").data.batch_size == 5
    assert read(text, "gram={weight: 1.0}").gram == Gram(weight=1.0, start_step=3)
    assert read(text, "data.sources.one={size: 32}").data.sources["one"] == Set(count=3, size=32)
    assert read(text, "~arms.a.gram.weight").arms["a"] == {"gram.start_step": 4}


def test_an_environment_variable_is_filled_in(read, monkeypatch):
    monkeypatch.setenv("ROOMS", "/some/where")
    text = "data: {sources: {a: {kind: folder, root: '${oc.env:ROOMS}/x'}}}"
    assert read(text).data.sources["a"].root == "/some/where/x"
    monkeypatch.delenv("ROOMS")
    with pytest.raises(BadInput, match="the environment variable ROOMS is not set"):
        read(text)


@pytest.mark.parametrize("value", ["2024", "true", "1.5"])
def test_the_quotes_that_a_refusal_tells_make_text_in_a_file_and_on_a_command_line(read, value):
    with pytest.raises(BadInput, match="put it in quotes") as error:
        read("", f"name={value}")
    (quoted,) = shlex.split(f"name={str(error.value).rpartition(': ')[2]}")
    assert read("", quoted).name == read(f"name: '{value}'").name == value


def test_a_whole_number_comes_from_a_variable_as_its_refusal_tells(read, monkeypatch):
    monkeypatch.setenv("NAME", "8")
    with pytest.raises(BadInput, match="steps='8': want a whole number") as error:
        read("steps: ${oc.env:NAME}")
    assert read(f"steps: {str(error.value).rpartition(' write ')[2]}").steps == 8


# --- groups


def test_groups_beside_the_file_and_of_the_repository_compose(read, tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("# @package _global_\nkoleo: {weight: 0.25}\n")
    text = "defaults:\n  - model: nano\n  - recipe: mine\n  - _self_\nmodel: {drop_path: 0.1}\n"
    found = read(text)
    assert (found.model.args["embed_dim"], found.model.drop_path, found.koleo.weight) == (96, 0.1, 0.25)


def test_a_group_is_chosen_on_the_command_line(read):
    text = "defaults:\n  - model: nano\n  - _self_\n"
    assert read(text, "model=vits").model.args == {}
    assert read(text, "model=vits", "model.args.depth=2").model.args == {"depth": 2}


def test_a_plus_lays_a_group_over_all_that_the_file_lists(read, tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "one.yaml").write_text("# @package _global_\nkoleo: {weight: 0.25}\nsteps: 5\n")
    (tmp_path / "recipe" / "two.yaml").write_text("# @package _global_\nsteps: 6\n")
    text = "defaults:\n  - recipe: one\n  - _self_\nsteps: 7\n"
    swapped, laid = read(text, "recipe=two"), read(text, "+recipe=two")
    assert (swapped.koleo.weight, swapped.steps) == (0.1, 7)
    assert (laid.koleo.weight, laid.steps) == (0.25, 6)


def test_an_unknown_choice_lists_the_known_ones(read):
    with pytest.raises(BadInput, match=r"model/nanoo.*known: nano, vit7b, vitb, vitl, vits"):
        read("defaults:\n  - model: nanoo\n  - _self_\n")
    with pytest.raises(BadInput, match=r"model/vit.*known: nano, vit7b, vitb, vitl, vits"):
        read("defaults:\n  - model: nano\n  - _self_\n", "model=vit")


# --- arms


def test_arms_take_dotted_and_nested_keys_alike(read):
    found = read("arms: {dotted: {gram.weight: 2.0}, nested: {gram: {weight: 2.0}}, plain: {}}")
    assert arm_settings(found, "dotted") == arm_settings(found, "nested")
    assert arm_settings(found, "plain") == found


def test_an_arm_changes_only_what_it_names(read):
    found = read("gram: {start_step: 5}\narms: {a: {gram.weight: 2.0, data.homogeneous_share: 0.5}}")
    arm = arm_settings(found, "a")
    before, after = (flatten({k: v for k, v in as_dict(x).items() if k != "arms"}) for x in (found, arm))
    assert {key for key in after if before[key] != after[key]} == {"gram.weight", "data.homogeneous_share"}


def test_the_components_that_an_arm_names_take_the_place_of_the_experiments_whatever_is_in_their_names(read):
    text = """
data: {homogeneous_share: 0.1, homogeneous: {imagenet: 1.0}}
arms:
  dotted: {data.homogeneous: {birds/002.Albatross: 3.0}}
  nested: {data: {homogeneous: {birds/002.Albatross: 3.0}, mixed: {mine/3.17: 1}}}
  one: {data.homogeneous.imagenet: 2.0}
  late: {from: dotted, at: 5, data.homogeneous: {imagenet: 4.0}}
  any: {data.homogeneous: null}
"""
    found = read(text)
    weights = {arm: arm_settings(found, arm).data.homogeneous for arm in found.arms}
    albatross = {"birds/002.Albatross": 3.0}
    assert weights == {
        "dotted": albatross, "nested": albatross, "one": {"imagenet": 2.0}, "late": {"imagenet": 4.0}, "any": None
    }  # fmt: skip
    assert arm_settings(found, "nested").data.mixed == {"mine/3.17": 1}
    again = read(text, "arms.one.data.homogeneous={a.b: 1.0}")
    assert arm_settings(again, "one").data.homogeneous["a.b"] == 1
    with pytest.raises(BadInput, match=r"^arms.none: data.homogeneous={}: want one component at least, or null"):
        read("arms: {none: {data.homogeneous: {}}}")


def test_an_arm_may_add_to_the_models_arguments(read):
    found = read("model: {args: {depth: 2, num_heads: 2}}\narms: {a: {model.args: {depth: 3}}}")
    assert arm_settings(found, "a").model.args == {"depth": 3, "num_heads": 2}


def test_the_trunk_has_its_overrides_no_gram_and_ends_at_the_fork(read):
    found = read("gram: {weight: 2.0, start_step: 4}\nsteps: 9\ntrunk: {steps: 4, overrides: {ibot.weight: 0.5}}")
    trunk = trunk_settings(found)
    assert (trunk.gram.weight, trunk.ibot.weight, trunk.steps) == (0.0, 0.5, 4)
    assert (found.gram.weight, found.ibot.weight) == (2.0, 1.0)


# --- refusals


REFUSED = [
    ("stepz: 5", "some.yaml: unknown setting 'stepz'; did you mean steps?"),
    ("gram: {weigth: 2}", "some.yaml: unknown setting 'gram.weigth'; did you mean gram.weight?"),
    ("dino: {head: {hiden: 2}}", "did you mean dino.head.hidden?"),
    ("data: {sources: {a: {cuont: 3}}}", "did you mean data.sources.a.count?"),
    ("evals: {sets: {a: {splitt: val}}}", "did you mean evals.sets.a.split?"),
    ("evals: {tasks: {knn: {protcol: knn, test: a}}, sets: {a: {}}}", "did you mean evals.tasks.knn.protocol?"),
    ("arms: {a: {gram.weigth: 2}}", "arms.a: unknown setting 'gram.weigth'; did you mean gram.weight?"),
    ("arms: {a: {gram: {weigth: 2}}}", "arms.a: unknown setting 'gram.weigth'; did you mean gram.weight?"),
    ("trunk: {overrides: {gram.weigth: 1}}", "trunk.overrides: unknown setting 'gram.weigth'"),
    (
        "steps: five",
        "steps='five': want a whole number, at least 1 (last step of each arm, those before its fork included)",
    ),
    ("steps: '5'", "steps='5': want a whole number"),
    ("steps: 5.5", "steps=5.5: want a whole number"),
    ("steps: null", "steps=null: want a whole number"),
    ("steps: {a: 1}", "steps={'a': 1}: want a whole number"),
    ("runtime: {workers: true}", "runtime.workers=true: want a whole number, from 0 to 1024"),
    ("gram: {weight: two}", "gram.weight='two': want a number, at least 0"),
    ("gram: {weight: true}", "gram.weight=true: want a number"),
    ("gram: {weight: .inf}", "gram.weight=inf: want a number, at least 0 (factor of the Gram loss in the total, 0"),
    ("gram: {undistorted: 1}", "gram.undistorted=1: want true or false"),
    ("model: {rope_shift: .nan}", "model.rope_shift=nan: want a number, at least 0, or null"),
    (
        "model: {name: 5}",
        "model.name=5: want text, or null (a vision transformer of timm); put it in quotes, "
        "on a command line in two kinds: \"'5'\"",
    ),
    ("arms: {a: {gram.weight: two}}", "arms.a: gram.weight='two': want a number"),
    ("gram: {teacher: snapshoot}", "gram.teacher='snapshoot': want one of snapshot, ema, checkpoint"),
    ("gram: {teacher: snapsot}", "did you mean 'snapshot'?"),
    ("gram.weight: 2", "unknown setting 'gram.weight'; want it nested, gram: {weight: …}"),
    ("frobnicate: 2", "unknown setting 'frobnicate'; want dino, ibot, koleo, gram, name, question"),
    ("gram: {foo: 2}", "unknown setting 'gram.foo'; want weight, start_step"),
    ("lr: 2", "unknown setting 'lr'; did you mean optimizer.lr?"),
    ("gram: {weight: '2.0'}", "gram.weight='2.0': want a number, at least 0"),
    ("arms: {a: {gram.weight: '2.0'}}", "arms.a: gram.weight='2.0': want a number, at least 0"),
    (
        "steps: 1000000\ngram: {weight: 1, update_every: 1}",
        "gram.update_every=1: 1000000 renewals: want at most 100000",
    ),
    ("optimizer: {lr: .inf}", "optimizer.lr=inf: want a number, above 0"),
    ("teacher: {temperature: .inf}", "teacher.temperature=inf: want a number, above 0"),
    ("teacher: {temperature: inf}", "teacher.temperature='inf': want a number, above 0"),
    ("gram: {weight: \"${oc.decode:'inf'}\"}", "gram.weight=inf: want a number, at least 0"),
    ("gram: {weight: \"${oc.decode:'nan'}\"}", "gram.weight=nan: want a number, at least 0"),
    ("model: {rope_shift: -1}", "model.rope_shift=-1: want a number, at least 0"),
    ("seeds: [1180591620717411303424]", "(every arm is trained once for each); and at most 9223372036854775807"),
    ("steps: 9223372036854775808", "; and at most 1000000000"),
    (
        "runtime: {threads: 1099511627776}",
        "runtime.threads=1099511627776: want a whole number, from 1 to 1024",
    ),
    ("crops: {global_size: 8000000}", "crops.global_size=8000000: want a whole number, from 5 to 32768"),
    ("data: {batch_size: 1000000000}", "data.batch_size=1000000000: want a whole number, from 1 to 1048576"),
    ("data: {sources: {a: {count: 1000000000000}}}", "data.sources.a.count=1000000000000: want a whole number"),
    ("data: {sources: {a: {count: 10000000}}}", "data.sources.a.count=10000000: want at most 1000000 scenes"),
    ("runtime: {folder: ''}", "runtime.folder='': want a path without control characters"),
    ("runtime: {folder: ' '}", "runtime.folder=' ': want a path"),
    (f"runtime: {{cache: {'x' * 256}}}", "want a path"),
    ("data: {sources: {a: {kind: folder, root: ''}}}", "data.sources.a.root='': want a path"),
    ("data: {sources: {' a': {}}}", "data.sources. a: want another name: a name of printed characters"),
    (f"evals: {{sets: {{{'x' * 101}: {{}}}}}}", "want another name: a name of printed characters, at most 100 bytes"),
    (
        "evals: {tasks: {a: {protocol: kn, test: b}}, sets: {b: {}}}",
        "evals.tasks.a.protocol='kn': got protocol 'kn': want a .yaml file or one of knn, linear",
    ),
    (
        "evals: {tasks: {a: {protocol: nowhere.yaml, test: b}}, sets: {b: {}}}",
        "evals.tasks.a.protocol='nowhere.yaml': got protocol nowhere.yaml, and no such file",
    ),
    ("arms: {-a: {}}", "arms.-a: want another name: a name of letters, digits, '.', '_' and '-'"),
    ("arms: {a/b: {}}", "arms.a/b: want another name"),
    ("arms: {..: {}}", "arms...: want another name"),
    (
        f"arms: {{{'x' * 101}: {{}}}}",
        "want another name: a name of letters, digits, '.', '_' and '-', at most 100 bytes",
    ),
    ("arms: {Plain: {}, plain: {}}", "arms.plain: want another name: Plain has this folder where a disk takes A for a"),
    ("arms: {Trunk: {}}", "arms.Trunk: want another name: the trunk has this folder"),
    (
        "data: {sources: {a: {kind: scene}}}",
        f"data.sources.a.kind='scene': want one of {', '.join(KINDS)}; did you mean 'scenes'?",
    ),
    ("data: {sources: {a: {kind: nyu}}}", "data.sources.a.root=null: want the folder of a set of kind=nyu"),
    ("device: gpu", "device='gpu': want one of auto, cpu, cuda"),
    ("margins: {mIoU: 0.01}", "margins.mIoU=0.01: want one of top1, top5, miou"),
    ("margins: {mIoU: 0.01}", "did you mean 'miou'?"),
    ("margins: {miou: 1}", "margins.miou=1: want a share of at most 0.2; write 0.01 for a point"),
    ("margins: {rmse: -0.1}", "margins.rmse=-0.1: want a number, at least 0"),
    ("arms: {a: {margins: {miou: 0.1}}}", "arms.a: margins.miou belongs to the whole experiment"),
    ("seeds: [a]", "seeds[0]='a': want a whole number"),
    ("seeds: []", "seeds=[]: want a list of one or more different values"),
    ("seeds: 5", "seeds=5: want a list of"),
    ("gram: 5", "gram=5: want settings below it"),
    ("gram: null", "gram=null: want settings below it"),
    ("model: {args: 5}", "model.args=5: want settings below it"),
    ("arms: [a, b]", "arms=['a', 'b']: want settings below it"),
    ("arms: {a: null}", "arms.a=null: want settings below it, {} for none"),
    ("arms: {1: {}}", "arms[1]: want a name that is text; put it in quotes"),
    ("1: 2", "unknown setting '[1]'"),
    ("data: {sources: 5}", "data.sources=5: want settings below it"),
    ("data: {sources: {a: 5}}", "data.sources.a=5: want settings below it"),
    ("gram: {weight: 1.0, start_step: 5}\nsteps: 5", "gram.start_step=5: want below steps=5, where the run ends"),
    ("steps: 5\narms: {a: {gram.weight: 1.0, gram.start_step: 7}}", "arms.a: gram.start_step=7"),
    ("gram: {update_every: 0}", "gram.update_every=0: want a whole number, at least 1, or null"),
    ("data: {homogeneous_share: 1.5}", "data.homogeneous_share=1.5: want a number, from 0 to 1 (share of steps whose"),
    ("gram: {weight: 1.0, teacher: ema, update_every: 5}", "gram.update_every=5: want null with teacher=ema"),
    ("gram: {weight: 1.0, checkpoint: x}", "gram.checkpoint=x: want null with teacher=snapshot, or teacher=checkpoint"),
    ("gram: {weight: 1.0, teacher: checkpoint}", "gram.checkpoint=null: want an exported backbone folder"),
    ("evals: {tasks: {knn: {test: b}}}", "evals.tasks.knn.test='b': want one of evals.sets: none yet"),
    (
        "evals: {tasks: {knn: {train: a, test: b}}, sets: {b: {}}}",
        "evals.tasks.knn.train='a': want one of evals.sets: b",
    ),
    ("arms: {a: {seeds: [1]}}", "arms.a: seeds belongs to the whole experiment"),
    ("arms: {a: {evals.every: 3}}", "arms.a: evals.every belongs to the whole experiment"),
    ("arms: {a: {'evals[network]': student}}", "arms.a: unknown setting 'evals[network]'"),
    ("arms: {a: {'[runtime].folder': x}}", "arms.a: unknown setting '[runtime].folder'"),
    ("trunk: {steps: 5, overrides: {steps: 9}}", "trunk.overrides.steps=9: the trunk has trunk.steps: want it there"),
    ("trunk: {overrides: {'seeds[x]': 1}}", "trunk.overrides: unknown setting 'seeds[x]'"),
    ("arms: {a: {runtime.folder: x}}", "arms.a: runtime.folder belongs to the whole experiment"),
    (
        "launcher: {flags: {gres: [1]}}",
        "launcher.flags.gres=[1]: want true or false, or a whole number, or a number, or text",
    ),
    ("name: a/b", "name='a/b'"),
    ("name: -a", "name='-a'"),
    ("name: 'a '", "name='a '"),
    (f"name: {'x' * 101}", "want letters, digits"),
    ("name: ..", "name='..'"),
    ("a: [", "line 2: "),
    ("steps: 5\nsteps: 6", "line 2: found duplicate key"),
    ("- 1\n- 2", "some.yaml: "),
    ("steps: ${nothing}", "steps: ${nothing}: no such setting is given"),
    ("steps: ${steps}", "${...} leads into itself"),
    ("steps: ${gram.start_step}\ngram: {start_step: '${steps}'}", "${...} leads into itself"),
    ("steps: ${oc.nothing:1}", "steps: ${...} cannot be replaced by a value"),
    ("steps: ${", "steps: ${...} cannot be replaced by a value"),
    ("steps: ???", "line 1: ??? stands for a value that is missing"),
    ("gram: {undistorted: 010}", "gram.undistorted='010': want true or false"),
    ("steps: 010", "steps='010': want a whole number"),
    ("steps: 1:30", "steps='1:30': want a whole number"),
    ("hydra: {run: {dir: x}}", "unknown setting 'hydra'"),
    ("arms: {a: {gram: {}}}", "arms.a: gram={} changes nothing"),
    ("arms: {a: {model.args: {}}}", "arms.a: model.args={} changes nothing"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_file_that_cannot_be_meant_is_refused_in_one_line(read, text, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        read(text + "\n")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("stepz=4", "some.yaml with stepz=4: unknown setting 'stepz'; did you mean steps?"),
        ("steps.x=4", "steps={'x': 4}: want a whole number"),
        ("seeds.x=4", "some.yaml with seeds.x=4: "),
        ("gram.weigth=4", "did you mean gram.weight?"),
        ("arms.a.gram.weigth=4", "arms.a: unknown setting 'gram.weigth'; did you mean gram.weight?"),
        ("arms.b.gram.weight=4", "no arm 'b'; known: a"),
        ("arms.b={}", "no arm 'b'; known: a"),
        ("seeds=shuffle([1,2])", "cannot read the override seeds=shuffle([1,2])"),
        ("steps=int(3.2)", "cannot read the override steps=int(3.2)"),
        ("data=null", "data=null: want settings below it"),
        ("data=5", "data=5: want settings below it"),
        ("data=[1]", "data=[1]: want settings below it"),
        ("model=vits", "model is not among the file's defaults: add `- model: ...` to them"),
        ("recpe=paper", "recpe=paper: no setting and no group 'recpe'; did you mean 'recipe'?"),
        ("+recipes=paper", "+recipes=paper: no setting and no group 'recipes'; did you mean 'recipe'?"),
        ("model@teacher=vits", "unknown setting 'model@teacher'"),
        ("=3", "got '=3': want key=value"),
        ("~", "got '~': want key=value"),
        ("~steps=9", "got '~steps=9': want ~steps, which removes it, or steps=9"),
        ("gram..weight=1", "got 'gram..weight=1': want key=value"),
        ("steps=???", "got 'steps=???': ??? stands for a value that is missing"),
        ("steps=${steps}", "${...} leads into itself"),
        ("seeds=[1,${nothing}]", "${nothing}: no such setting is given"),
        ("seeds=range(3)", "cannot read the override seeds=range(3)"),
        ("seeds=[1,range(3)]", "want"),
        ("seeds=" + "[" * 2000, "not nested deeply"),
        ("arms=[a,a]", "arms: 'a' is named twice"),
        ("arms=[b]", "no arm 'b'; known: a"),
        ("~arms.a.gram.weight", "nothing to remove there"),
        ("question=a\0b", "want key=value"),
        ("steps=x", "steps='x': want a whole number"),
        ("steps", "got 'steps': want key=value"),
        ("gram.weight=[1", "cannot read the override gram.weight=[1: want key=value"),
        ("gram.weight=1,2", "got 'gram.weight=1,2': want one value"),
        ("gram=4", "gram=4: want settings below it"),
        ("~stepz", "nothing to remove"),
        ("baseline=c", "baseline='c': want one of the arms: a"),
    ],
)
def test_an_override_that_cannot_be_meant_is_refused_in_one_line(read, override, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        read("steps: 5\narms: {a: {}}\n", override)
    assert "\n" not in str(error.value)


def test_all_faults_of_an_experiment_are_told_at_once_each_with_its_full_path(read):
    text = """
stepz: 5
gram: {weight: -1, teacher: snapshoot}
optimizer: {lr: .inf, clip: 0}
dino: {head: {prototypes: 0}}
ibot: {mask_ratio_min: 0.6}
evals: {sets: {rooms: {count: 0}, other: {kind: nyu}}}
"""
    with pytest.raises(BadInput) as error:
        read(text, "teacher.temperature=nan")
    assert str(error.value).splitlines() == [
        "some.yaml with teacher.temperature=nan: 10 settings cannot be meant",
        "  dino.head.prototypes=0: want a whole number, from 1 to 16777216 (number of prototypes, K)",
        "  ibot.mask_ratio_min=0.6: want at most mask_ratio_max=0.5",
        "  gram.weight=-1: want a number, at least 0 (factor of the Gram loss in the total, 0 switches it off)",
        "  gram.teacher='snapshoot': want one of snapshot, ema, checkpoint, start, best_dense (whose patches are the "
        "target); did you mean 'snapshot'?",
        "  teacher.temperature=nan: want a number, above 0 (Sinkhorn temperature of both heads after the warm-up)"
        "; and a finite one",
        "  optimizer.lr=inf: want a number, above 0 (rate after the warm-up, before scaling and the factors below)"
        "; and a finite one",
        "  optimizer.clip=0: want a number, above 0, or null "
        "(largest gradient norm of each of backbone, DINO head and iBOT head)",
        "  evals.sets.rooms.count=0: want a whole number, at least 1, or null "
        "(scenes to render, or the size of an evenly spread subset of files)",
        "  evals.sets.other.root=null: want the folder of a set of kind=nyu",
        "  unknown setting 'stepz'; did you mean steps?",
    ]


def test_all_arms_and_the_trunk_are_told_at_once(read):
    text = """
steps: 9
arms: {fine: {}, bad: {gram.weight: -1, koleo.weight: x}, late: {gram.weight: 1, gram.start_step: 9, seeds: 1}}
trunk: {steps: 4, overrides: {crops.flip: 2}}
"""
    with pytest.raises(BadInput) as error:
        read(text)
    assert str(error.value).splitlines() == [
        "arms.bad: 2 settings cannot be meant",
        "  koleo.weight='x': want a number, at least 0 "
        "(factor of KoLeo, added once for each crop that is spread, 0 switches it off)",
        "  gram.weight=-1: want a number, at least 0 (factor of the Gram loss in the total, 0 switches it off)",
        "arms.late: seeds belongs to the whole experiment: set it at the top level",
        "trunk.overrides: crops.flip=2: want a number, from 0 to 1 (chance of a mirror image)",
    ]


def test_a_missing_file_is_refused_by_name_with_the_nearest_one_beside_it(tmp_path):
    with pytest.raises(BadInput, match=r"no experiment file .*missing\.yaml: want a YAML such as \S+$"):
        load(tmp_path / "missing.yaml")
    (tmp_path / "mising.yaml").touch()
    with pytest.raises(BadInput, match=r"did you mean .*/mising\.yaml\?$"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(BadInput, match=r"did you mean .*/experiments/gram_ablation\.yaml\?$"):
        load("gram_ablatoin.yaml")
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(BadInput, match="no experiment file"):
            load(tmp_path / name)


def test_a_folder_is_told_with_the_files_in_it(tmp_path):
    (tmp_path / "mine.yaml").touch()
    with pytest.raises(BadInput, match=r"is a folder: want an experiment file; in it: mine\.yaml$"):
        load(tmp_path)


# --- science


def test_science_holds_neither_machinery_nor_prose_nor_length(tiny):
    keys = set(science(tiny, data_fingerprint="x"))
    assert keys == {"precision", "model", *LOSSES, "teacher", "optimizer", "schedule", "crops", "data"}


def test_science_holds_the_datas_content_in_place_of_its_paths(tiny):
    assert science(tiny, data_fingerprint="abc")["data"]["sources"] == "abc"


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ({}, "b1c4b8753e0a131c"),
        ({"gram.weight": 2.0, "gram.resolution": 2.0}, "5b84b9b1aa14bb23"),
        ({"data.homogeneous_share": 0.5}, "93ac1b450375d81e"),
    ],
)
def test_settings_that_were_added_leave_the_names_of_earlier_runs_as_they_are(tiny, change, values, want):
    shape = science(change(tiny, values), data_fingerprint="24 rooms")
    assert shape["crops"].pop("version") == VERSION  # it came with other pixels, so those are other runs
    assert identity(shape) == want


SIZES = [Sizes(global_size=32, local_size=16, gram_size=64, probability=1.0)]
GIVEN = {  # a value other than the default of each
    "data.homogeneous": {"some": 2.0},
    "data.mixed": {"some": 1.0},
    "data.augment": "device",
    "crops.sizes": SIZES,
    "crops.aspect_min": 0.5,
    "crops.aspect_max": 2.0,
    "crops.locals_within_globals": True,
    "crops.share_color_jitter": True,
    "ibot.mask_shift": True,
    "gram.student_from_gram_crop": True,
    "gram.weight_end": 0.5,
    "gram.first_renewal": 20,
    "gram.max_renewals": 2,
    "gram.resize": "bilinear",
    "gram.antialias": True,
    "gram.start": "alarm",
    "gram.alarm_drop": 0.2,
    "gram.ring": 3,
    "gram.measure": "dse",
    "gram.measure_every": 7,
    "gram.measure_images": 9,
    "gram.relation": "cka",
    "gram.temperature": 0.2,
    "gram.tokens": "masked",
    "gram.form": "frobenius",
    "dino.local_weight_start": 0.5,
    "optimizer.backbone_lr": 1e-4,
    "optimizer.freeze_backbone_steps": 2,
    "optimizer.decay_tokens": False,
    "model.untie_local_cls_norm": True,
    "model.rope_precision": "bfloat16",
    "koleo.crops": "first",
    "koleo.group": 2,
}
ON = {"gram.weight": 2.0, "gram.update_every": 5, "gram.resolution": 2.0}  # so that each of them does something
ALARM = {"gram.start": "alarm", "gram.measure": "dse"}
BESIDE = {  # what some cannot be given without
    **dict.fromkeys(
        ("gram.start", "gram.alarm_drop", "gram.measure", "gram.measure_every", "gram.measure_images"), ALARM
    ),
    "gram.ring": {"gram.teacher": "best_dense", "gram.measure": "dse"},
    "gram.temperature": {"gram.relation": "affinities"},
}


def test_every_setting_that_was_added_is_tested_below():
    assert {*GIVEN} == {*ADDED}


@pytest.mark.parametrize("key", ADDED)
def test_a_setting_that_was_added_is_science_where_it_is_given(tiny, change, key):
    section, leaf = key.split(".")
    assert leaf not in science(change(tiny, ON), data_fingerprint="x")[section]
    other = change(tiny, {**ON, **BESIDE.get(key, {}), key: GIVEN[key]})
    assert science(other, data_fingerprint="x")[section][leaf] == as_dict(GIVEN[key])


def test_sides_that_sizes_take_the_place_of_are_no_science_beside_them(tiny, change):
    def shape(values):
        return science(change(tiny, {"crops.sizes": SIZES, **values}), data_fingerprint="x")

    on = {"gram.weight": 2.0}
    assert shape(on) == shape({**on, "crops.global_size": 64, "crops.local_size": 24, "gram.resolution": 2.0})
    other = [dataclasses.replace(SIZES[0], gram_size=48)]
    assert shape({}) == shape({"crops.sizes": other})
    assert shape(on) != shape({**on, "crops.sizes": other})
    free = {**on, "crops.sizes": [dataclasses.replace(SIZES[0], gram_size=None)]}
    assert shape(free) != shape({**free, "gram.resolution": 2.0})


def test_an_identity_does_not_depend_on_the_order_of_keys():
    assert identity({"a": 1, "b": {"c": 2, "d": 3}}) == identity({"b": {"d": 3, "c": 2}, "a": 1})
    assert identity({"a": 1}) != identity({"a": 2})


def test_settings_survive_the_round_trip_through_plain_data(tiny, read):
    assert as_dict(read(yaml.safe_dump(as_dict(tiny)))) == as_dict(tiny)


def test_flattening_keeps_dotted_keys_and_empty_mappings():
    assert flatten({"a.b": 1, "c": {"d": {"e": 2}}, "f": {}}) == {"a.b": 1, "c.d.e": 2, "f": {}}


@pytest.mark.parametrize(
    "override",
    [
        "data.sources.photos={kind: shards, root: 'https://me:s3cret@host/a.tar'}",
        "evals.sets.photos={kind: shards, root: 'https://host/a.tar?token=s3cret'}",
        "arms={plain: {data.sources.scenes: {kind: shards, root: 'https://me:s3cret@host/a.tar'}}}",
        "sweep.storage=postgresql://me:s3cret@host/name",
    ],
)
def test_an_address_with_a_secret_is_refused_wherever_it_stands_and_never_repeated(write_tiny, override):
    with pytest.raises(BadInput, match=r"want (an address|it) without") as told:
        load(write_tiny(), [override])
    assert "s3cret" not in str(told.value)
