"""Trap 29. Resume in the middle of an epoch: no sample twice, none left out, same bits as without the stop."""

from __future__ import annotations

from collections import Counter

import pytest
from small_run import write_config

from allgrad.train.callbacks import Callback
from allgrad.train.run.build import Options, new_run, resume_run


def trained_on(trainer, run, stop=None):
    """The first input of each sample that the workers got, step by step; the loader has made more ahead."""
    seen, counts = [], trainer.objective.loss.counts

    def note(part):
        seen.extend(part["inputs"][:, 0].tolist())
        return counts(part)

    class Stop(Callback):
        def on_step(self, trainer, result):
            if trainer.progress.step == stop:
                trainer.stop_request.asked = True

    trainer.objective.loss.counts = note
    trainer.callbacks.append(Stop())
    return seen, trainer.run(run)["weights_sha256"]


@pytest.mark.parametrize("stop", [3, 8, 13])
def test_every_sample_once_an_epoch(tmp_path, stop) -> None:
    """72 samples, 8 batches an epoch, the last one of 2 samples for 4 workers."""
    config = write_config(tmp_path, train={"steps": 16, "early_stopping": None}, checkpoint={"every": None})
    options = Options(single=True)
    whole, digest = trained_on(*new_run(config, [f"run.dir={tmp_path / 'whole'}"], options))
    before, _ = trained_on(*new_run(config, [f"run.dir={tmp_path / 'run'}"], options), stop=stop)
    trainer, run, _ = resume_run(tmp_path / "run", options=options)
    after, resumed_digest = trained_on(trainer, run)
    assert before + after == whole
    assert set(Counter(whole[:72]).values()) == {1}
    assert Counter(whole[:72]) == Counter(whole[72:])
    assert resumed_digest == digest
