"""A hand-written data-parallel training loop: a classifier for points on spirals.

python examples/own_loop.py [STEPS]               # one process
mpirun -n 3 python examples/own_loop.py [STEPS]   # three: the same numbers, bit for bit
"""

import sys

import numpy as np

from allgrad import comm, nn, optim, parallel
from allgrad.train.checkpoint.format import weights_sha256

world = comm.init()
model = nn.models.MLP([2, 64, 64, 3], rng=0)
replica = parallel.DataParallel(model, world, virtual_workers=6)
optimizer = optim.AdamW(model.parameters(), lr=3e-3)
criterion = nn.CrossEntropyLoss()

rng = np.random.default_rng(1)  # all ranks make the same data: points on three noisy spiral arms
arms, radius = rng.integers(0, 3, 3000), rng.random(3000)
angle = 4 * radius + arms * 2 * np.pi / 3 + rng.normal(0, 0.2, 3000)
points = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1).astype(np.float32)


def loss(part):
    return criterion(model(part["x"]), part["arm"])  # the mean over the samples of one virtual worker


for step in range(int(sys.argv[1]) if len(sys.argv) > 1 else 300):
    chosen = np.random.default_rng(step).integers(0, len(points), 256)  # the same global batch on every rank
    result = replica.step(loss, replica.split({"x": points[chosen], "arm": arms[chosen]}), step)
    optimizer.step()
    if world.rank == 0 and step % 50 == 0:
        print(f"step {step:4d}  loss {result.loss:.4f}", flush=True)

if world.rank == 0:
    right = np.mean(np.argmax(model(points).numpy(), axis=1) == arms)
    print(f"accuracy {right:.3f} on {world.size} rank(s)\nweights sha256 {weights_sha256(model.state_dict())}")
