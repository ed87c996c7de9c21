"""Adam and SGD on flat memory, against a direct float64 transcription of the formulas."""

import numpy as np
import pytest

ADAM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6}


def adam_reference(p, g, m, v, step, weight_decay, decoupled, lr, beta1, beta2, eps):
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    return p - lr * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + eps), m, v


@pytest.mark.parametrize("size", [1, 100, 40_000])
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam(kernels, dtype, close, rng, size, decoupled, weight_decay):
    p, m, v = rng.normal(size=size), np.zeros(size), np.zeros(size)
    state = [a.astype(dtype) for a in (p, m, v)]
    p = state[0].astype(float)
    for step in range(1, 5):
        g = rng.normal(size=size).astype(dtype)
        kept = g.copy()
        q, n, w = state
        kernels.adam(q, g, n, w, step=step, weight_decay=weight_decay, decoupled=decoupled, **ADAM)
        p, m, v = adam_reference(p, g.astype(float), m, v, step, weight_decay, decoupled, **ADAM)
        assert (g == kept).all()
    for got, expected in zip(state, (p, m, v), strict=True):
        close(got, expected)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd(kernels, dtype, close, rng, nesterov, momentum, weight_decay):
    size, dampening = 20_000, 0.0 if nesterov else 0.3
    q = rng.normal(size=size).astype(dtype)
    buffer = np.zeros(size, dtype) if momentum else None
    p, u = q.astype(float), np.zeros(size)
    for step in range(4):
        g = rng.normal(size=size).astype(dtype)
        kernels.sgd(
            q,
            g,
            buffer,
            first=step == 0,
            lr=0.1,
            momentum=momentum,
            dampening=dampening,
            nesterov=nesterov,
            weight_decay=weight_decay,
        )
        d = g.astype(float) + weight_decay * p
        if momentum:
            u = d if step == 0 else momentum * u + (1 - dampening) * d
            d = d + momentum * u if nesterov else u
        p = p - 0.1 * d
    close(q, p)
    if momentum:
        close(buffer, u)


def test_bits_do_not_depend_on_address_nor_on_the_cut(kernels, dtype, rng, shifted):
    size = 37_003
    p, g, m = (rng.normal(size=size).astype(dtype) for _ in range(3))
    v = np.abs(m)
    results = []
    for offset, cuts in [(0, [size]), (3, [size]), (1, [5, 1000, 20_000, size])]:
        arrays = [shifted(a, offset) for a in (p, g, m, v)]
        start = 0
        for stop in cuts:
            kernels.adam(*(a[start:stop] for a in arrays), step=3, weight_decay=0.1, decoupled=True, **ADAM)
            start = stop
        results.append(b"".join(a.tobytes() for a in arrays))
    assert len(set(results)) == 1
