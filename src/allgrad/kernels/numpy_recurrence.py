"""One step of an LSTM, forward and backward, in NumPy.

A sigmoid is (1 + tanh(x / 2)) / 2, so that all gates take one tanh. What is kept of the gates are these tanhs, t: then both
slopes are multiples of 1 - t^2, and 1 + t is twice the gate. Multiplying by powers of two loses nothing, so the halves
are put where there are fewest numbers. Gates lie one behind the other, since NumPy is three times slower on short rows.
"""

from __future__ import annotations

import numpy as np

from allgrad.kernels.blocks import Array, constant, scratch


def lstm_forward(z: Array, product: Array, cell: Array, new: Array, h: Array) -> None:
    """See `Kernels.lstm_forward`."""
    half = constant(z.dtype, 0.5, cell.size).reshape(cell.shape)
    np.add(z, product, out=z)
    np.tanh(z, out=z)
    twice = np.add(z, 1, scratch(z.dtype, 0, z.shape))
    np.multiply(twice[1], cell, out=new)
    np.multiply(twice[0], z[2], out=h)
    np.add(new, h, out=new)
    np.multiply(new, half, out=new)
    np.tanh(new, out=h)
    np.multiply(h, twice[3], out=h)
    np.multiply(h, half, out=h)


def lstm_backward(z: Array, cell: Array, new: Array, dh: Array, dcell: Array, dz: Array) -> None:
    """See `Kernels.lstm_backward`."""
    half = constant(z.dtype, 0.5, cell.size).reshape(cell.shape)
    twice, d = np.add(z, 1, scratch(z.dtype, 0, z.shape)), scratch(z.dtype, 1, z.shape)
    tanh, t = np.tanh(new, scratch(z.dtype, 2, cell.shape)), scratch(z.dtype, 3, cell.shape)
    np.multiply(z, z, out=d)
    np.subtract(1, d, out=d)
    np.multiply(dh, half, out=t)
    np.multiply(d[3], tanh, out=d[3])
    np.multiply(d[3], t, out=d[3])
    # What reaches the new cell through h: dh o (1 - tanh^2).
    np.multiply(t, twice[3], out=t)
    np.add(dcell, t, out=dcell)
    np.multiply(t, tanh, out=t)
    np.multiply(t, tanh, out=t)
    np.subtract(dcell, t, out=dcell)
    np.multiply(d[0], z[2], out=d[0])
    np.multiply(d[1], cell, out=d[1])
    np.multiply(d[2], twice[0], out=d[2])
    # A sigmoid's slope is (1 - t^2) / 4, and what is doubled is halved.
    np.multiply(d[3], half, out=d[3])
    np.multiply(dcell, half, out=dcell)
    np.multiply(d[2], dcell, out=d[2])
    np.multiply(dcell, half, out=t)
    np.multiply(d[:2], t, out=d[:2])
    np.multiply(dcell, twice[1], out=dcell)
    np.copyto(dz.reshape(len(dz), *z.shape[::2]), d.transpose(1, 0, 2))
