"""A configuration that needs nothing but a plugin, for the commands that read one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PLUGIN = """
from allgrad.train.config import registry

@registry.register_model("cli_test_model")
@registry.register_dataset("cli_test_data")
@registry.register_loss("cli_test_loss")
def part(given): ...

@registry.register_optimizer("cli_test_optimizer")
def optimizer(groups, *, lr: float = 0.1): ...
"""

CONFIG = """
model: {name: cli_test_model}
data: {name: cli_test_data}
loss: {name: cli_test_loss}
optimizer: {name: cli_test_optimizer, lr: 0.1}
batch: {size: 64, virtual_workers: 4}
train: {steps: 10}
"""


@pytest.fixture
def run(tmp_path: Path) -> list[str]:
    """The arguments that name a configuration of parts that a plugin registers."""
    (tmp_path / "cli_test_parts.py").write_text(PLUGIN)
    (tmp_path / "run.yaml").write_text(CONFIG)
    return [str(tmp_path / "run.yaml"), "--plugin", str(tmp_path / "cli_test_parts.py")]
