"""Layer norm and RMS norm against float64 formulas and against PyTorch."""

import numpy as np
import pytest

SHAPES = [(1, 1), (3, 7), (4, 5, 64), (700, 33), (2, 20_000)]


def reference(x, g, weight, bias, eps, centred):
    x, g = x.astype(float), g.astype(float)
    w = 1.0 if weight is None else weight.astype(float)
    mean = x.mean(-1, keepdims=True) if centred else 0.0
    r = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    n = (x - mean) * r
    gw = g * w
    dx = r * (gw - (gw.mean(-1, keepdims=True) if centred else 0) - n * (gw * n).mean(-1, keepdims=True))
    axes = tuple(range(x.ndim - 1))
    return n * w + (0.0 if bias is None else bias.astype(float)), dx, (g * n).sum(axes), g.sum(axes)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(kernels, dtype, close, rng, shape, affine):
    x, g = (rng.normal(1, 2, size=shape).astype(dtype) for _ in range(2))
    weight, bias = ((rng.normal(size=shape[-1]).astype(dtype)) if affine else None for _ in range(2))
    y, mean, inverse = kernels.layer_norm_forward(x, weight, bias, 1e-3)
    dweight, dbias = (np.full(shape[-1], np.nan, dtype) if affine else None for _ in range(2))
    dx = kernels.layer_norm_backward(g, x, mean, inverse, weight, dweight=dweight, dbias=dbias)
    expected = reference(x, g, weight, bias, 1e-3, centred=True)
    close(y, expected[0], 64)
    close(dx, expected[1], 128, size=1)  # in short rows the terms of dx cancel
    if affine:
        close(dweight, expected[2], 128)
        close(dbias, expected[3], 128)
    in_place = g.copy()
    kernels.layer_norm_backward(in_place, x, mean, inverse, weight, out=in_place)
    assert (in_place == dx).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_rms_norm(kernels, dtype, close, rng, shape, affine):
    x, g = (rng.normal(1, 2, size=shape).astype(dtype) for _ in range(2))
    weight = rng.normal(size=shape[-1]).astype(dtype) if affine else None
    y, inverse = kernels.rms_norm_forward(x, weight, 1e-3)
    dweight = np.full(shape[-1], np.nan, dtype) if affine else None
    dx = kernels.rms_norm_backward(g, x, inverse, weight, dweight=dweight)
    expected = reference(x, g, weight, None, 1e-3, centred=False)
    close(y, expected[0], 64)
    close(dx, expected[1], 128, size=1)  # in short rows the terms of dx cancel
    if affine:
        close(dweight, expected[2], 128)
    in_place = g.copy()
    kernels.rms_norm_backward(in_place, x, inverse, weight, out=in_place)
    assert (in_place == dx).all()


def test_layer_norm_equals_torch(kernels, dtype, close, rng):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    x, g = (rng.normal(size=(50, 48)).astype(dtype) for _ in range(2))
    weight, bias = (rng.normal(size=48).astype(dtype) for _ in range(2))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    expected = torch.nn.functional.layer_norm(leaves[0], (48,), leaves[1], leaves[2], 1e-5)
    expected.backward(torch.tensor(g))
    y, mean, inverse = kernels.layer_norm_forward(x, weight, bias, 1e-5)
    dweight, dbias = np.empty_like(weight), np.empty_like(bias)
    dx = kernels.layer_norm_backward(g, x, mean, inverse, weight, dweight=dweight, dbias=dbias)
    close(y, expected.detach().numpy())
    for got, leaf in zip((dx, dweight, dbias), leaves, strict=True):
        close(got, leaf.grad.numpy(), 64)


def test_large_mean_keeps_its_digits(kernels, rng):
    x = (rng.normal(size=(8, 256)) + 1000).astype(np.float32)
    y, _, _ = kernels.layer_norm_forward(x, None, None, 1e-5)
    expected = reference(x, x, None, None, 1e-5, centred=True)[0]
    assert np.abs(y - expected).max() < 2e-3  # the one-pass formula E[x^2] - E[x]^2 would be off by 1e-1


@pytest.mark.parametrize("offset", [1, 5, 13])
def test_bits_do_not_depend_on_addresses(kernels, dtype, rng, shifted, offset):
    x, g = (rng.normal(size=(300, 65)).astype(dtype) for _ in range(2))
    weight, bias = (rng.normal(size=65).astype(dtype) for _ in range(2))
    results = []
    for shift in (0, offset):
        x_, g_, w_, b_ = (shifted(a, shift) for a in (x, g, weight, bias))
        y, mean, inverse = kernels.layer_norm_forward(x_, w_, b_, 1e-5)
        dweight, dbias = shifted(weight, shift), shifted(bias, shift)
        dx = kernels.layer_norm_backward(g_, x_, mean, inverse, w_, dweight=dweight, dbias=dbias)
        results.append(b"".join(a.tobytes() for a in (y, dx, dweight, dbias)))
    assert results[0] == results[1]
