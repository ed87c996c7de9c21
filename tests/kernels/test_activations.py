"""erf, GELU (exact and tanh) and ReLU."""

import math

import numpy as np
import pytest

from allgrad.kernels.erf import erf, erfc_positive


def test_erf_equals_scipy(dtype):
    special = pytest.importorskip("scipy.special", reason="the comparison is with SciPy")
    x = np.concatenate([np.linspace(-7, 7, 100_001), np.geomspace(1e-30, 1, 1000), [0, 30, -30]]).astype(dtype)
    np.testing.assert_allclose(erf(x), special.erf(x.astype(float)), rtol=4 * np.finfo(dtype).eps)


def test_erfc_tail_equals_the_c_library():
    x = np.linspace(0, 26, 20_001)
    np.testing.assert_allclose(erfc_positive(x), [math.erfc(v) for v in x], rtol=2e-15)


def test_erf_edges(dtype):
    y = erf(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.array([1, -1, np.nan, 0, 0], dtype))
    assert erf(np.zeros((0, 3), dtype)).shape == (0, 3)


def gelu_reference(x):
    phi = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    cdf = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape)
    return x * cdf, cdf + x * phi


def tanh_reference(x):
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    t = np.tanh(u)
    return 0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * du


@pytest.mark.parametrize(("name", "reference"), [("gelu", gelu_reference), ("gelu_tanh", tanh_reference)])
def test_gelu(kernels, dtype, rng, name, reference):
    x = np.concatenate([rng.normal(0, 2, 30_000), [0.0, -0.0, 40, -40, 1e-20]]).astype(dtype)
    expected, slope = reference(x.astype(float))
    kernel, d = getattr(kernels, name), np.empty_like(x)
    y = kernel(x, derivative=d)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected, rtol=8 * eps, atol=(4 if name == "gelu" else 64) * eps)
    np.testing.assert_allclose(d, slope, rtol=8 * eps, atol=(8 if name == "gelu" else 64) * eps)  # 1 + tanh cancels
    assert (kernel(x) == y).all()
    assert kernel(x, out=x) is x
    assert (x == y).all()


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
def test_gelu_of_large_and_infinite_numbers_is_its_limit(kernels, dtype, name):
    """It was NaN for infinities, and the slope of the tanh form also beyond 1e19, where the square overflows."""
    huge = np.finfo(dtype).max
    x = np.array([np.inf, huge, huge / 2, 65, -65, -huge / 2, -huge, -np.inf, np.nan], dtype)
    slope = np.empty_like(x)
    y = getattr(kernels, name)(x, derivative=slope)
    np.testing.assert_array_equal(y, np.where(x < 0, 0, x))
    np.testing.assert_array_equal(slope, np.array([1, 1, 1, 1, 0, 0, 0, 0, np.nan], dtype))


def test_exact_gelu_keeps_its_digits_in_the_tail(kernels, dtype):
    x = np.linspace(-6, -1, 1001).astype(dtype)
    np.testing.assert_allclose(kernels.gelu(x), gelu_reference(x.astype(float))[0], rtol=64 * np.finfo(dtype).eps)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_equals_torch(kernels, dtype, close, rng, approximate):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    x = rng.normal(0, 2, (40, 50)).astype(dtype)
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.gelu(leaf, approximate=approximate)
    expected.sum().backward()
    d = np.empty_like(x)
    y = (kernels.gelu if approximate == "none" else kernels.gelu_tanh)(x, derivative=d)
    close(y, expected.detach().numpy(), 64)
    close(d, leaf.grad.numpy(), 64)


@pytest.mark.parametrize("size", [0, 1, 31, 40_001])
def test_relu(kernels, dtype, rng, size):
    x, g = (rng.normal(size=size).astype(dtype) for _ in range(2))
    x[::7] = 0
    y = kernels.relu_forward(x)
    assert (y == np.where(x > 0, x, 0)).all()
    dx = kernels.relu_backward(g, y)
    assert (dx == np.where(x > 0, g, 0)).all()
    assert (kernels.relu_backward(g, y, out=g) == dx).all()
    assert (kernels.relu_forward(x, out=x) == y).all()


def test_relu_of_zeros_and_nan(kernels, dtype):
    x = np.array([0.0, -0.0, np.nan, -1.0, 5e-324, 1e-40], dtype)
    y = kernels.relu_forward(x)
    np.testing.assert_array_equal(y, np.array([0, 0, np.nan, 0, x[4], x[5]], dtype))
    dx = kernels.relu_backward(np.ones(6, dtype), np.array([0.0, -0.0, 0, 0, x[4], x[5]], dtype))
    np.testing.assert_array_equal(dx, np.array([0, 0, 0, 0, x[4] > 0, 1], dtype))


def test_bits_do_not_depend_on_addresses(kernels, dtype, rng, shifted):
    x = rng.normal(size=20_011).astype(dtype)
    x[::11] = -0.0
    results = set()
    for shift in (0, 1, 5):
        moved, d = shifted(x, shift), shifted(x, shift)
        arrays = [kernels.gelu(moved, derivative=d), kernels.gelu_tanh(moved), kernels.relu_forward(moved), d]
        results.add(b"".join(a.tobytes() for a in arrays))
    assert len(results) == 1


def test_out_must_fit(dtype):
    from allgrad.kernels.numpy_kernels import kernels as numpy_kernels

    with pytest.raises(ValueError, match=r"out must be a C-contiguous .* Got .* \(3, 2\), not contiguous"):
        numpy_kernels.gelu(np.zeros((3, 2), dtype), out=np.zeros((2, 3), dtype).T)
    with pytest.raises(ValueError, match=r"out must be"):
        numpy_kernels.gelu(np.zeros(3, dtype), out=np.zeros(4, dtype))
