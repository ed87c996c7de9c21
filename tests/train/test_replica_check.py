"""Silent corruption of a replica is found: which part, which rank, and nothing is saved since the last comparison."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import train
from small_run import summary, write_config

from allgrad.train.checkpoint.format import list_checkpoints
from allgrad.train.replica_check import CorruptionError, ReplicaCheck, fingerprint
from allgrad.train.run.build import Options, new_run

PLUGIN = """
import numpy as np
from allgrad.train import Callback, register_callback

class Flip(Callback):
    def on_step(self, run, result):
        if run.world.rank == 2 and run.progress.step == 23:
            run.replica.flat.params.flat[np.dtype(np.float32)].view(np.uint32)[11] ^= 1 << 3

@register_callback("flip")
def flip():
    return Flip()
"""


class FakeWorld:
    """Ranks of which this one is the first; `others` is what the others gather."""

    def __init__(self, others) -> None:
        self.others, self.host = others, "here"

    def all_gather(self, mine):
        return np.stack([mine, *self.others(mine)])

    def all_gather_json(self, value):
        return ["here", "there", "away", "far"][: 1 + len(self.others(np.zeros(1)))]


@given(st.integers(1, 40_000), st.data())
def test_every_flipped_bit_changes_the_fingerprint(size, data) -> None:
    array = np.arange(size, dtype=np.float32)
    before = fingerprint([array])
    array.view(np.uint32)[data.draw(st.integers(0, size - 1))] ^= np.uint32(1 << data.draw(st.integers(0, 31)))
    assert fingerprint([array]) != before


def test_fingerprints_know_the_place_of_a_block_and_of_an_array() -> None:
    a = np.arange(8192, dtype=np.int64)
    assert fingerprint([a]) != fingerprint([np.concatenate([a[4096:], a[:4096]])])
    assert fingerprint([a[:3], a[3:7]]) != fingerprint([a[3:7], a[:3]])
    assert fingerprint([np.zeros(0), np.zeros((), np.uint8)]) != fingerprint([np.ones((), np.uint8)])


@pytest.mark.parametrize(
    ("others", "said", "odd"),
    [
        (lambda mine: [mine + 1, mine], "weights: rank 1 on there differs from the others", {1}),
        (lambda mine: [mine + 1, mine + 2, mine], "weights: ranks 1, 2 on away, there differ from the others", {1, 2}),
        (lambda mine: [mine + 1], "weights: rank 0 and rank 1 differ, and none of them is in the majority", set()),
    ],
)
def test_who_is_alone_is_named(others, said, odd) -> None:
    check = ReplicaCheck(FakeWorld(others), {"weights": lambda: [np.ones(3)]}, 1)
    with pytest.raises(CorruptionError, match=r"After 12 steps the ranks no longer hold the same bits") as caught:
        check.check(12)
    assert said in str(caught.value)
    assert caught.value.odd == odd


def test_a_step_is_compared_once() -> None:
    calls = []
    check = ReplicaCheck(FakeWorld(lambda mine: [mine]), {"weights": lambda: calls.append(1) or [np.ones(3)]}, 1)
    check.check(5)
    check.check(5)
    check.check(6)
    assert len(calls) == 2


def test_a_flipped_bit_ends_the_run_before_anything_is_saved(mpi_flavour, tmp_path, clean_environment) -> None:
    (tmp_path / "flip.py").write_text(PLUGIN)
    settings = {"verify_every": 8}
    config = write_config(
        tmp_path, train={"steps": 40, "early_stopping": None, "callbacks": ["flip"]}, parallel=settings
    )
    allgrad = [sys.executable, "-P", "-m", "allgrad"]
    words = ["train", "-n", "3", str(config), "--plugin", str(tmp_path / "flip.py"), f"run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [*allgrad, *words], env=clean_environment({}), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert "After 24 steps the ranks no longer hold the same bits:" in done.stderr
    assert "  weights: rank 2 on " in done.stderr
    assert "Traceback" not in done.stderr
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[0].name == "step-000020"


def test_the_optimizer_state_is_compared_before_a_checkpoint_whatever_the_interval(tmp_path) -> None:
    trainer, run = new_run(
        write_config(tmp_path), [f"run.dir={tmp_path / 'run'}", "parallel.verify_every=1000"], Options(single=True)
    )
    prints: list[list[int]] = []

    def others(mine):
        """Two more ranks: one agrees, and from the second comparison on the other has other optimizer state."""
        prints.append(mine.tolist())
        at = list(trainer.replica_check.parts).index("optimizer state")
        return [mine, mine + (len(prints) > 1) * (np.arange(len(mine)) == at)]

    trainer.replica_check.world = FakeWorld(others)
    with pytest.raises(CorruptionError, match=r"After 15 steps .*\n  optimizer state: rank 2 on away differs"):
        trainer.run(run)
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-000010"]


def test_comparing_changes_no_bit(tmp_path) -> None:
    a = train(write_config(tmp_path), tmp_path / "a", "train.steps=12", "parallel.verify_every=1")
    b = train(write_config(tmp_path), tmp_path / "b", "train.steps=12")
    assert a["weights_sha256"] == b["weights_sha256"] == summary(tmp_path / "a")["weights_sha256"]
