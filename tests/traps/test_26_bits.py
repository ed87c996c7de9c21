"""Trap 26. Bits do not depend on the rank count (R = 3, 5, 7 with V = 8 too), on memory addresses, on the order in which messages
arrive, or on whether a bucket was reduced early or late."""

from __future__ import annotations

import pytest
from small_run import write_config

from allgrad.train.launch import Options, new_run


def train_variously(config, folder):
    """The digests with buckets of all sizes, moved by a thread and by the main thread, with memory shifted between them."""
    import numpy as np

    from allgrad.train.launch import new_run

    digests, ballast = [], []
    for number, (bucket, who) in enumerate([(25.0, "thread"), (1e-4, "thread"), (3e-4, "polling")]):
        ballast.append(np.empty(10_007 * (number + 1), np.uint8))
        overrides = [f"run.dir={folder}/{number}", f"parallel.bucket_mb={bucket}", f"parallel.comm={who}"]
        trainer, run = new_run(config, overrides)
        digests.append(trainer.run(run)["weights_sha256"])
        trainer.replica.engine.close()  # the next one is driven in another way
    return digests


@pytest.mark.parametrize("ranks", [3, 5, 7])
def test_one_hash(mpirun, tmp_path, ranks) -> None:
    few = {"steps": 6, "eval_every": None, "early_stopping": None}
    config = write_config(tmp_path, batch={"virtual_workers": 8, "size": 12}, train=few)
    trainer, run = new_run(config, [f"run.dir={tmp_path / 'alone'}"], Options(single=True))
    alone = trainer.run(run)["weights_sha256"]
    job = mpirun(train_variously, ranks, str(config), str(tmp_path), timeout=120)
    assert job.values == [[alone] * 3] * ranks
