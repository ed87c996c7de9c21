"""`memory: node`: one hash with `memory: rank` and with one process, for every optimizer and kind of model."""

import os
from functools import cache

import pytest

OPTIMIZERS = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    "adam": {"lr": 1e-2, "weight_decay": 0.1},
    "adamw": {"lr": 1e-2},
    "lion": {"lr": 1e-3},
    "lamb": {"lr": 1e-2},
    "lars": {"lr": 0.1},
    "muon": {"lr": 1e-2},
    "adafactor": {"lr": 1e-2},
}


def train(cases):
    """{case: hash of the weights, the average, the optimizer's state and the losses} for (name, optimizer, memory)."""
    import hashlib
    import json

    import numpy as np

    from allgrad import comm, nn, optim, parallel

    class Convolutional(nn.Module):
        def __init__(self, norm):
            self.conv = nn.Conv2d(1, 4, 3, padding=1, rng=0)
            self.norm = norm(4)
            self.head = nn.Linear(4, 3, rng=1)

        def forward(self, x):
            return self.head(np.mean(np.maximum(self.norm(self.conv(x)), 0), axis=(1, 2)))

    def problem(name):
        rng = np.random.default_rng(5)
        if name == "mlp":  # large enough that every rank has a slice of a bucket
            model = nn.Sequential(nn.Linear(9, 700, rng=0), nn.Tanh(), nn.Dropout(0.3), nn.Linear(700, 30, rng=1))
            return (
                model,
                (rng.standard_normal((200, 9), dtype=np.float32), rng.integers(0, 3, 200)),
                nn.CrossEntropyLoss(),
            )
        if name == "gpt":
            model = nn.models.GPT(11, context=6, layers=1, width=16, heads=2, tied=True, dropout=0.1, rng=0)
            tokens = rng.integers(0, 11, (200, 7))
            return model, (tokens[:, :-1], tokens[:, 1:]), nn.CrossEntropyLoss()
        model = Convolutional(nn.SyncBatchNorm if name == "sync batch norm" else nn.BatchNorm2d)
        images = rng.standard_normal((200, 5, 5, 1), dtype=np.float32)
        return model, (images, rng.integers(0, 3, 200)), nn.CrossEntropyLoss()

    def run(name, optimizer, memory):
        model, arrays, criterion = problem(name)
        replica = parallel.DataParallel(model, world, virtual_workers=8, memory=memory, bucket_mb=0.01, seed=3)
        made = getattr(optim, optimizer[0])(model.parameters(), **optimizer[1])
        average = optim.EMA(made.flat, 0.9)
        results = []
        for step in range(4):
            chosen = np.random.default_rng(step).permutation(200)[: 45 if step % 3 else 5]
            parts = replica.split(tuple(a[chosen] for a in arrays))
            loss = lambda part: criterion(model(part[0]), part[1])  # noqa: E731
            if step == 2 and name == "mlp":
                with replica.no_sync():
                    results.append(replica.step(loss, parts, 100))
            results.append(replica.step(loss, parts, step))
            norm = optim.clip_norm(made if step % 2 else model.parameters(), 0.01)
            optim.clip_value(made, 0.005)
            made.step(result.unused if (result := results[-1]) and step else None)
            made.zero_grad()
            average.update()
            results.append(norm)
        with average.swapped():
            results.append(model.state_dict())
        if world.size > 1 and memory == "node":
            assert replica.placement.memory == "node"
        digest = hashlib.sha256()

        def update(value):
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
            elif isinstance(value, dict):
                for key in sorted(value):
                    update(value[key])
            elif isinstance(value, list):
                for each in value:
                    update(each)
            elif isinstance(value, parallel.StepResult):
                digest.update(repr((value.loss, sorted(value.unused))).encode())
            else:
                digest.update(json.dumps(value).encode())

        update([model.state_dict(), average.state_dict(), made.state_dict(), results])
        return digest.hexdigest()

    world = comm.init()
    classes = {name.lower(): name for name in vars(optim)}
    return [run(name, (classes[kind], options), memory) for name, kind, options, memory in cases]


LONG = os.environ.get("ALLGRAD_LONG") == "1"
"""Every optimizer with every kind of model at every rank count, instead of a covering set. Takes many minutes."""


def cases(ranks):
    """A covering set: every optimizer and kind of model at some rank count, the GPT with AdamW at all of them."""
    names = ["mlp", "gpt", "batch norm", "sync batch norm"]
    kinds = list(OPTIMIZERS)
    if LONG:
        return [(name, kind, OPTIMIZERS[kind], "node") for name in names for kind in kinds]
    chosen = [(names[(i + ranks) % 4], kind) for i, kind in enumerate(kinds) if i % 3 == ranks % 3 and ranks < 8]
    return [(name, kind, OPTIMIZERS[kind], "node") for name, kind in dict.fromkeys([("gpt", "adamw"), *chosen])]


