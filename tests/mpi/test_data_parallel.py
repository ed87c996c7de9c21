"""The promise: one hash of the weights at any rank count, in any mode, for every kind of model; and TRAPS.md 19-23, 26 on top."""

import pytest

PROBLEMS = ["mlp with dropout", "gpt, tied head", "cnn, batch norm", "cnn, sync batch norm", "physics, two terms"]


def train(problems, total, steps, modes, bucket_mb, reduction="exact"):
    """{problem: [hash of the weights by mode]} after `steps` steps; runs in a job, and in this process."""
    import hashlib

    import numpy as np

    import allgrad as ag
    from allgrad import comm, nn, optim, parallel

    class Convolutional(nn.Module):
        def __init__(self, norm):
            self.conv = nn.Conv2d(1, 4, 3, padding=1, rng=0)
            self.norm = norm(4)
            self.relu = nn.ReLU()
            self.head = nn.Linear(4, 3, rng=1)

        def forward(self, x):
            h = self.relu(self.norm(self.conv(x)))
            return self.head(np.mean(h, axis=(1, 2)))

    class Physics:
        """Two terms of different counts: the residual of u' = -u inside, and u(0) = 1 at few points."""

        def __init__(self, model):
            self.model = model

        def counts(self, part):
            return {"inside": float(np.sum(part[0] > 0)), "start": float(np.sum(part[0] <= 0))}

        def __call__(self, part):
            x = part[0]
            inside, start = x[x[:, 0] > 0], x[x[:, 0] <= 0]
            u, slope = ag.jvp(self.model, (inside,), (np.ones_like(inside),))
            error = self.model(np.zeros_like(start)) - np.float32(1)
            return {"inside": np.sum((slope + u) ** 2), "start": np.sum(error * error)}

    def problem(name):
        rng = np.random.default_rng(5)
        if name == "mlp with dropout":
            model = nn.Sequential(nn.Linear(9, 33, rng=0), nn.Tanh(), nn.Dropout(0.3), nn.Linear(33, 3, rng=1))
        elif name == "gpt, tied head":
            model = nn.models.GPT(11, context=6, layers=1, width=8, heads=2, tied=True, dropout=0.1, rng=0)
            tokens = rng.integers(0, 11, (400, 7))
            return model, lambda part: nn.CrossEntropyLoss()(model(part[0][:, :-1]), part[0][:, 1:]), (tokens,)
        elif name.startswith("cnn"):
            model = Convolutional(nn.SyncBatchNorm if "sync" in name else nn.BatchNorm2d)
            images = rng.standard_normal((400, 5, 5, 1), dtype=np.float32)
            labels = rng.integers(0, 3, 400)
            return model, lambda part: nn.CrossEntropyLoss()(model(part[0]), part[1]), (images, labels)
        else:
            model = nn.models.MLP([1, 17, 17, 1], activation="tanh", rng=0)
            points = rng.random((400, 1), dtype=np.float32)
            points[rng.random(400) < 0.2] = 0
            return model, Physics(model), (points,)
        x, y = rng.standard_normal((400, 9), dtype=np.float32), rng.integers(0, 3, 400)
        return model, lambda part: nn.CrossEntropyLoss()(model(part[0]), part[1]), (x, y)

    world = comm.init()
    found = {}
    for mode in modes:
        for name in problems:
            model, loss, arrays = problem(name)
            replica = parallel.DataParallel(
                model, world, virtual_workers=total, comm=mode, bucket_mb=bucket_mb, first_bucket_mb=bucket_mb / 2,
                reduction=reduction, seed=3,
            )  # fmt: skip
            optimizer = optim.AdamW(model.parameters(), lr=1e-2)
            for step in range(steps):
                size = 45 if step % 7 else total - 3  # at times fewer samples than workers: empty ones
                chosen = np.random.default_rng(step).permutation(400)[:size]
                result = replica.step(loss, replica.split(tuple(a[chosen] for a in arrays)), step)
                optimizer.step()
            state = model.state_dict()
            digest = hashlib.sha256(b"".join(state[k].tobytes() for k in sorted(state)) + repr(result.loss).encode())
            found.setdefault(name, []).append(digest.hexdigest())
        if world.engine is not None:
            world.engine.close()
    return found


_reference = {}


@pytest.fixture
def in_this_process():
    def hashes(total, steps):
        if (total, steps) not in _reference:
            found = train(PROBLEMS, total, steps, ["auto"], 25.0)
            _reference[total, steps] = {name: digests[0] for name, digests in found.items()}
        return _reference[total, steps]

    return hashes


@pytest.mark.parametrize(
    ("total", "ranks", "modes", "bucket_mb"),
    [
        (8, 1, ["auto"], 25.0),
        (8, 2, ["thread", "polling"], 0.0005),
        (8, 3, ["thread"], 25.0),
        (8, 4, ["thread"], 0.001),
        (8, 5, ["polling"], 0.0005),
        (8, 7, ["thread"], 0.002),
        (8, 8, ["thread"], 0.0005),
        (12, 1, ["auto"], 25.0),
        (12, 2, ["thread"], 0.0005),
        (12, 3, ["polling"], 0.001),
        (12, 5, ["thread"], 0.0005),
        (12, 6, ["thread"], 25.0),
    ],
)
def test_one_hash(mpirun, in_this_process, total, ranks, modes, bucket_mb):
    steps = 50 if (total, ranks) in ((8, 2), (8, 3)) else 15
    expected = in_this_process(total, steps)
    job = mpirun(train, ranks, PROBLEMS, total, steps, modes, bucket_mb, timeout=240)
    for rank, found in enumerate(job.values):
        for name, digests in found.items():
            assert set(digests) == {expected[name]}, f"rank {rank}: {name}"


def test_an_ordinary_all_reduce_gives_other_bits(mpirun, in_this_process):
    """Or the test above would show nothing: sizes and data are such that the order of additions matters."""
    expected = in_this_process(8, 15)
    differing = set()
    for ranks in (2, 3):
        found = mpirun(train, ranks, PROBLEMS, 8, 15, ["auto"], 25.0, "mpi", timeout=120).values[0]
        differing |= {name for name, digests in found.items() if digests[0] != expected[name]}
    assert differing == set(PROBLEMS)
