"""The table of losses: each entry has its section of the settings, and every term its factor and its title."""

import dataclasses

import pytest

from harness import schedules
from harness.losses.anchoring import Anchoring
from harness.losses.gram import RELATIONS, Gram
from harness.losses.table import LOSSES, LossSettings, titles
from harness.settings import Experiment


def test_every_loss_has_a_section_of_its_name_and_no_other_has():
    assert {field.name for field in dataclasses.fields(LossSettings)} == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_every_term_has_a_factor_and_a_title(name):
    loss, own = LOSSES[name], getattr(Experiment(), name)
    assert loss.factors(own, own.weight, 8).keys() == loss.titles.keys()
    assert loss.anchored == isinstance(own, Anchoring)


def test_every_term_that_a_step_takes_is_in_the_table(tiny, change, take_steps):
    everything = change(tiny, {f"{name}.weight": 1.0 for name in LOSSES})
    _, (row,) = take_steps(everything, 1)
    known = {term for loss in LOSSES.values() for term in loss.titles}
    assert known == row.keys() - {"loss", "target_entropy", "student_entropy", "grad_norm"}
    assert schedules.at(everything, 0).factors.keys() == known


@pytest.mark.parametrize(
    ("relations", "title"),
    [
        ([], "Gram"),
        (["cka"], "CKA"),
        (["features", "features"], "Features"),
        (["gram", "distances"], "Gram, Distances"),
        (["gram", "distances", "affinities"], "Anchoring"),
    ],
)
def test_the_anchored_term_is_called_by_the_relations_that_are_kept(relations, title):
    found = [LossSettings(gram=Gram(weight=1.0, relation=one)) for one in relations]
    off = LossSettings(gram=Gram(relation="cka"))
    assert titles([off, *found])["gram"] == title
    assert titles([off, *found], before={"gram": "Affinities"})["gram"] == ("Affinities" if not found else title)
    assert titles(found)["ibot"] == "iBOT"


def test_every_relation_has_a_title_of_its_own():
    assert len({relation.title for relation in RELATIONS.values()}) == len(RELATIONS)


def test_one_loss_alone_is_kept_to_the_gram_teacher():
    assert [name for name, loss in LOSSES.items() if loss.anchored] == ["gram"]


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "gram"])
def test_a_loss_of_weight_zero_has_no_factor_left(name, tiny, change):
    off = change(tiny, {f"{name}.weight": 0.0})
    factors = schedules.at(off, 0).factors
    assert {factors[term] for term in LOSSES[name].titles} == {0.0}
