"""The same convolutions in differentiated NumPy calls, for forward mode and derivatives of derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.nn.convolution.padded_images import place
from allgrad.nn.primitives import matmul

if TYPE_CHECKING:
    from allgrad.nn.convolution.epilogue import Epilogue
    from allgrad.nn.convolution.geometry import Geometry, Pair


def reference(x: Any, weight: Any, bias: Any, *, geometry: Geometry, epilogue: Epilogue) -> Any:
    """See `operation`: the sum over the entries of the kernel of the pixels there times the weights there."""
    oh, ow = geometry.output(x.shape[1:3])
    x = _padded(x, geometry.padding)
    total: Any = 0
    for i, j in np.ndindex(geometry.kernel):
        total = total + _by_group(place(x, geometry, (i, j), slice(0, oh), ow), weight[i, j], geometry.groups)
    if bias is not None:
        total = total + bias
    if epilogue.pool is not None:
        total = _pooled(total, epilogue.pool)
    return total if epilogue.activation is None else epilogue.activation.reference(total)


def reference_transposed(x: Any, weight: Any, bias: Any, *, geometry: Geometry, image: Pair) -> Any:
    """See `operation`: zeros between the pixels, then an ordinary convolution with the rotated kernel."""
    from allgrad.nn.convolution.epilogue import Epilogue

    n, h, w, channels = x.shape
    (sh, sw), groups = geometry.stride, geometry.groups
    kh, kw, outer, _ = weight.shape
    spread = np.reshape(x, (n, h, 1, w, 1, channels))
    spread = np.pad(spread, ((0, 0), (0, 0), (0, sh - 1), (0, 0), (0, sw - 1), (0, 0)))
    spread = np.reshape(spread, (n, h * sh, w * sw, channels))[:, : (h - 1) * sh + 1, : (w - 1) * sw + 1]
    split = np.reshape(weight[::-1, ::-1], (kh, kw, outer, groups, channels // groups))
    turned = np.reshape(np.transpose(split, (0, 1, 4, 3, 2)), (kh, kw, channels // groups, groups * outer))
    around = geometry.flipped()
    sides = []
    for axis in (0, 1):
        before = around.padding[axis][0]
        sides.append((before, image[axis] + around.reach[axis] - 1 - spread.shape[1 + axis] - before))
    around = around._replace(stride=(1, 1), padding=(sides[0], sides[1]))
    return reference(spread, turned, bias, geometry=around, epilogue=Epilogue())


def _padded(x: Any, padding: tuple[Pair, Pair]) -> Any:
    """Add zeros around the image. A negative number removes pixels."""
    if any(side > 0 for sides in padding for side in sides):
        x = np.pad(x, ((0, 0), *((max(a, 0), max(b, 0)) for a, b in padding), (0, 0)))
    (top, bottom), (left, right) = (tuple(max(-side, 0) for side in sides) for sides in padding)
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right] if top or bottom or left or right else x


def _by_group(pixels: Any, weight: Any, groups: int) -> Any:
    """(..., C) times (C / groups, O), each group of channels with its own columns."""
    if groups == 1:
        return matmul(pixels, weight)
    inner, outer = weight.shape
    split = np.reshape(pixels, (*pixels.shape[:-1], groups, 1, inner))
    matrices = np.transpose(np.reshape(weight, (inner, groups, outer // groups)), (1, 0, 2))
    return np.reshape(matmul(split, matrices), (*pixels.shape[:-1], outer))


def _pooled(y: Any, tile: Pair) -> Any:
    n, h, w, channels = y.shape
    h, w = h // tile[0], w // tile[1]
    y = y[:, : h * tile[0], : w * tile[1]]
    return np.max(np.reshape(y, (n, h, tile[0], w, tile[1], channels)), axis=(2, 4))
