"""Lossy exchanges: those defined per virtual worker give one hash at any number of ranks, also after a change of ranks."""

import pytest
from combinations import one_for_each_reduction, overrides, register, write
from runs import train as train_here

REDUCTIONS = {
    "bf16": "bf16",
    "top_k": {"name": "top_k", "fraction": 0.05},
    "power_sgd": {"name": "power_sgd", "rank": 2, "start_after": 1},
    "local": {"name": "local", "inner_steps": 2},
    "local, groups and fragments": {"name": "local", "inner_steps": 3, "fragments": 2, "replicas": 4},
    "local, two groups": {"name": "local", "inner_steps": 3, "replicas": 2},
    "local after a warm-up": {"name": "local", "inner_steps": 2, "warmup_steps": 4},
    "top_k per rank": {"name": "top_k", "fraction": 0.05, "per": "rank"},
    "power_sgd per rank": {"name": "power_sgd", "rank": 1, "per": "rank"},
}


def train(reductions, virtual_workers, folder=None):
    """{name: hash after six steps}; with a folder, also what three steps and a resume from another job's third step give."""
    from pathlib import Path

    import numpy as np
    from replicas import cross_entropy, data, digest

    from allgrad import comm, nn, optim, parallel
    from allgrad.train.checkpoint.format import read_checkpoint
    from allgrad.train.checkpoint.state import broadcast_checkpoint, capture, gather, restore
    from allgrad.train.checkpoint.writer import CheckpointWriter

    world = comm.init()
    arrays = data()
    between_replicas = {}

    def run(reduction, start, stop, saved=None, load=None):
        model = nn.models.MLP([6, 19, 19, 3], rng=0)
        replica = parallel.DataParallel(
            model, world, virtual_workers=virtual_workers, reduction=reduction, bucket_mb=5e-4, first_bucket_mb=2e-4
        )
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        parts = {"model": model, "optimizer": replica.attach(optimizer), "exchange": replica.reducer}
        if load is not None:
            checkpoint = read_checkpoint(load) if world.rank == 0 else None
            checkpoint = broadcast_checkpoint(world, checkpoint, load.parent)
            model.load_state_dict(checkpoint.model)
            restore({name: parts[name] for name in ("optimizer", "exchange")}, checkpoint)
        for step in range(start, stop):
            chosen = np.random.default_rng(step).permutation(60)[: 2 if step == 1 else 43]
            result = replica.step(cross_entropy(model), replica.split(tuple(a[chosen] for a in arrays)), step)
            replica.update(clip_norm=0.4)
        if saved is not None:
            gather(parts)
            if world.rank == 0:
                with CheckpointWriter(saved) as writer:
                    writer.save(stop, **capture(parts))
            world.barrier()
        if getattr(replica.exchange, "peers", None):  # a replica has several ranks
            sent = world.all_gather(np.array([replica.exchange.peers.comm.sent]))
            between_replicas[stop - start] = int(sent.sum()), replica.flat.params.nbytes
        return digest(model, result.loss)

    if world.size == 3:
        del (
            reductions["local, groups and fragments"],
            reductions["local, two groups"],
        )  # refused: 4 or 2 replicas on 3 ranks
    found = {name: run(reduction, 0, 6) for name, reduction in reductions.items()}
    if folder is not None:
        for name, reduction in reductions.items():
            place = Path(folder) / name / str(world.size)
            run(reduction, 0, 3, saved=place)
            for other in sorted((Path(folder) / name).iterdir()):
                try:
                    found[f"{name}, {other.name} ranks first"] = run(reduction, 3, 6, load=other / "step-000003")
                except RuntimeError as error:
                    found[f"{name}, {other.name} ranks first"] = str(error)
    return found | {"between replicas": between_replicas.get(6)}


@pytest.mark.parametrize("ranks", [3, 4])
def test_per_worker_means_one_hash(mpirun, ranks, tmp_path):
    """At 4 ranks, two groups of local updates have two ranks each, of which some have no sample in one of the steps."""
    expected = train(REDUCTIONS, 8, str(tmp_path / "saved"))  # in this process
    job = mpirun(train, ranks, REDUCTIONS, 8, str(tmp_path / "saved"))
    for found in job.values:
        for name, digest in expected.items():
            if "first" in name or name not in found or name == "between replicas":
                continue
            if "per rank" in name:
                assert found[name] != digest
                assert found[f"{name}, {ranks} ranks first"] == found[name] == job.values[0][name]
                assert "Resume on as many ranks as before" in found[f"{name}, 1 ranks first"]
            else:
                assert found[name] == found[f"{name}, {ranks} ranks first"] == found[f"{name}, 1 ranks first"] == digest
    if ranks == 4:  # 6 steps of two replicas are 2 rounds: each replica sends its weights to the other once in a round
        sent, weights = job.values[0]["between replicas"]
        assert 4 * weights <= sent <= 4 * weights + 2 * 4 * 4  # each of a replica's two ranks may send one element more


def stop_and_resume(config, combinations, folder):
    """{reduction: summary} of runs that are stopped in the middle of a round of local updates, and resumed."""
    from pathlib import Path

    from combinations import overrides, register

    from allgrad.train.callbacks import Callback
    from allgrad.train.run.build import Options, new_run, resume_run

    class StopAtStep3(Callback):
        def on_step(self, trainer, result):
            trainer.stop_request.asked = trainer.progress.step == 3

    register()
    found = {}
    for number, (reduction, choice) in enumerate(combinations.items()):
        run = Path(folder) / str(number)
        words = [*overrides(choice), f"run.dir={run}"]
        trainer, directory = new_run(config, words, Options(trainer={"callbacks": [StopAtStep3()]}))
        trainer.run(directory)
        resumed, directory, _ = resume_run(run, [])
        found[reduction] = dict(resumed.run(directory))
    return found


def test_whatever_they_are_combined_with(mpirun, tmp_path):
    """Optimizers, clipping, averages, shards, shared memory, steps that are not finite; on one rank, and on two with a stop."""
    register()
    config = write(tmp_path)
    combinations = one_for_each_reduction()
    job = mpirun(stop_and_resume, 2, str(config), combinations, str(tmp_path))
    for number, (reduction, choice) in enumerate(combinations.items()):
        here = train_here(config, tmp_path / f"here {number}", *overrides(choice))
        there = [values[reduction] for values in job.values]
        assert there[0]["weights_sha256"] == there[1]["weights_sha256"]
        if here["same_bits_at_any_rank_count"]:
            assert here["weights_sha256"] == there[0]["weights_sha256"]
        assert (
            there[0]["skipped_steps"] == here["skipped_steps"] == ([3] if choice["train.nonfinite"] == "skip" else [])
        )
