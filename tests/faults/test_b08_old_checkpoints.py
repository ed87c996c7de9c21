"""An old checkpoint that could not be removed ended the run, with a message about the new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from checkpoints import arrays, save

from allgrad.train.checkpoint import writer as checkpoint_writer
from allgrad.train.checkpoint.format import load_latest, read_checkpoint
from allgrad.train.checkpoint.writer import CheckpointWriter

if TYPE_CHECKING:
    from pathlib import Path


def test_links_and_leftovers_do_not_block_a_writer(tmp_path: Path) -> None:
    """An old step that is a symbolic link is removed as a link; what an interrupted writer left is overwritten."""
    elsewhere = tmp_path / "elsewhere"
    save(elsewhere, 1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "step-000001").symlink_to(elsewhere / "step-000001")
    (tmp_path / "run" / ".step-000009.removed").symlink_to(elsewhere)
    (tmp_path / "run" / ".step-000003.partial").write_text("a file, not a directory")
    with CheckpointWriter(tmp_path / "run", keep=1) as writer:
        (tmp_path / "run" / ".step-000002.partial").mkdir()
        writer.save(2, model=arrays(2), training={}, state={})
        writer.wait()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["step-000002"]
    assert read_checkpoint(elsewhere / "step-000001").step == 1


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning(tmp_path: Path, monkeypatch) -> None:
    remove = checkpoint_writer._remove

    def refuse(path: Path) -> None:
        if path.name == ".step-000001.removed" and path.exists():
            raise PermissionError(13, "Permission denied")
        remove(path)

    monkeypatch.setattr(checkpoint_writer, "_remove", refuse)
    save(tmp_path, 1)
    with pytest.warns(RuntimeWarning, match=r"Cannot remove the old checkpoint .*step-000001: Permission denied"):
        save(tmp_path, 2, keep=1, asynchronous=False)
    found, _ = load_latest(tmp_path)
    assert found is not None
    assert found.step == 2
