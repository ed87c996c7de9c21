"""The models that a configuration can name are built from it and the data, options and all."""

from __future__ import annotations

import numpy as np
import pytest

from allgrad.data import DataError, DataInfo
from allgrad.train.config import registry

IMAGES = DataInfo("classes", (16, 16, 1), 10)
TEXT = DataInfo("tokens", (12,), 30)
TABLE = DataInfo("values", (5,), 2)
POINTS = DataInfo("points", (2,), 1)

BUILT = [
    ("mlp", TABLE, {"hidden": (4,), "activation": "tanh", "dropout": 0.1}, (3, 2)),
    ("mlp", IMAGES, {"hidden": (4, 4)}, (3, 10)),
    ("gpt", TEXT, {"context": 12, "layers": 1, "width": 8, "heads": 2, "positions": "rotary", "norm": "rms"}, (3, 12, 30)),
    ("gpt", TEXT, {"context": 12, "layers": 1, "width": 8, "heads": 2, "tied_head": False, "recompute": True}, (3, 12, 30)),
    ("lstm", TEXT, {"width": 8, "layers": 1, "tied_head": True}, (3, 12, 30)),
    ("cnn", IMAGES, {"dropout": 0.1}, (3, 10)),
    ("resnet18", IMAGES, {"widths": (2, 2, 2, 2), "sync_batch_norm": False}, (3, 10)),
    ("pinn", POINTS, {"hidden": (4,), "activation": "silu"}, (3, 1)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def builtin() -> None:
    registry.load_builtin()


@pytest.mark.parametrize(("name", "info", "options", "shape"), BUILT)
def test_it_takes_what_the_data_give(name, info, options, shape) -> None:
    def build():
        return registry.models[name].factory(info, np.random.default_rng(1), **options)

    rng = np.random.default_rng(0)
    tokens = rng.integers(0, info.outputs, (3, *info.input_shape))
    inputs = tokens if info.kind == "tokens" else rng.normal(size=(3, *info.input_shape)).astype(np.float32)
    model = build().eval()
    assert model(inputs).shape == shape
    assert all(
        np.array_equal(a, b) for a, b in zip(model.state_dict().values(), build().state_dict().values(), strict=True)
    )


def test_all_of_them_are_tried_here() -> None:
    assert {name for name, *_ in BUILT} == set(registry.models.names())


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_convolutions_need_images(name) -> None:
    with pytest.raises(DataError, match=r"needs images, .* Samples have shape \(5,\)"):
        registry.models[name].factory(TABLE, np.random.default_rng(0))
