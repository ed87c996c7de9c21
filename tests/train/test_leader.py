"""What a rank reports that has just become rank 0."""

from __future__ import annotations

from allgrad.train.leader import missing_reports
from allgrad.train.run.progress import Progress


def test_lines_that_a_dead_rank_could_not_write(tmp_path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert missing_reports(file, Progress(step=14)) == (True, False)
    file.write_text('{"step": 14, "loss": 1.0}\n')
    assert missing_reports(file, Progress(step=14)) == (False, False)
    assert missing_reports(file, Progress(step=15, evaluated=15)) == (True, True)
    file.write_text('{"step": 15, "loss": 1.0}\n{"step": 15, "eval": {"loss": 2.0}}\n')
    assert missing_reports(file, Progress(step=15, evaluated=15)) == (False, False)
