"""bfloat16 on the wire: NumPy's own arithmetic on numbers that another library has rounded."""

import numpy as np
import pytest
from given_gradients import Given
from hypothesis import given
from hypothesis import strategies as st

from allgrad.parallel.exchanges.bf16 import added, decoded, encoded


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_rounding_is_that_of_pytorch(bits):
    torch = pytest.importorskip("torch", reason="compares with PyTorch's bfloat16")
    values = np.array(bits, np.uint32).view(np.float32)
    theirs = torch.from_numpy(values).to(torch.bfloat16)
    ours = decoded(encoded(values))
    np.testing.assert_array_equal(ours, theirs.float().numpy())
    other = np.roll(ours, 1)
    with np.errstate(all="ignore"):
        summed = (theirs.float() + torch.from_numpy(other)).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(decoded(added(encoded(ours), encoded(other))), summed)


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
