"""A training loop of one's own, data-parallel: a classifier of spirals.

python examples/own_loop.py                  # one process
mpirun -n 3 python examples/own_loop.py      # three: the same numbers, bit for bit
"""

import argparse

import numpy as np

from allgrad import comm, nn, optim, parallel
from allgrad.train.checkpoint import weights_sha256


def spirals(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 2) on three noisy spiral arms, and the number of each one's arm."""
    arm = rng.integers(0, 3, count)
    radius = rng.random(count)
    angle = 4 * radius + arm * 2 * np.pi / 3 + rng.normal(0, 0.2, count)
    points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)
    return points.astype(np.float32), arm


def main(steps: int) -> None:
    world = comm.init()
    model = nn.models.MLP([2, 64, 64, 3], rng=0)
    replica = parallel.DataParallel(model, world, virtual_workers=6)
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    criterion = nn.CrossEntropyLoss()
    points, arms = spirals(3000, np.random.default_rng(1))  # every rank makes the same data

    def loss(part):
        x, labels = part
        return criterion(model(x), labels)  # the mean over one virtual worker's part

    for step in range(steps):
        chosen = np.random.default_rng(step).integers(0, len(points), 256)  # the same global batch on every rank
        result = replica.step(loss, replica.split((points[chosen], arms[chosen])), step)
        optimizer.step()
        if world.rank == 0 and step % 50 == 0:
            print(f"step {step:4d}  loss {result.loss:.4f}", flush=True)

    if world.rank == 0:
        right = np.mean(np.argmax(model(points).numpy(), axis=1) == arms)
        print(f"accuracy {right:.3f} on {world.size} rank(s)")
        print(f"weights sha256 {weights_sha256(model.state_dict())}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    main(parser.parse_args().steps)
