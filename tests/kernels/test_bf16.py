"""bfloat16 numbers against PyTorch's, and both sets of kernels against each other."""

import importlib

import numpy as np
import pytest

EDGES = [0, 1 << 31, 1, 0x7F800000, 0xFF800000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F7FFFFF, 0x3F808000, 0x3F818000]


def numbers(rng):
    """All kinds of float32 numbers: (70_000,), more than one block of the NumPy kernels."""
    return np.concatenate([rng.integers(0, 2**32, 70_000, np.uint32), np.array(EDGES, np.uint32)]).view(np.float32)


def encoded(kernels, x):
    out = np.empty(x.shape, np.uint16)
    kernels.bf16_encode(x, out)
    return out


def decoded(kernels, bits, dtype=np.float32):
    out = np.empty(bits.shape, dtype)
    kernels.bf16_decode(bits, out)
    return out


def test_numbers_and_sums_are_those_of_pytorch(kernels, rng):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's bfloat16")
    x = numbers(rng)
    theirs = torch.from_numpy(x).to(torch.bfloat16)
    bits = encoded(kernels, x)
    np.testing.assert_array_equal(decoded(kernels, bits), theirs.float().numpy())
    other = rng.permutation(bits)
    expected = theirs + torch.from_numpy(decoded(kernels, other)).to(torch.bfloat16)
    kernels.bf16_add(bits, other, bits)
    np.testing.assert_array_equal(decoded(kernels, bits), expected.float().numpy())


def test_both_sets_give_the_same_bits(rng):
    pytest.importorskip("numba", reason="compares the compiled kernels with those in NumPy")
    x = numbers(rng)
    with np.errstate(all="ignore"):
        double = x.astype(np.float64) * 1.5
    sets = [importlib.import_module(f"allgrad.kernels.{name}_kernels").kernels for name in ("numpy", "numba")]
    assert len({encoded(kernels, x).tobytes() for kernels in sets}) == 1
    assert len({encoded(kernels, double).tobytes() for kernels in sets}) == 1
    assert len({decoded(kernels, encoded(kernels, x), np.float64).tobytes() for kernels in sets}) == 1


def test_float64_goes_through_float32(kernels):
    values = np.array([1.0, 1.00390625, 1.01171875, 1e300, -1e300, 1e-300, np.nan])
    expected = [1.0, 1.0, 1.015625, np.inf, -np.inf, 0.0, np.nan]
    np.testing.assert_array_equal(decoded(kernels, encoded(kernels, values), np.float64), expected)
