"""The trace of a job of several ranks: all of them in one file, on one clock, also on demand."""

from __future__ import annotations

import json

from small_run import write_config


def traced(config, directory):
    """Train with a trace of the first steps; rank 1 asks for another one later."""
    import os
    import signal
    from pathlib import Path

    from allgrad.train.callbacks import Callback
    from allgrad.train.run.build import Options, new_run

    class Ask(Callback):
        def on_step(self, run, result):
            if run.progress.step == 8 and run.world.rank == 1:
                os.kill(os.getpid(), signal.SIGUSR2)

    overrides = [f"run.dir={directory}", "logging.trace=3", "parallel.bucket_mb=0.0001"]
    trainer, run = new_run(config, overrides, Options(trainer={"callbacks": [Ask()]}))
    trainer.run(run)
    return json.loads((Path(run) / "trace.json").read_text())["traceEvents"] if trainer.world.rank == 0 else None


def test_all_ranks_are_in_one_file_and_on_one_clock(mpirun, tmp_path) -> None:
    train = {"steps": 14, "eval_every": None, "early_stopping": None}
    config = write_config(tmp_path, train=train, model={"hidden": [16, 16]})
    events = mpirun(traced, 3, str(config), str(tmp_path / "run")).values[0]
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert [names[rank][:6] for rank in range(3)] == ["rank 0", "rank 1", "rank 2"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {e["pid"] for e in spans} == {0, 1, 2}
    for rank in range(3):
        assert [e["args"]["step"] for e in spans if e["cat"] == "step" and e["pid"] == rank] == [0, 1, 2, 8, 9, 10]
    forward = [e["args"] for e in spans if e["cat"] == "forward" and e["args"]["step"] == 9]
    assert sorted(args["worker"] + i for args in forward for i in range(args["workers"])) == [0, 1, 2, 3]
    for step in (0, 1, 2, 8, 9, 10):
        buckets = [e for e in spans if e["cat"] == "bucket" and e["args"]["step"] == step]
        assert len({e["name"] for e in buckets}) > 1
        assert len(buckets) == 3 * len({e["name"] for e in buckets})
        for name in {e["name"] for e in buckets}:
            # Nobody is done before the last rank has posted: on clocks that differ this would not hold.
            of_name = [e for e in buckets if e["name"] == name]
            last_posted = max(e["ts"] for e in of_name)
            assert min(e["ts"] + e["dur"] for e in of_name) >= last_posted - 1000
