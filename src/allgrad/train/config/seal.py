"""The first line of a run's config.yaml, which holds the digest of the lines below it: a flipped bit is found when it is read.

Whoever edits the file on purpose deletes that line; a file without it is read as it is.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["broken_seal", "sealed"]

_BEGIN = b"# sha256 "
_SEAL = re.compile(rb"# sha256 ([0-9a-f]{64}) of the lines below; delete this line when you edit them\n")


def sealed(text: str) -> str:
    """A text under a line with its digest.

    >>> sealed("seed: 3\\n").splitlines()[1]
    'seed: 3'
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"# sha256 {digest} of the lines below; delete this line when you edit them\n{text}"


def broken_seal(content: bytes) -> bool:
    """Whether a file has such a line and does not have that digest.

    >>> text = sealed("seed: 3\\n")
    >>> broken_seal(text.encode()), broken_seal(text.replace("3\\n", "7\\n").encode()), broken_seal(b"seed: 7\\n")
    (False, True, False)
    """
    if not content.startswith(_BEGIN):
        return False
    seal = _SEAL.match(content)
    return seal is None or hashlib.sha256(content[seal.end() :]).hexdigest() != seal[1].decode()
