"""Tensors in a notebook."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

import allgrad as ag


def shown(tensor):
    return ElementTree.fromstring(f"<div>{tensor._repr_html_()}</div>")


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 4), (2, 2, 2), (40, 50), (100_000,)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i8", "?"])
def test_every_shape_and_dtype_is_short_and_says_what_it_is(shape, dtype) -> None:
    page = shown(ag.tensor(np.zeros(shape, dtype)))
    text = "".join(page.itertext())
    assert text.startswith(f"Tensor {shape} {np.dtype(dtype)}")
    assert len(text) < 1500


def test_the_values_and_the_origin() -> None:
    x = ag.tensor([[1.0, 2.0], [3.0, 4.5]], requires_grad=True)
    assert [cell.text for cell in shown(x).iter("td")] == ["1", "2", "3", "4.5"]
    assert "requires_grad" in "".join(shown(x).itertext())
    assert "from=sin" in "".join(shown(np.sin(x)).itertext())


def test_texts_that_look_like_tags() -> None:
    x = ag.tensor(np.array([1.0]), requires_grad=True)
    assert "&lt;" not in x._repr_html_()
    assert repr(np.sin(x)) == "Tensor([0.84147098], from=sin)"
    assert repr(ag.tensor(np.float32([1]))) == "Tensor([1.], dtype=float32)"
