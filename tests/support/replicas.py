"""Models, data and digests for jobs of several ranks: the same on every rank, and in the process that expects them."""

from __future__ import annotations

import hashlib

import numpy as np

from allgrad import nn, optim, parallel

ROWS = 60


def data(rows=ROWS):
    rng = np.random.default_rng(11)
    x = rng.standard_normal((rows, 6), dtype=np.float32)
    return x, rng.integers(0, 3, rows)


class Branches(nn.Module):
    """Three layers below a head; which of them a part of the batch takes, and in which order, depends on its first number."""

    def __init__(self):
        self.a, self.b, self.c = (nn.Linear(6, 6, rng=i) for i in range(3))
        self.never = nn.Linear(6, 6, rng=3)
        self.head = nn.Linear(6, 3, rng=4)

    def forward(self, x):
        way = int(abs(float(x[0, 0])) * 1000) % 4
        layers = [(self.a, self.b, self.c), (self.c, self.b, self.a), (self.b,), (self.c, self.a)][way]
        for layer in layers:
            x = np.tanh(layer(x))
        return self.head(x)


def cross_entropy(model):
    return lambda part: nn.CrossEntropyLoss()(model(part[0]), part[1])


def digest(model, *more):
    """A hash of the weights, and of whatever else is given."""
    state = model.state_dict()
    return hashlib.sha256(b"".join(state[k].tobytes() for k in sorted(state)) + repr(more).encode()).hexdigest()


class Objective:
    """A loss that takes the samples of several virtual workers as one batch."""

    rows_independent = True

    def __init__(self, model, loss):
        self.model, self.loss = model, loss

    def counts(self, part):
        return {"loss": float(np.count_nonzero(np.asarray(part[1]) != -100))}

    def __call__(self, part):
        return {"loss": self.loss.terms(self.model(part[0]), part[1])[0]}


def train(
    model,
    world,
    *,
    steps=4,
    sizes=(60, 13),
    loss=None,
    virtual_workers=8,
    arrays=None,
    optimizer=optim.AdamW,
    **options,
):
    """Train for some steps on batches of `sizes` in turn; returns (replica, results)."""
    options = {"bucket_mb": 2e-4, "first_bucket_mb": 1e-4} | options
    replica = parallel.DataParallel(model, world, virtual_workers=virtual_workers, **options)
    optimizer = optimizer(model.parameters(), lr=1e-2)
    arrays = data() if arrays is None else arrays
    results = []
    for step in range(steps):
        chosen = np.random.default_rng(step).permutation(len(arrays[0]))[: sizes[step % len(sizes)]]
        parts = replica.split(tuple(a[chosen] for a in arrays))
        results.append(replica.step(loss or cross_entropy(model), parts, step))
        optimizer.step()
    return replica, results