@cache
def in_this_process(case):
    name, kind, memory = case
    return train([(name, kind, OPTIMIZERS[kind], memory)])[0]


@pytest.mark.parametrize(("ranks", "nodes"), [(2, 1), (3, 2), (4, 1), (5, 2), (8, 1)])
def test_one_hash(mpirun, ranks, nodes):
    """On one node, and on two: of two ranks and one, and of three and two."""
    wanted = cases(ranks)
    job = mpirun(train, ranks, wanted, env={"ALLGRAD_PRETEND_NODES": str(nodes)})
    assert job.values == [[in_this_process((name, kind, memory)) for name, kind, _, memory in wanted]] * ranks


def test_one_hash_on_two_hosts(mpirun_two_hosts):
    """Two ranks on each."""
    case = ("gpt", "adamw", "node")
    job = mpirun_two_hosts(train, 4, [("gpt", "adamw", OPTIMIZERS["adamw"], "node")])
    assert job.values == [[in_this_process(case)]] * 4


def manners():
    """What a program may do with shared memory, and what it may not."""
    import os
    import resource

    import numpy as np
    import pytest

    import allgrad as ag
    from allgrad import comm, errors, nn, optim, parallel
    from allgrad.autodiff.errors import AssignmentError, InFlightError

    world = comm.init()
    model = nn.Linear(300, 40, rng=world.rank)  # other weights on each rank, until rank 0's are broadcast
    replica = parallel.DataParallel(model, world, memory="node")
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = np.ones((8, 300), np.float32)
    found = [float(np.sum(model.weight.value.astype(np.float64)))]

    with pytest.raises(AssignmentError, match=r"with replica\.flat\.writing\(\)"):
        model.weight.assign(np.zeros((300, 40), np.float32))
    with pytest.raises(AssignmentError, match="read-only"), ag.no_grad():
        model.bias[0] = 7.0
    with pytest.raises(AssignmentError, match="read-only"):
        model.load_state_dict(model.state_dict())
    state = {name: array + 1 for name, array in model.state_dict().items()}
    with replica.flat.writing():
        model.load_state_dict(state)
    found.append(float(np.sum(model.bias.value)))

    def loss(part):
        return np.mean(model(part) ** 2)

    result = replica.step(loss, replica.split(x), 0)
    with pytest.raises(ValueError, match="read-only"):
        model.bias.grad *= 2
    with pytest.raises(InFlightError, match=r"DataParallel\.step"):
        loss(x).backward()
    graph = loss(x)
    optimizer.step(result.unused)
    optimizer.zero_grad()
    with pytest.raises(ag.autodiff.errors.SavedArrayError):  # also for parameters that another rank has moved
        graph.backward()
    found.append(float(np.sum(model.bias.value)))

    # A step that fails on all ranks leaves nothing behind; a program that differs between ranks is found at once.
    def fails(part):
        raise KeyError("mine")

    with pytest.raises(KeyError):
        replica.step(fails, replica.split(x), 1)
    found.append(replica.step(loss, replica.split(x), 1).loss)
    # L-BFGS moves all parameters at once, on all ranks alike.
    ends = []
    for memory in ("node", "rank"):
        line = nn.Linear(300, 2, rng=0)
        both = parallel.DataParallel(line, world, memory=memory)
        search = optim.LBFGS(line.parameters(), max_iter=5)

        def closure(line=line, both=both):
            return both.step(lambda part: np.mean((line(part) - 1) ** 2), both.split(x), 0).loss

        search.step(closure)
        with pytest.raises(
            errors.CollectiveError, match=r"attach: LBFGS evaluates a closure .* Call optimizer\.step\(closure\)"
        ):
            both.attach(search)
        ends.append(line.weight.value.tobytes())
    assert ends[0] == ends[1]

    late = nn.Linear(2, 2, rng=0)
    held = optim.SGD(late.parameters(), lr=0.1)
    with pytest.raises(errors.CollectiveError, match="make DataParallel before the optimizer"):
        parallel.DataParallel(late, world, memory="node")
    with pytest.raises(errors.CollectiveError, match="MPIExchange needs each rank's own gradients"):
        parallel.DataParallel(nn.Linear(2, 2, rng=0), world, memory="node", reduction="mpi")
    assert held.steps
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("allgrad")]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if world.rank == 0:  # a limit that only one rank has
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    with pytest.raises(comm.SharedMemoryError, match=r"Rank 0 cannot share 4 MiB .* File too large"):
        parallel.DataParallel(nn.Linear(1024, 1024, bias=False, rng=0), world, memory="node")
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(comm.DesyncError, match="'barrier' on rank 0; 'all_gather' on rank 1"):
        world.all_gather(np.zeros(3)) if world.rank else world.barrier()
    return found


def test_manners(mpirun):
    first, second = mpirun(manners, 2).values
    assert first == second
