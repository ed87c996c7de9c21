"""The Python of `docs/data.md` runs as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allgrad.train.config import registry

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.datasets, "_entries", dict(registry.datasets._entries))
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {"__name__": "docs_data"})
    source = registry.datasets["sines"].factory(0, start=0.5)
    batch = source.train.batch(np.array([0]))
    np.testing.assert_allclose(batch["targets"], np.sin([[0.5]]), rtol=1e-6)
