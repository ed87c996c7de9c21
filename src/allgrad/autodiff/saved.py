"""What guards a saved array against being overwritten between forward and backward.

Three owners, three guards:

* The result of an operation belongs to the tape: nobody else can write it (`Tensor.numpy()` is read-only), so it needs none.
* A leaf's memory is written by `assign` and by optimizers, which bump the version of its `Storage`; the guard keeps the
  version seen at saving. Views of it (`w.T`) share the Storage, and so the guard.
* A plain ndarray that the user handed to an operation can be written at any time, unseen. The guard keeps a fingerprint: the
  bytes themselves up to 16 KB of them; beyond that the sum of its 64-bit words and a sample of 16 words, at memory speed. Every
  single-element write and every refill changes the sum; the sample catches a shuffle in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff.errors import SavedArrayError

if TYPE_CHECKING:
    from allgrad.autodiff.node import Node

SMALL = 1 << 14


def fingerprint(array: np.ndarray[Any, Any]) -> Any:
    if array.nbytes <= SMALL:
        return array.tobytes()
    flat = array.reshape(-1) if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(-1)
    data = flat.view(np.uint8)
    words = data[: data.size // 8 * 8].view(np.uint64)
    sample = words[:: max(1, words.size // 16)].tobytes()
    return int(np.add.reduce(words)), sample, data[words.size * 8 :].tobytes()


def verify(node: Node) -> None:
    """Raise `SavedArrayError` if an array that `node` saved has been written since."""
    for position, kind, was in node.guards or ():
        if kind is None:
            if fingerprint(node.saved[position]) == was:
                continue
            what = "a NumPy array that was handed to it"
            remedy = "pass a copy, or write to it after backward()"
        else:
            if kind[0] == was:
                continue
            what = "a leaf (a parameter) that it used, or a view of one"
            remedy = "call backward() before the optimizer's step or assign()"
        assert node.plan is not None
        name = node.plan.primitive.name
        where = f" (called at {node.origin})" if node.origin else ""
        raise SavedArrayError(
            f"{name}{where} saved {what}, and it has been overwritten since: its derivative would be wrong. "
            f"Expected the contents of the forward pass, shape {node.saved[position].shape}; {remedy}."
        )
