"""One step of an LSTM and of a GRU, forward and backward, in NumPy.

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


def gru_forward(z: Array, product: Array, bias: Array | None, before: Array, candidate: Array, h: Array) -> None:
    """See `Kernels.gru_forward`."""
    half = constant(z.dtype, 0.5, before.size).reshape(before.shape)
    gates, new = z[:2], z[2]
    np.add(gates, product[:2], out=gates)
    np.tanh(gates, out=gates)
    if bias is None:
        np.copyto(candidate, product[2])
    else:
        np.add(product[2], bias, out=candidate)
    np.add(z[0], 1, out=h)  # twice the gate
    np.multiply(h, half, out=h)
    np.multiply(h, candidate, out=h)
    np.add(new, h, out=new)
    np.tanh(new, out=new)
    share = np.add(z[1], 1, scratch(z.dtype, 0, before.shape))
    np.multiply(share, half, out=share)
    np.subtract(before, new, out=h)
    np.multiply(h, share, out=h)
    np.add(h, new, out=h)


def gru_backward(z: Array, candidate: Array, before: Array, dh: Array, dz: Array, dproduct: Array) -> None:
    """See `Kernels.gru_backward`."""
    n = before.shape[1]
    half = constant(z.dtype, 0.5, before.size).reshape(before.shape)
    d, s = scratch(z.dtype, 0, z.shape), scratch(z.dtype, 1, before.shape)
    np.multiply(z, z, out=d)
    np.subtract(1, d, out=d)  # of a sigmoid, four times the slope
    np.multiply(d[:2], half, out=d[:2])
    np.multiply(d[:2], half, out=d[:2])
    np.subtract(before, z[2], out=s)
    np.multiply(s, dh, out=s)
    np.multiply(d[1], s, out=d[1])
    np.subtract(1, z[1], out=s)
    np.multiply(s, half, out=s)
    np.multiply(s, dh, out=s)
    np.multiply(d[2], s, out=d[2])
    np.subtract(dh, s, out=dh)  # dh k, since s is dh (1 - k)
    np.multiply(d[2], candidate, out=s)
    np.multiply(d[0], s, out=d[0])
    dz3, dproduct3 = (a.reshape(len(a), 3, n).transpose(1, 0, 2) for a in (dz, dproduct))
    np.copyto(dz3, d)
    np.add(z[0], 1, out=s)
    np.multiply(s, half, out=s)
    np.multiply(d[2], s, out=d[2])
    np.copyto(dproduct3, d)
