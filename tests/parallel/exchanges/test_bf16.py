"""bfloat16 on the wire: which sums are rounded. (The rounding itself: tests/kernels/test_bf16.py.)"""

import numpy as np
import pytest
from given_gradients import Given

from allgrad.parallel.exchanges.bf16 import decoded, encoded


def rounded(values):
    return decoded(encoded(values))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("workers", [1, 3, 4])
def test_every_node_of_the_tree_is_rounded(workers, dtype):
    replica = Given("bf16", workers=workers, dtype=dtype)
    rows = replica.draw(0)
    found = replica.step(rows)
    for name, each in rows.items():
        leaves = [rounded((each[w] / dtype(workers)).astype(dtype).reshape(-1)) for w in range(workers)]
        if workers == 4:
            expected = rounded(rounded(leaves[0] + leaves[1]) + rounded(leaves[2] + leaves[3]))
        elif workers == 3:
            expected = rounded(rounded(leaves[0] + leaves[1]) + leaves[2])
        else:
            expected = leaves[0]
        np.testing.assert_array_equal(found[name].reshape(-1), expected)
        assert not np.array_equal(found[name].reshape(-1), each.sum(0).reshape(-1) / dtype(workers))
