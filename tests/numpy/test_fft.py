"""np.fft against numerical differentiation and other packages."""

from __future__ import annotations

import numpy as np
import pytest
from cases import check, drawn
from cases_fft import CASES

import allgrad as ag


@pytest.mark.parametrize("case", CASES, ids=str)
@drawn
def test_rule(case, seed):
    check(case, seed)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("length", [2, 3, 4, 5])
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_irfft_for_every_parity_cut_and_filled(n, length, norm):
    """Where a half is stored, the end points count once and the rest twice; the imaginary parts of the ends do not count."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(length) + 1j * rng.standard_normal(length), rng.standard_normal(n)
    g = ag.grad(lambda x: np.sum(np.fft.irfft(x, n, norm=norm) * w))(x)
    np.testing.assert_allclose(g, ag.numerical_grad(lambda x: np.sum(np.fft.irfft(x, n, norm=norm) * w), x), atol=1e-7)
    assert g[0].imag == 0


@pytest.mark.parametrize("name", ["fft", "rfft", "ihfft"])
def test_float32_stays_single(name):
    x = ag.tensor(np.ones(4, np.float32), requires_grad=True)
    y = getattr(np.fft, name)(x)
    assert y.dtype == np.complex64
    np.sum(np.abs(y)).backward()
    assert x.grad.dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: np.fft.fft(t, norm="unitary"), "'unitary'"),
        (lambda t: np.fft.hfft(t, norm="unitary"), "'unitary'"),
        (lambda t: np.fft.fft(t, out=np.empty(4, complex)), "fft.*out="),
        (lambda t: np.fft.rfftn(t, out=np.empty(4, complex)), "rfftn.*out="),
        (lambda t: np.fft.fft(t, axis=3), "out of bounds"),
        (lambda t: np.fft.fftn(t, s=(2, 3), axes=(0,)), "same length"),
        (lambda t: np.fft.rfft(np.astype(t, complex)), "rfft"),
        (lambda t: np.fft.fft(t, n=0), "data points"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(ag.tensor(np.ones((4, 4)), requires_grad=True))


NAMES = ["fft", "ifft", "rfft", "irfft", "hfft", "fftn", "ifftn", "rfftn", "irfftn", "fft2", "ifft2", "rfft2", "irfft2"]


@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
@pytest.mark.parametrize("name", NAMES)
def test_torch_agrees_up_to_conjugation(name, norm):
    torch = pytest.importorskip("torch", reason="torch is the peer here")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 5))
    if not name.startswith("rfft"):
        x = x + 1j * rng.standard_normal((4, 5))
    t = torch.tensor(x, requires_grad=True)
    (getattr(torch.fft, name)(t, norm=norm).abs() ** 3).sum().backward()
    g = ag.grad(lambda x: np.sum(np.abs(getattr(np.fft, name)(x, norm=norm)) ** 3))(x)
    np.testing.assert_allclose(g, np.conj(t.grad.resolve_conj().numpy()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["rfft", "rfft2", "rfftn", "fft", "fft2"])
def test_hips_autograd_agrees_on_even_lengths(name):
    peer = pytest.importorskip("autograd", reason="HIPS autograd is the peer here")
    x = np.random.default_rng(0).standard_normal((4, 6))
    want = peer.grad(lambda x: peer.numpy.sum(peer.numpy.abs(getattr(peer.numpy.fft, name)(x)) ** 3))(x)
    np.testing.assert_allclose(ag.grad(lambda x: np.sum(np.abs(getattr(np.fft, name)(x)) ** 3))(x), want, rtol=1e-9)
