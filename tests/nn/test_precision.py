"""bfloat16 products: their definition, PyTorch's autocast, exceptions by layer, and the backward pass."""

import numpy as np
import pytest

import allgrad as ag
from allgrad import kernels, nn
from allgrad.kernels import bf16
from allgrad.nn import precision
from allgrad.nn.errors import LayerOptionError

U = 2.0**-8  # a bfloat16 number is off by at most this share, half a unit in its last place


@pytest.fixture(autouse=True)
def told(monkeypatch):
    monkeypatch.setattr(precision, "_told", True)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_rounding_is_pytorchs():
    torch = pytest.importorskip("torch", reason="a peer")
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    x = np.concatenate([bits.view(np.float32), np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-45])])
    expected = torch.tensor(x).bfloat16().float().numpy()
    np.testing.assert_array_equal(bf16.rounded(x), expected)


def test_rounding_keeps_the_shape_of_any_strides():
    x = numbers(4, 6, 8)
    for view in (x, x.mT, x.T, x[:, ::2], np.broadcast_to(x[0], (3, 6, 8)), x[0, 0, 0]):
        np.testing.assert_array_equal(
            bf16.rounded(np.asarray(view)), bf16.rounded(np.ascontiguousarray(view)).reshape(view.shape)
        )


def test_a_product_is_the_float32_product_of_rounded_operands():
    a, b = numbers(9, 70), numbers(70, 11, seed=1)
    with bf16.products(True):
        found = kernels.active().matmul(a, b)
        with bf16.products(False):
            assert (kernels.active().matmul(a, b) != found).any()
        wide = kernels.active().matmul(a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_array_equal(found, kernels.active().matmul(bf16.rounded(a), bf16.rounded(b)))
    np.testing.assert_allclose(wide, a.astype(np.float64) @ b.astype(np.float64), rtol=1e-13)


def test_a_layer_forward_and_backward_against_autocast():
    torch = pytest.importorskip("torch", reason="a peer")
    layer, x, g = nn.Linear(64, 24, rng=0), numbers(10, 64), numbers(10, 24, seed=2)
    nn.set_precision(layer, "bf16")
    tracked = ag.tensor(x, requires_grad=True)
    y = layer(tracked)
    y.backward(g)

    theirs = torch.nn.Linear(64, 24)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in layer.state_dict().items()})
    x_ = torch.tensor(x, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y_ = theirs(x_)
    y_.backward(torch.tensor(g).bfloat16())

    # Both round the operands alike. PyTorch also rounds each result (and the bias) to bfloat16, and sums in another order.
    w, b = layer.weight.value, layer.bias.value
    sums = np.abs(x) @ np.abs(w) + np.abs(b)
    assert (
        np.abs(y.value - y_.detach().float().numpy()) <= U * (np.abs(y.value) + np.abs(b)) * 1.01 + 64 * 2.0**-23 * sums
    ).all()
    for ours, other, size in (
        (tracked.grad, x_.grad, np.abs(g) @ np.abs(w.T)),
        (layer.weight.grad.T, theirs.weight.grad, np.abs(g.T) @ np.abs(x)),
    ):
        assert (np.abs(ours - other.float().numpy()) <= U * np.abs(ours) * 1.01 + 64 * 2.0**-23 * size).all()


def models():
    yield nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, rng=0), nn.ReLU()), (4, 12, 12, 16)
    yield nn.LSTM(6, 8, rng=0), (3, 5, 6)
    yield nn.TransformerBlock(16, 2, causal=True, rng=0), (2, 7, 16)


def gradients(model, x):
    y = model(x)
    y = y[0] if isinstance(y, tuple) else y
    model.zero_grad()
    np.sum(y * y).backward()
    return y.value, {name: np.array(p.grad) for name, p in model.named_parameters()}


@pytest.mark.parametrize("index", range(3))
def test_layers_are_near_float32_and_not_equal_to_it(index):
    model, shape = list(models())[index]
    x = numbers(*shape)
    plain, plain_gradients = gradients(model, x)
    nn.set_precision(model, "bf16")
    value, found = gradients(model, x)
    assert (value != plain).any()
    # A few products, each with operands that are off by U.
    assert np.linalg.norm(value - plain) <= 8 * U * np.linalg.norm(plain)
    for name, gradient in found.items():
        assert np.linalg.norm(gradient - plain_gradients[name]) <= 16 * U * np.linalg.norm(plain_gradients[name])
    nn.set_precision(model, "float32")
    np.testing.assert_array_equal(gradients(model, x)[0], plain)


def test_exceptions_by_pattern():
    model, x = nn.Sequential(nn.Linear(40, 30, rng=0), nn.ReLU(), nn.Linear(30, 5, rng=1)), numbers(6, 40)
    plain = model(x).value
    nn.set_precision(model, "bf16", float32_layers=["0", "2"])
    np.testing.assert_array_equal(model(x).value, plain)
    nn.set_precision(model, "bf16", float32_layers=["2"])
    first = kernels.active().matmul(bf16.rounded(x), bf16.rounded(model[0].weight.value)) + model[0].bias.value
    np.testing.assert_allclose(
        model(x).value, np.maximum(first, 0) @ model[2].weight.value + model[2].bias.value, atol=1e-5
    )
    with pytest.raises(LayerOptionError, match=r"'hed' matches no layer\. The layers are 0, 1, 2\."):
        nn.set_precision(model, "bf16", float32_layers=["hed"])
    with pytest.raises(LayerOptionError, match="one of float32, bf16"):
        nn.set_precision(model, "fp8")


def test_a_recomputed_region_is_as_precise_as_its_forward():
    layer, x = nn.Linear(40, 30, rng=0), numbers(6, 40)

    class Region(nn.Module):
        def __init__(self):
            self.layer = layer

        def forward(self, x):
            return ag.checkpoint(self.layer)(x)

    model = Region()
    nn.set_precision(model, "bf16")
    _, once = gradients(model, x)
    nn.set_precision(model, "float32")
    nn.set_precision(layer, "bf16")
    _, twice = gradients(layer, x)
    np.testing.assert_array_equal(once["layer.weight"], twice["weight"])


def test_it_is_said_once(monkeypatch):
    monkeypatch.setattr(precision, "_told", False)
    layer = nn.Linear(2, 2, rng=0)
    with pytest.warns(RuntimeWarning, match="bf16 is emulated"):
        nn.set_precision(layer, "bf16")
    nn.set_precision(layer, "bf16")
