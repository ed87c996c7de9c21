"""The configurations that come with allgrad, against the components that it really has."""

from __future__ import annotations

from pathlib import Path

import pytest

from allgrad.data import DataError
from allgrad.train.config import dump_yaml, plan, registry, resolve

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
NAMES = [
    "diamonds",
    "fashion_mnist_cnn",
    "fashion_mnist_mlp",
    "heat_equation",
    "moby_dick",
    "moby_dick_local",
    "resnet18",
]


def test_they_are_all_there() -> None:
    assert [path.stem for path in CONFIGS] == NAMES


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
@pytest.mark.parametrize(
    "overrides",
    [[], ["train.steps=5"], ["train.epochs=1"], ["batch.size=24", "batch.virtual_workers=12", "train.steps=3"]],
    ids=["whole", "steps", "epochs", "workers"],
)
def test_they_are_valid_also_when_shortened(path: Path, overrides: list[str], tmp_path: Path) -> None:
    if overrides and path.stem == "moby_dick_local":
        overrides = [*overrides, "parallel.reduction.inner_steps=1"]  # a run is a whole number of rounds
    config = resolve(path, overrides)
    plan(config, samples=5000)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert resolve(tmp_path / "config.yaml").model_dump() == config.model_dump()


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_their_data_is_there(path: Path) -> None:
    config = resolve(path)
    try:
        source = registry.datasets.build(config.data, config.seed)
    except DataError as error:
        if config.data.name != "fashion_mnist":
            raise
        pytest.skip(f"{error}")
    assert len(source.train) > len(source.valid) > 0
