"""The benchmark of both libraries' products."""

import json

import pytest
import torch

from benchmarks.products import Product, main, of_model


@pytest.fixture
def has_onednn():
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch was built without oneDNN")


@pytest.mark.usefixtures("has_onednn")
def test_each_product_is_taken_by_both_libraries_and_noted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--square", "16", "--model", "nano", "--seconds", "0"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "benchmarks.jsonl").read_text().splitlines()]
    assert [row["case"] for row in rows] == [str(one) for one in (Product("square", 16, 16, 16), *of_model("nano"))]
    for row in rows:
        assert 0 < row["ratio"] == pytest.approx(row["onednn_gflops"] / row["torch_gflops"])
    assert all(row["case"] in capsys_line for row, capsys_line in zip(rows, table(capsys), strict=True))


def table(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if " × " in line]


def test_products_of_a_model_are_those_of_its_step():
    """nano: batch 32, crops of 64 / 8 patches a side with five tokens besides, width 96, bottleneck 64."""
    tokens = 2 * 32 * (64 + 5)
    assert [one[1:] for one in of_model("nano")] == [
        (tokens, 96, 288, False), (tokens, 96, 384, False), (tokens, 384, 96, False), (96, tokens, 384, True),
        (64, 64, 64, False),
    ]  # fmt: skip


def test_turned_factors_lie_in_memory_by_columns_and_are_the_same_numbers():
    plain, turned = (Product("one", 3, 4, 5, turned).factors() for turned in (False, True))
    assert all(torch.equal(*both) for both in zip(plain, turned, strict=True))
    assert [one.is_contiguous() for one in plain] == [True, True]
    assert [one.T.is_contiguous() for one in turned] == [True, True]
