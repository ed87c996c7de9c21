"""The choice of an algorithm for a convolution. It depends on shapes only, never on time, since the algorithm affects bits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from allgrad.kernels import bf16
from allgrad.nn.convolution.depthwise import Depthwise
from allgrad.nn.convolution.patches import Patches
from allgrad.nn.convolution.pointwise import Pointwise
from allgrad.nn.convolution.winograd import OUT, Winograd, tile_counts

if TYPE_CHECKING:
    from allgrad.nn.convolution.algorithm import Algorithm, Array
    from allgrad.nn.convolution.geometry import Geometry, Pair

CHANNELS = 16
"""Winograd's algorithm is used with at least this many input and output channels, so that its products run well,"""
TILES = 16
"""... at least this many tiles among a worker's samples, so that the transform of the kernel pays,"""
FILL = 0.6
"""... and at least this share of the area of the tiles inside the image."""


def choose(weight: Array, geometry: Geometry, image: Pair, samples: int) -> Algorithm:
    """The algorithm for a kernel (kh, kw, C / groups, O) over `samples` images of (H, W)."""
    return choose_kind(weight, geometry, image, samples)(weight, geometry, image, samples)


def choose_kind(weight: Array, geometry: Geometry, image: Pair, samples: int) -> type[Algorithm]:
    """The class of the algorithm. Winograd's transforms would lose too much in bfloat16."""
    kind: type[Algorithm] = Patches
    if geometry.groups > 1 and weight.shape[2] == 1 and weight.shape[3] == geometry.groups:
        kind = Depthwise
    elif geometry.plain and geometry.kernel == (1, 1) and geometry.output(image) == image:
        kind = Pointwise
    elif geometry.plain and geometry.kernel == (3, 3) and _tiles_well(weight, geometry.output(image), samples):
        kind = Winograd
    return kind


def _tiles_well(weight: Array, output: Pair, samples: int) -> bool:
    count = math.prod(tile_counts(output))
    filled = output[0] * output[1] >= FILL * OUT * OUT * count
    enough = min(weight.shape[2:]) >= CHANNELS and samples * count >= TILES
    return filled and enough and not bf16.enabled()
