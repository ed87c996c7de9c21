"""A checkpoint comes onto the disk whole or not at all, whatever happens to the process or the disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoints import arrays, save

from allgrad.train.checkpoint import writer as checkpoint_writer
from allgrad.train.checkpoint.format import CheckpointError, list_checkpoints, load_best, load_latest, read_checkpoint
from allgrad.train.checkpoint.writer import CheckpointWriter


def test_the_snapshot_is_taken_before_save_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    write = checkpoint_writer.write_synced
    monkeypatch.setattr(checkpoint_writer, "write_synced", lambda *a: (go.wait(300), write(*a))[1])
    weights, state = {"w": np.zeros(4)}, {"list": [1]}
    with CheckpointWriter(tmp_path) as writer:
        writer.save(1, model=weights, training={}, state=state)
        weights["w"][:] = 9.0
        state["list"].append(2)
        go.set()
    found = read_checkpoint(tmp_path / "step-000001")
    assert found.model["w"].tolist() == [0.0] * 4
    assert found.state == {"list": [1]}


def test_at_most_one_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0
    write = checkpoint_writer.write_synced

    def slow(path: Path, content: bytes) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.002)
        write(path, content)
        running -= 1

    monkeypatch.setattr(checkpoint_writer, "write_synced", slow)
    with CheckpointWriter(tmp_path) as writer:
        for step in (1, 2, 3):
            writer.save(step, model=arrays(step), training={}, state={})
            assert len(list(tmp_path.glob("step-*"))) >= step - 1  # the one before it is there
    assert most == 1


def test_everything_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is renamed before its content is synced can be empty after the machine crashed."""
    done: list[str] = []
    synced, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        done.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        synced(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append(f"rename {self.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    save(tmp_path / "checkpoints", 1)
    files = ["model.safetensors", "training.safetensors", "state.json", "manifest.json"]
    partial = ".step-000001.partial"
    assert done == [*(f"sync {name}" for name in files), f"sync {partial}", f"rename {partial}", "sync checkpoints"]


# What is kept


def steps(folder: Path) -> list[int]:
    return [int(path.name[5:]) for path in list_checkpoints(folder)]


@pytest.mark.parametrize(("mode", "best"), [("min", 2), ("max", 1)])
def test_newest_and_best_are_kept(tmp_path: Path, mode: str, best: int) -> None:
    metrics = {1: 3.0, 2: 1.0, 3: 1.0, 4: float("nan"), 5: 2.0, 6: None}
    with CheckpointWriter(tmp_path, keep=2, mode=mode) as writer:
        for step, metric in metrics.items():
            writer.save(step, model={}, training={}, state={}, metric=metric)
    assert steps(tmp_path) == [6, 5, best]
    found = load_best(tmp_path, mode)
    assert found is not None
    assert (found.step, found.metric) == (best, metrics[best])
    assert not list(tmp_path.glob(".*"))


def test_what_lies_ahead_does_not_push_out_the_new_one(tmp_path: Path) -> None:
    save(tmp_path, 80)
    (tmp_path / "step-000080" / "model.safetensors").write_bytes(b"")
    save(tmp_path, 60, 70, keep=1)  # resumed from before the damaged one
    assert steps(tmp_path) == [80, 70]
    found, _ = load_latest(tmp_path)
    assert found is not None
    assert found.step == 70


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with CheckpointWriter(tmp_path) as writer:
        writer.save(1, model={"new": np.ones(1)}, training={}, state={})
    assert list(read_checkpoint(tmp_path / "step-000001").model) == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_leftovers_of_a_killed_writer(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    (tmp_path / "step-000002").rename(tmp_path / ".step-000002.replaced")
    for name in (".step-000003.partial", ".step-000001.removed", ".step-000001.replaced"):
        (tmp_path / name).mkdir()
    CheckpointWriter(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000002"]


# Disk and rights


def is_root() -> bool:
    return os.geteuid() == 0


def limited(folder: Path, size: int) -> None:
    """Save step 2 where no file may grow beyond `size` bytes, as when the disk is full."""
    writer = CheckpointWriter(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        writer.save(2, model={"w": np.zeros(10_000)}, training={}, state={})
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_cannot_grow_loses_nothing(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(
        CheckpointError, match=r"Cannot write the checkpoint .*step-000002 .*newest checkpoint there is step-000001"
    ):
        limited(tmp_path, 4096)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert load_latest(tmp_path)[0] is not None


@pytest.mark.skipif(not is_root(), reason="mounting a small file system needs root")
def test_a_full_disk_loses_nothing_and_can_be_freed(tmp_path: Path) -> None:
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(tmp_path)], check=False)
    if mount.returncode:
        pytest.skip("this container may not mount a file system")
    try:
        small, large = {"w": np.zeros(1000)}, {"w": np.zeros(100_000)}
        writer = CheckpointWriter(tmp_path / "checkpoints")
        writer.save(1, model=small, training={}, state={})
        writer.save(2, model=large, training={}, state={})
        with pytest.raises(CheckpointError, match="No space left on device"):
            writer.save(3, model=small, training={}, state={})  # the error of step 2 surfaces here
        writer.save(4, model=small, training={}, state={})  # and is over
        writer.close()
        assert steps(tmp_path / "checkpoints") == [4, 1]
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.skipif(is_root(), reason="root may write everywhere")
def test_no_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        CheckpointWriter(tmp_path / "checkpoints")
    tmp_path.chmod(0o700)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"Cannot write to .*: File exists"):
        CheckpointWriter(tmp_path / "checkpoints")


def test_keep_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep parameter of CheckpointWriter must be at least 1"):
        CheckpointWriter(tmp_path, keep=0)


# Processes

WRITE_WITHOUT_END = """
import sys
from pathlib import Path
import numpy as np
from allgrad.train.checkpoint.writer import CheckpointWriter

writer = CheckpointWriter(Path(sys.argv[1]), keep=2, asynchronous=sys.argv[2] == "thread")
step = int(sys.argv[3])
while True:
    step += 1
    writer.save(step, model={"w": np.full(20_000, step)}, training={"m": np.full(30_000, step)}, state={"step": step})
    print(step, flush=True)
"""


def test_killed_in_the_middle_of_a_write(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    rng = np.random.default_rng(0)
    last = 0
    for trial in range(6):
        command = [sys.executable, "-c", WRITE_WITHOUT_END, str(folder), ["thread", "here"][trial % 2], str(last)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(4):
                process.stdout.readline()
            time.sleep(float(rng.uniform(0, 0.03)))
            process.send_signal(signal.SIGKILL)
            process.wait()
        found, refused = load_latest(folder)
        assert found is not None
        assert refused == []
        assert found.step >= last + 3  # the fourth may have been under way
        assert found.state == {"step": found.step}
        assert (found.model["w"] == found.step).all()
        assert (found.training["m"] == found.step).all()
        last = found.step


def test_readers_see_whole_checkpoints_only(tmp_path: Path) -> None:
    save(tmp_path, 1, keep=1)
    last = 39
    first_seen = threading.Event()
    seen: list[int] = []
    wrong: list[str] = []

    def read() -> None:
        step = 0
        while step < last and not wrong:
            try:
                found, refused = load_latest(tmp_path)
            except CheckpointError as error:
                wrong.append(str(error))
                continue
            wrong.extend(refused)
            if found is not None:
                step = found.step
                seen.append(step)
                first_seen.set()
                if not (found.model["weight"] == step).all():
                    wrong.append(f"other weights in step {step}")

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert first_seen.wait(300)
    save(tmp_path, *range(2, last + 1), keep=1)
    for thread in threads:
        thread.join()
    assert wrong == []
    assert {1, last} <= set(seen)
