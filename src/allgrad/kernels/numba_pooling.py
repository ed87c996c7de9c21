"""Max-pooling over channels-last images, compiled: window by window, all channels of a pixel at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from allgrad.kernels.jit import per_dtype


@per_dtype("r4 n n n n n n n n w4")
def max_pool_forward(x: Any, wh: Any, ww: Any, sh: Any, sw: Any, ph: Any, pw: Any, dh: Any, dw: Any, y: Any) -> None:
    for image in range(y.shape[0]):
        for row in range(y.shape[1]):
            for column in range(y.shape[2]):
                best, first = y[image, row, column], True
                for i in range(wh):
                    r = row * sh - ph + i * dh
                    for j in range(ww):
                        c = column * sw - pw + j * dw
                        if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                            pixel = x[image, r, c]
                            if first:
                                first = False
                                for k in range(best.size):
                                    best[k] = pixel[k]
                            else:
                                for k in range(best.size):
                                    best[k] = best[k] if pixel[k] <= best[k] or best[k] != best[k] else pixel[k]
                if first:
                    best[:] = -np.inf


@per_dtype("r4 r4 r4 n n n n n n n n w4", references=True)
def max_pool_backward(
    g: Any, x: Any, y: Any, wh: Any, ww: Any, sh: Any, sw: Any, ph: Any, pw: Any, dh: Any, dw: Any, dx: Any
) -> None:
    left = np.empty(x.shape[3], x.dtype)  # what of the output's gradient no pixel has taken yet
    zero = x.dtype.type(0)
    dx[:] = 0
    for image in range(y.shape[0]):
        for row in range(y.shape[1]):
            for column in range(y.shape[2]):
                best, given = y[image, row, column], g[image, row, column]
                for k in range(given.size):
                    left[k] = given[k]
                for i in range(wh):
                    r = row * sh - ph + i * dh
                    for j in range(ww):
                        c = column * sw - pw + j * dw
                        if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                            pixel, d = x[image, r, c], dx[image, r, c]
                            for k in range(best.size):
                                d[k] += left[k] if pixel[k] == best[k] else zero
                            for k in range(best.size):
                                left[k] = zero if pixel[k] == best[k] else left[k]


@per_dtype("r4 n n w4 o4")
def pool_tiles(raw: Any, down: Any, across: Any, y: Any, winners: Any) -> None:
    for image in range(y.shape[0]):
        for row in range(y.shape[1]):
            for column in range(y.shape[2]):
                best, won = y[image, row, column], winners[image, row, column]
                pixel = raw[image, row * down, column * across]
                for k in range(best.size):
                    best[k] = pixel[k]
                won[:] = 0
                for place in range(1, down * across):
                    pixel = raw[image, row * down + place // across, column * across + place % across]
                    for k in range(best.size):
                        won[k] = place if pixel[k] > best[k] else won[k]
                    for k in range(best.size):
                        best[k] = best[k] if pixel[k] <= best[k] or best[k] != best[k] else pixel[k]


@per_dtype("r4 n n i4 w4")
def unpool_tiles(g: Any, down: Any, across: Any, winners: Any, raw: Any) -> None:
    zero = g.dtype.type(0)
    for image in range(g.shape[0]):
        for row in range(g.shape[1]):
            for column in range(g.shape[2]):
                g_, won = g[image, row, column], winners[image, row, column]
                for place in range(down * across):
                    pixel = raw[image, row * down + place // across, column * across + place % across]
                    for k in range(g_.size):
                        pixel[k] = g_[k] if won[k] == place else zero
