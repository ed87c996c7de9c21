"""Random numbers that depend only on their purpose.

Contract. A stream has a name: (seed, step, worker, path, use). The name is hashed into the 128-bit key of a counter-based
generator (Philox; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Therefore

- the same name gives the same numbers on any rank, in any process, in any order of calls, and after any resume;
- two names give independent numbers, however similar they are (`("a", 11)` and `("a1", 1)` are different names);
- there is no shared state: asking twice gives the same stream twice.

`permutation` and `sample_bits` use only raw 64-bit words, because NumPy keeps those the same in all its versions and promises
less for the methods of `Generator` (NEP 19).
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["permutation", "sample_bits", "sample_uniform", "stream"]


def stream(seed: int, step: int = 0, worker: int = 0, path: str = "", use: str = "") -> np.random.Generator:
    """The generator for one purpose.

    Args:
        seed: the run's seed.
        step: the global step, or the epoch for numbers that are drawn once per epoch.
        worker: the virtual worker, never the rank.
        path: the user of the numbers, for example a layer's path in the model.
        use: tells apart several purposes with the same path.

    Raises:
        TypeError: when a number is not an integer.

    Example:
        >>> a = stream(1, step=7, worker=3, path="blocks.0.dropout")
        >>> b = stream(1, step=7, worker=3, path="blocks.0.dropout")
        >>> bool((a.random(4) == b.random(4)).all())
        True
    """
    return np.random.Generator(np.random.Philox(key=_key(seed, step, worker, path, use)))


def permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of `count` samples in an epoch: int64, every index once.

    Example:
        >>> permutation(5, seed=0, epoch=0).tolist() == permutation(5, seed=0, epoch=0).tolist()
        True
        >>> sorted(permutation(5, seed=0, epoch=1).tolist())
        [0, 1, 2, 3, 4]
    """
    words = np.random.Philox(key=_key(seed, epoch, 0, "sampler", "order")).random_raw(count)
    return np.argsort(words, kind="stable")


def sample_bits(seed: int, epoch: int, indices: NDArray[np.integer], count: int, use: str) -> NDArray[np.uint64]:
    """`count` random words for each sample: uint64 of shape (len(indices), count).

    Row i depends only on (seed, epoch, use, indices[i]), so a sample is augmented in the same way on any rank and in any
    batch. The mixing function is SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), applied to the sample's index and the word's
    number with a key that is hashed from the rest.

    Example:
        >>> both = sample_bits(0, 3, np.array([4, 9]), 2, "flip")
        >>> bool((both[1:] == sample_bits(0, 3, np.array([9]), 2, "flip")).all())
        True
    """
    low, high = _key(seed, epoch, 0, "sample", use)
    index = np.asarray(indices).astype(np.uint64)[:, None]
    word = np.arange(count, dtype=np.uint64)[None, :]
    return _mix(_mix(index ^ low) + _mix(word ^ high))


def sample_uniform(seed: int, epoch: int, indices: NDArray[np.integer], count: int, use: str) -> NDArray[np.float64]:
    """Like `sample_bits`, but float64 in [0, 1) with 53 random bits.

    Example:
        >>> sample_uniform(0, 0, np.arange(3), 2, "shift").shape
        (3, 2)
    """
    return (sample_bits(seed, epoch, indices, count, use) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _key(seed: int, step: int, worker: int, path: str, use: str) -> NDArray[np.uint64]:
    """Two 64-bit words: the first 16 bytes of the SHA-256 of the name as JSON, little-endian on any machine."""
    for label, value in (("seed", seed), ("step", step), ("worker", worker)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"random stream: {label} must be an integer. Got {value!r}.")
    name = json.dumps([int(seed), int(step), int(worker), path, use]).encode()
    return np.frombuffer(hashlib.sha256(name).digest()[:16], dtype="<u8").astype(np.uint64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's step and output function, elementwise; it relies on the wrap-around of uint64 arithmetic."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
