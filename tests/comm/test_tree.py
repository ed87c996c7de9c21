"""The fixed tree: every way of adding gives the bits of the recursive definition."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allgrad.comm import tree

worlds = st.integers(1, 40).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total)))


def reference(leaves, level, index):
    """The definition, read aloud."""
    if level == 0:
        return leaves[index]
    left = reference(leaves, level - 1, 2 * index)
    if (2 * index + 1) << (level - 1) >= len(leaves):
        return left
    return left + reference(leaves, level - 1, 2 * index + 1)


def random_leaves(total, size, dtype, seed):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((total, size)) * 10.0 ** rng.integers(-4, 5, (total, size))).astype(dtype)


def same_bits(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def run_block(plan, leaves):
    """What a rank does: write, merge; returns its maximal nodes and the number of arrays that it touched."""
    slots = {}
    for i, worker in enumerate(plan.order):
        slots[plan.writes[i]] = leaves[worker].copy()
        for left, right in plan.merges[i]:
            slots[left] += slots[right]
    return [(node, slots[slot]) for node, slot in zip(plan.nodes, plan.slots, strict=True)], len(slots)


@given(worlds, st.data())
def test_additions_lead_to_the_nodes_of_neighbouring_ranks_together(world, data):
    """As a node of a cluster does with what its ranks have."""
    total, ranks = world
    first = data.draw(st.integers(0, ranks - 1))
    last = data.draw(st.integers(first, ranks - 1))
    leaves = random_leaves(total, 3, np.float32, total)
    pieces = []
    for rank in range(first, last + 1):
        pieces += run_block(tree.plan_block(tree.block(rank, ranks, total), total), leaves)[0]
    steps, left = tree.additions([node for node, _ in pieces], total)
    for a, b in steps:
        pieces[a][1][...] += pieces[b][1]
    workers = range(tree.block(first, ranks, total).start, tree.block(last, ranks, total).stop)
    assert tuple(node for node, _ in left) == tree.maximal_nodes(workers, total)
    for node, at in left:
        assert same_bits(pieces[at][1], reference(leaves, node.level, node.place))


@given(worlds)
def test_blocks_are_contiguous_and_balanced(world):
    total, ranks = world
    blocks = [tree.block(rank, ranks, total) for rank in range(ranks)]
    assert [worker for b in blocks for worker in b] == list(range(total))
    assert {len(b) for b in blocks} <= {total // ranks, -(-total // ranks)}


@given(worlds)
def test_maximal_nodes_partition_the_block_and_cannot_grow(world):
    total, ranks = world
    for rank in range(ranks):
        workers = tree.block(rank, ranks, total)
        nodes = tree.maximal_nodes(workers, total)
        assert [w for node in nodes for w in tree.cover(node, total)] == list(workers)
        for level, place in nodes:
            parent = tree.cover(tree.Node(level + 1, place >> 1), total)
            assert level == tree.root_level(total) or not set(parent) <= set(workers)


@settings(deadline=None)
@given(worlds, st.integers(0, 5), st.sampled_from(["f4", "f8"]), st.integers(0, 10**6), st.randoms())
def test_any_world_any_order_of_arrival_gives_the_reference_bits(world, size, dtype, seed, random):
    total, ranks = world
    leaves = random_leaves(total, size, dtype, seed)
    pieces = []
    for rank in range(ranks):
        plan = tree.plan_block(tree.block(rank, ranks, total), total)
        nodes, _ = run_block(plan, leaves)
        for node, array in nodes:
            assert same_bits(array, reference(leaves, *node))
        pieces += nodes
    random.shuffle(pieces)
    whole = tree.Assembly(total)
    for node, array in pieces:
        whole.add(node, array)
    assert same_bits(whole.root, reference(leaves, tree.root_level(total), 0))
    assert not whole.pending


@given(worlds, st.randoms())
def test_assembly_writes_the_root_into_out_even_where_out_is_an_operand(world, random):
    total, _ = world
    leaves = random_leaves(total, 3, "f8", 7)
    expected = reference(leaves, tree.root_level(total), 0)
    order = list(range(total))
    random.shuffle(order)
    out = leaves[random.randrange(total)]
    whole = tree.Assembly(total, out)
    for worker in order:
        whole.add(tree.Node(0, worker), leaves[worker])
    assert whole.root is out
    assert same_bits(out, expected)


@given(worlds, st.randoms())
def test_the_left_operand_has_the_lower_index(world, random):
    """Strings show what numbers hide: + is not commutative."""
    total, _ = world
    order = list(range(total))
    random.shuffle(order)
    whole = tree.Assembly(total)
    for worker in order:
        whole.add(tree.Node(0, worker), np.array([f"{worker},"], object))
    assert whole.root[0] == "".join(f"{worker}," for worker in range(total))


@pytest.mark.parametrize("total", [1, 2, 5, 8, 12, 31, 32, 68, 96, 142])
def test_arrays_of_a_block(total):
    """DESIGN's bound; beyond 68 workers a block that is ragged at both edges is allowed what its maximal nodes need."""
    for ranks in range(1, total + 1):
        for rank in range(ranks):
            workers = tree.block(rank, ranks, total)
            plan = tree.plan_block(workers, total)
            bound = math.floor(math.log2(len(workers))) + 2
            assert plan.arrays <= (bound if total <= 68 else max(bound, len(plan.nodes) + 1))
            assert 0 in plan.slots
            assert run_block(plan, np.ones((total, 1)))[1] == plan.arrays
            if ranks & (ranks - 1) == 0 and total & (total - 1) == 0:
                assert len(plan.nodes) == 1
                assert list(plan.order) == list(workers)


def test_the_tree_is_neither_left_to_right_nor_numpy_sum():
    """The data of these tests show the order of summation in their bits."""
    leaves = random_leaves(8, 1000, "f4", 0)
    expected = reference(leaves, 3, 0)
    assert not same_bits(leaves.sum(axis=0), expected)
    assert not same_bits(leaves[::-1].copy().sum(axis=0), expected)


def test_more_ranks_than_workers_is_said_in_words():
    with pytest.raises(ValueError, match="9 ranks cannot share 8 virtual workers"):
        tree.block(0, 9, 8)
    with pytest.raises(ValueError, match="rank must be one of"):
        tree.block(3, 3, 8)
    with pytest.raises(ValueError, match="at least one of the workers"):
        tree.plan_block(range(2, 2), 8)
    with pytest.raises(ValueError, match="at least one leaf"):
        tree.root_level(0)


def test_examples_in_the_docstrings():
    import doctest

    assert doctest.testmod(tree).failed == 0
