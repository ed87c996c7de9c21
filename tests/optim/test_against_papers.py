"""LAMB, LARS, Lion and Muon's iteration against a direct float64 transcription of their papers, ten steps."""

import numpy as np
import pytest

from allgrad import optim
from allgrad.optim.muon import orthogonalized


class LionPaper:  # Chen et al. 2023, algorithm 2
    def __init__(self, lr, betas, weight_decay):
        self.lr, self.betas, self.decay, self.m = lr, betas, weight_decay, 0.0

    def step(self, p, g):
        c = self.betas[0] * self.m + (1 - self.betas[0]) * g
        self.m = self.betas[1] * self.m + (1 - self.betas[1]) * g
        return p - self.lr * (np.sign(c) + self.decay * p)


class LambPaper:  # You et al. 2020, algorithm 2
    def __init__(self, lr, betas, eps, weight_decay):
        self.lr, self.betas, self.eps, self.decay = lr, betas, eps, weight_decay
        self.m = self.v = 0.0
        self.t = 0

    def step(self, p, g):
        self.t += 1
        b1, b2 = self.betas
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g * g
        r = (self.m / (1 - b1**self.t)) / (np.sqrt(self.v / (1 - b2**self.t)) + self.eps) + self.decay * p
        return p - self.lr * np.linalg.norm(p) / np.linalg.norm(r) * r


class LarsPaper:  # You, Gitman & Ginsburg 2017, algorithm 1
    def __init__(self, lr, momentum, weight_decay, trust):
        self.lr, self.mu, self.decay, self.trust, self.u = lr, momentum, weight_decay, trust, 0.0

    def step(self, p, g):
        local = self.trust * np.linalg.norm(p) / (np.linalg.norm(g) + self.decay * np.linalg.norm(p))
        self.u = self.mu * self.u + self.lr * local * (g + self.decay * p)
        return p - self.u


CASES = [
    (optim.Lion, LionPaper, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    (optim.Lion, LionPaper, {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.0}),
    (optim.LAMB, LambPaper, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    (optim.LAMB, LambPaper, {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-6, "weight_decay": 0.0}),
    (optim.LARS, LarsPaper, {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.1, "trust": 0.02}),
]


@pytest.mark.parametrize(("optimizer", "paper", "options"), CASES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_ten_steps(leaves, give, rng, optimizer, paper, options, dtype):
    ours = leaves(dtype)
    values = {n: t.value.astype(float) for n, t in ours.items()}
    papers = {n: paper(**options) for n in ours}
    stepping = optimizer(list(ours.items()), **options)
    for _ in range(10):
        gradients = {n: rng.normal(size=t.shape).astype(dtype) for n, t in ours.items()}
        stepping.zero_grad()
        give(ours, gradients)
        stepping.step()
        values = {n: papers[n].step(p, gradients[n].astype(float)) for n, p in values.items()}
    tolerance = 1e-11 if dtype == np.float64 else 3e-6
    for n, expected in values.items():
        np.testing.assert_allclose(ours[n].value, expected, rtol=tolerance, atol=tolerance, err_msg=n)


@pytest.mark.parametrize(("name", "options"), [("LAMB", {"lr": 0.1}), ("LARS", {"lr": 0.1, "trust": 0.5})])
def test_adapt_can_be_switched_off_and_zero_norms_count_as_one(leaves, give, name, options):
    ours = leaves(shapes={"zero": (3,), "b": (3,)})
    ours["zero"].assign(np.zeros(3))
    optimizer = getattr(optim, name)([{"params": [ours["zero"]]}, {"params": [ours["b"]], "adapt": False}], **options)
    before = ours["b"].value.copy()
    give(ours, {"zero": np.ones(3), "b": np.ones(3)})
    optimizer.step()
    # Without a ratio the first step of either is lr times a gradient of ones (LAMB's is Adam's: the same).
    np.testing.assert_allclose(ours["zero"].value, -0.1, rtol=1e-5)
    np.testing.assert_allclose(ours["b"].value - before, -0.1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5)])
def test_orthogonalized_has_singular_values_near_one(rng, shape):
    x = orthogonalized(rng.normal(size=shape), (3.4445, -4.7750, 2.0315), 8, 1e-7)
    values = np.linalg.svd(x, compute_uv=False)
    assert x.shape == shape
    assert values.min() > 0.6
    assert values.max() < 1.3
