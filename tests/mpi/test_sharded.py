"""`shard: optimizer`, one model per rank or per node: the bits of the unsharded run at any rank count and through checkpoints."""

from functools import cache

import pytest

OPTIMIZERS = {
    "SGD": {"lr": 0.05, "momentum": 0.9},
    "AdamW": {"lr": 1e-2},
    "Lion": {"lr": 1e-3},
    "LAMB": {"lr": 1e-2},
    "LARS": {"lr": 0.1},
    "Muon": {"lr": 1e-2},
    "Adafactor": {"lr": 1e-2},
}


def train(cases, folder):
    """For (optimizer, options, shard, memory): the hash of all state, and that after a resume from what another job saved."""
    import hashlib
    from pathlib import Path

    import numpy as np

    from allgrad import comm, nn, optim, parallel
    from allgrad.train.checkpoint.format import read_checkpoint
    from allgrad.train.checkpoint.state import broadcast_checkpoint, capture, gather, restore
    from allgrad.train.checkpoint.writer import CheckpointWriter

    world = comm.init()
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, 11, (200, 7))

    def run(kind, options, shard, memory, start, stop, load=None, save=None):
        model = nn.models.GPT(11, context=6, layers=1, width=48, heads=2, tied=True, dropout=0.1, rng=0)
        replica = parallel.DataParallel(
            model, world, virtual_workers=8, shard=shard, memory=memory, bucket_mb=0.05, first_bucket_mb=0.01, seed=3
        )
        optimizer = getattr(optim, kind)(model.parameters(), **options)
        average = optim.EMA(optimizer.flat, 0.9)
        parts = {
            "model": model, "optimizer": replica.attach(optimizer), "exchange": replica.reducer, "average": average,
        }  # fmt: skip
        if load is not None:
            checkpoint = broadcast_checkpoint(world, read_checkpoint(load) if world.rank == 0 else None, load.parent)
            with replica.flat.writing():
                model.load_state_dict(checkpoint.model)
            restore({name: part for name, part in parts.items() if name != "model"}, checkpoint)
        results = []
        for step in range(start, stop):
            chosen = np.random.default_rng(step).permutation(200)[: 45 if step % 3 else 5]
            loss = lambda part: nn.CrossEntropyLoss()(model(part[:, :-1]), part[:, 1:])  # noqa: E731
            if step == 2:
                with replica.no_sync():
                    replica.step(loss, replica.split(tokens[chosen]), 100)
            results.append(replica.step(loss, replica.split(tokens[chosen]), step).loss)
            clip = {"clip_norm": 0.05} if step % 2 else {"clip_value": 0.005, "clip_norm": 0.5}
            results.append(replica.update(**clip))
            average.update()
        gather(parts)
        if save is not None:
            if world.rank == 0:
                with CheckpointWriter(save) as writer:
                    writer.save(stop, **capture(parts))
            world.barrier()
        if world.rank:
            return None
        captured = capture(parts)
        arrays = {**captured["model"], **captured["training"]}
        digest = hashlib.sha256(repr((sorted(results, key=str), captured["state"]["optimizer"])).encode())
        for name in sorted(arrays):
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return digest.hexdigest()

    found = []
    for kind, options, *way in cases:
        place = Path(folder) / kind
        if world.size == 1:
            run(kind, options, *way, 0, 2, save=place)
        found.append([run(kind, options, *way, 0, 4), run(kind, options, *way, 2, 4, load=place / "step-000002")])
    return found


@pytest.fixture(scope="module")
def in_this_process(tmp_path_factory):
    """in_this_process(kind) -> what the unsharded run of one process gives; it leaves its checkpoints in `folder`."""
    folder = str(tmp_path_factory.mktemp("runs"))

    @cache
    def run(kind):
        return train([(kind, OPTIMIZERS[kind], None, "rank")], folder)[0]

    run.folder = folder
    return run


@pytest.mark.parametrize(
    ("ranks", "nodes", "memory", "kinds"),
    [
        (2, 1, "rank", list(OPTIMIZERS)),
        (3, 1, "rank", ["AdamW", "LAMB"]),
        (5, 1, "rank", ["Muon", "Adafactor"]),
        (4, 2, "node", list(OPTIMIZERS)),
        (3, 2, "node", ["AdamW", "Muon"]),  # of two ranks, one of which owns nothing, and one
        (2, 1, "node", ["SGD", "Adafactor"]),
    ],
)
def test_the_bits_of_the_unsharded_run(mpirun, in_this_process, ranks, nodes, memory, kinds):
    expected = [in_this_process(kind) for kind in kinds]
    cases = [(kind, OPTIMIZERS[kind], "optimizer", memory) for kind in kinds]
    job = mpirun(train, ranks, cases, in_this_process.folder, env={"ALLGRAD_PRETEND_NODES": str(nodes)})
    assert job.values[0] == expected


def overlap():
    """The new parameters are on their way until the next forward reads them, and nothing reads them before."""
    import numpy as np

    from allgrad import comm, nn, optim, parallel

    waiting = []

    def before_worker(step, worker):
        waiting.append([type(p) is not nn.Parameter for p in model.parameters()])

    world = comm.init()
    model = nn.Sequential(nn.Linear(40, 50, rng=0), nn.Tanh(), nn.Linear(50, 3, rng=1))
    replica = parallel.DataParallel(model, world, shard="optimizer", memory="rank", before_worker=before_worker)
    replica.attach(optim.AdamW(model.parameters(), lr=1e-2))
    for step in range(2):
        replica.step(lambda part: np.mean(model(part) ** 2), replica.split(np.ones((8, 40), np.float32)), step)
        replica.update(clip_norm=1.0)
    return waiting


def test_parameters_are_on_their_way_until_the_next_forward(mpirun):
    assert mpirun(overlap, 2).values == [[[False] * 4, [True] * 4]] * 2
