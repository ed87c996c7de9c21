"""Trap 20: workers of a rank communicate during the last one's backward only; several backward passes fire no event twice."""

import pytest


def job():
    """Everything that this file looks at, in one job."""

    def steps_of(how):
        import time

        import numpy as np
        from replicas import digest, train

        import allgrad as ag
        from allgrad import comm, nn

        world = comm.init()
        model = nn.Sequential(
            *(layer for i in range(6) for layer in (nn.Linear(6, 6, rng=i), nn.Tanh())), nn.Linear(6, 3, rng=9)
        )
        began = []

        def loss(part):
            logits = model(part[0])
            value = nn.CrossEntropyLoss()(logits, part[1])
            if how == "two passes":  # an auxiliary objective with a backward of its own
                np.mean(logits * logits).backward(retain_graph=True)
            if how == "inner":  # a derivative inside the loss
                slope = ag.grad(lambda x: np.sum(np.tanh(model(x))))(part[0])
                value = value + np.mean(slope * slope)
            began.append(time.perf_counter())
            return value

        replica, results = train(model, world, steps=2, sizes=(60,), loss=loss)
        out = {"digest": digest(model, [r.loss for r in results]), "workers": len(replica.workers)}
        if world.size > 1:
            last = began[len(replica.workers) - 1] + (
                world.clock() - time.perf_counter()
            )  # the first step's last forward had ended
            times = results[0].times
            out["early"] = [b.ready < last for b in times.buckets]
            out["behind"] = [b.ready < times.computed for b in times.buckets]
            out["labels"] = [b.label for b in times.buckets]
        return out

    def buffers():
        import numpy as np
        from replicas import cross_entropy, digest, train

        from allgrad import comm, nn

        model = nn.Sequential(nn.Linear(6, 5, rng=0), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3, rng=1))
        train(model, comm.init(), loss=cross_entropy(model), sizes=(60, 33))
        statistics = {name: np.asarray(array).tolist() for name, array in model.named_buffers()}
        return digest(model, statistics)

    def accumulation():
        """The last pass after `no_sync` communicates during its last worker's backward as well."""
        from replicas import cross_entropy, data, digest

        from allgrad import comm, nn, optim, parallel

        world = comm.init()
        model = nn.Sequential(nn.Linear(6, 5, rng=0), nn.Tanh(), nn.Linear(5, 3, rng=1))
        replica = parallel.DataParallel(model, world, virtual_workers=8, bucket_mb=1e-4, first_bucket_mb=1e-4)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        parts = replica.split(data())
        quiet = []
        for step in range(6):
            if step % 3 < 2:
                with replica.no_sync():
                    quiet.append(replica.step(cross_entropy(model), parts, step))
            else:
                result = replica.step(cross_entropy(model), parts, step)
                optimizer.step()
        silent = all(not r.times.buckets for r in quiet)
        behind = [b.ready < result.times.computed for b in result.times.buckets]
        return {"digest": digest(model), "silent": silent, "behind": all(behind), "buckets": len(behind)}

    steps = {how: steps_of(how) for how in ("plain", "two passes", "inner")}
    return {"steps": steps, "buffers": buffers(), "accumulation": accumulation()}


@pytest.fixture(scope="module")
def expected():
    return job()


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_workers_of_a_rank(mpirun, expected, ranks):
    for value in mpirun(job, ranks).values:
        for how, steps in value["steps"].items():  # one event and one collective for each bucket
            assert steps["digest"] == expected["steps"][how]["digest"], how
            assert not any(steps["early"]), how
            assert all(steps["behind"]), how
            assert len(steps["labels"]) == len(set(steps["labels"])) >= 7, how
        assert value["buffers"] == expected["buffers"]  # running statistics do not leak between workers
        last = value["accumulation"]
        assert last["digest"] == expected["accumulation"]["digest"]
        assert last["silent"]
        assert last["behind"]
        assert last["buckets"] >= 2
