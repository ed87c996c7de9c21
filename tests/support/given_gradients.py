"""Exchanges driven with chosen gradients: each virtual worker's gradient is a row of numbers that the test has drawn."""

from __future__ import annotations

import numpy as np

from allgrad import nn, parallel
from allgrad.comm import World

SHAPES = {"w": (12, 7), "b": (7,), "thin": (5, 2), "kernel": (3, 3, 4, 6)}


class Parameters(nn.Module):
    """Parameters of these shapes and nothing else."""

    def __init__(self, shapes=SHAPES, dtype=np.float64):
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(np.zeros(shape, dtype)))


class Given:
    """A replica whose worker w has the gradient rows[w] / V for every parameter.

    `step(rows)` returns the exchanged gradients by name; rows: {name: (V, *shape)}. `hook` is called in the backward pass of the
    last worker, when all gradients but that of the first parameter are final.
    """

    def __init__(self, reduction, *, workers=4, dtype=np.float64, shapes=SHAPES, world=None, **options):
        self.shapes, self.workers, self.dtype, self.number = shapes, workers, dtype, 0
        self.model = Parameters(shapes, dtype)
        options = {"bucket_mb": 3e-4, "first_bucket_mb": 1e-4} | options
        self.replica = parallel.DataParallel(
            self.model, world or World(), virtual_workers=workers, reduction=reduction, **options
        )

    def draw(self, seed):
        rng = np.random.default_rng(seed)
        return {name: rng.standard_normal((self.workers, *s)).astype(self.dtype) for name, s in self.shapes.items()}

    def step(self, rows, hook=None):
        names, last = list(self.shapes), self.workers - 1

        def loss(part):
            values = [getattr(self.model, name) for name in names]
            if hook is not None and np.array_equal(part[0][0], rows[names[0]][last]):
                values[0] = values[0] * 1.0
                values[0].register_hook(hook)
            return sum(np.sum(value * array[0]) for value, array in zip(values, part, strict=True))

        with np.errstate(invalid="ignore"):  # a test may draw infinity
            self.replica.step(loss, self.replica.split(tuple(rows[name] for name in names)), self.number)
        self.number += 1
        return {name: getattr(self.model, name).grad.copy() for name in names}
