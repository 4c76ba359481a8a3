"""Products by the fast library: the same numbers as torch's own, with their gradients, and only where it is one."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from common import products

SHAPES = [((64, 96), 128), ((2, 33, 100), 96), ((3, 200), 1024), ((700, 40), 24)]


@pytest.fixture
def everywhere(monkeypatch):
    """As on a processor where oneDNN is the fast one, whatever this one is."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch was built without oneDNN")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)


@pytest.fixture
def calls(everywhere, monkeypatch):
    """How often the fast library was asked."""
    found, product = [], products.by_onednn
    monkeypatch.setattr(products, "by_onednn", lambda *given: found.append(given) or product(*given))
    return found


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_linear_layer_and_its_gradients_are_those_of_float64(calls, shape, outputs, has_bias):
    x, weight = draws(*shape).requires_grad_(), draws(outputs, shape[-1], seed=1).requires_grad_()
    given = [x, weight, draws(outputs, seed=2).requires_grad_()][: 2 + has_bias]
    exact = [one.detach().double().requires_grad_() for one in given]
    with products.fast_linear():
        found = F.linear(*given)
    by = draws(*found.shape, seed=3)
    found.backward(by)
    want = F.linear(*exact)
    want.backward(by.double())
    assert len(calls) == 3  # forwards, and for both gradients
    assert_close(found, want.float(), atol=1e-4, rtol=1e-5)
    for ours, theirs in zip(given, exact, strict=True):
        assert_close(ours.grad, theirs.grad.float(), atol=2e-3, rtol=1e-5)


def test_a_module_takes_it_and_what_is_outside_does_not(calls):
    layer, x = torch.nn.Linear(96, 128), draws(64, 96)
    outside = layer(x)
    assert not calls
    with products.fast_linear():
        assert_close(layer(x), outside)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (draws(64, 96).double(), draws(128, 96).double()),
        (draws(64, 96).to("meta"), draws(128, 96).to("meta")),
        (draws(2, 96), draws(3, 96)),  # too small to be worth a call
    ],
    ids=["float64", "meta", "small"],
)
def test_what_it_is_not_for_goes_to_torch(calls, x, weight):
    with products.fast_linear():
        found = F.linear(x, weight)
    assert not calls
    assert found.dtype == x.dtype
    assert found.shape == (len(x), len(weight))


@pytest.mark.parametrize("bias", [(1,), (1, 128), (64, 128)], ids=str)
def test_a_bias_that_is_no_vector_of_the_outputs_is_torchs_to_add(calls, bias):
    given = [draws(64, 96), draws(128, 96, seed=1), draws(*bias, seed=2).requires_grad_()]
    want = F.linear(*given)
    (wanted,) = torch.autograd.grad(want.square().sum(), given[-1])
    with products.fast_linear():
        found = F.linear(*given)
    assert torch.equal(found, want)
    assert torch.equal(torch.autograd.grad(found.square().sum(), given[-1])[0], wanted)
    assert not calls


def test_a_single_vector_is_torchs_to_multiply_and_its_gradients_too(calls):
    x, weight = draws(1024).requires_grad_(), draws(1024, 1024, seed=1).requires_grad_()
    want = F.linear(x, weight)
    wanted = torch.autograd.grad(want.square().sum(), (x, weight))
    with products.fast_linear():
        found = F.linear(x, weight)
        gradients = torch.autograd.grad(found.square().sum(), (x, weight))
    assert torch.equal(found, want)
    assert all(torch.equal(*both) for both in zip(gradients, wanted, strict=True))
    assert not calls


@pytest.mark.parametrize(
    ("shape", "bias"), [((64, 95), None), ((64, 96), (127,)), ((64, 96), (2, 128))], ids=["inner", "outputs", "rows"]
)
@pytest.mark.usefixtures("everywhere")
def test_shapes_that_do_not_fit_are_refused_in_torchs_words(shape, bias):
    given = [draws(*shape), draws(128, 96), None if bias is None else draws(*bias)]
    with pytest.raises(RuntimeError) as plain:
        F.linear(*given)
    with products.fast_linear(), pytest.raises(RuntimeError) as found:
        F.linear(*given)
    assert str(found.value) == str(plain.value)


TRANSFORMED = {
    "grad": lambda layer, x: torch.func.grad(lambda x: layer(x).square().sum())(x),
    "vmap": lambda layer, x: torch.vmap(layer)(x.unflatten(0, (2, -1))),
}


@pytest.mark.parametrize("transform", TRANSFORMED.values(), ids=TRANSFORMED)
@pytest.mark.usefixtures("everywhere")
def test_transformed_functions_are_as_outside(transform):
    layer, x = torch.nn.Linear(96, 128), draws(128, 96)
    want = transform(layer, x)
    with products.fast_linear():
        assert torch.equal(transform(layer, x), want)


def test_under_autocast_the_product_is_the_one_of_autocast(calls):
    x, weight = draws(64, 96), draws(128, 96)
    with torch.autocast("cpu", torch.bfloat16), products.fast_linear():
        assert F.linear(x, weight).dtype == torch.bfloat16
    assert not calls


@pytest.mark.parametrize(("n", "m"), [(96, 128), (128, 96)])
def test_products_without_gradient_are_those_of_float64(calls, n, m):
    x, y = draws(300, n), draws(300, m, seed=1)
    assert_close(products.gradient_of_weight(x, y), (x.double().T @ y.double()).float(), atol=1e-4, rtol=1e-5)
    assert_close(products.times_transposed(x.T, y.T), (x.double().T @ y.double()).float(), atol=1e-4, rtol=1e-5)
    assert len(calls) == 2


@pytest.mark.parametrize("has_bias", [True, False])
def test_gelu_behind_a_linear_layer_is_that_of_float64(everywhere, has_bias):
    given = [draws(7, 50, 96), draws(128, 96, seed=1), draws(128, seed=2) if has_bias else None]
    exact = F.gelu(F.linear(*(one if one is None else one.double() for one in given)))
    with products.fast_linear():
        assert_close(products.gelu_of_linear(*given), exact.float(), atol=1e-4, rtol=1e-5)
    assert_close(products.gelu_of_linear(*given), F.gelu(F.linear(*given)), atol=0, rtol=0)


def test_gelu_behind_a_linear_layer_is_torchs_under_autocast(everywhere):
    x, weight = draws(64, 96), draws(128, 96, seed=1)
    with products.fast_linear(), torch.autocast("cpu", torch.bfloat16):
        found = products.gelu_of_linear(x, weight, None)
    assert_close(found, F.gelu(F.linear(x.bfloat16(), weight.bfloat16())))


@pytest.mark.parametrize(
    ("maker", "capability", "lacking", "taken"),
    [("AuthenticAMD", "AVX512", None, True), ("GenuineIntel", "AVX512", None, False),
     ("AuthenticAMD", "AVX2", None, False), ("", "AVX512", None, False), ("AuthenticAMD", "AVX512", "mkldnn", False),
     ("AuthenticAMD", "AVX512", "mkl", False)],
)  # fmt: skip
def test_the_processor_decides_where_torch_has_both_libraries(monkeypatch, maker, capability, lacking, taken):
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch was built without oneDNN")
    for name in ("mkldnn", "mkl"):
        monkeypatch.setattr(getattr(torch.backends, name), "is_available", lambda name=name: name != lacking)
    monkeypatch.setattr(products, "cpu_maker", lambda: maker)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert products.onednn_is_faster.__wrapped__() is taken
