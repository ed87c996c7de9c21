"""The state machines on a network that delivers in any order: always the bits of the recursive tree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allgrad.comm import collectives, tree


def reference(leaves, level, place):
    if level == 0:
        return leaves[place]
    left = reference(leaves, level - 1, 2 * place)
    if (2 * place + 1) << (level - 1) >= len(leaves):
        return left
    return left + reference(leaves, level - 1, 2 * place + 1)


def run(network, parts, choose):
    """Resume the ranks' parts as their requests complete, until all have ended."""
    waiting = {}
    for rank, part in enumerate(parts):
        waiting[rank] = (part, next(part))
    while waiting:
        able = [rank for rank, (_, requests) in waiting.items() if all(r.Test() for r in requests)]
        if not able:
            assert network.deliver(choose), "nothing can move: a deadlock"
            continue
        rank = choose(able)
        part, _ = waiting.pop(rank)
        try:
            waiting[rank] = (part, next(part))
        except StopIteration:
            continue


def reduce(make_network, algorithm, total, ranks, size, dtype, aliased, seed, choose):
    """One all-reduce; returns every rank's result, the sum expected, and the elements that each rank had as scratch."""
    rng = np.random.default_rng(seed)
    leaves = (rng.standard_normal((total, size)) * 10.0 ** rng.integers(-4, 5, (total, size))).astype(dtype)
    network, parts, outs, scratched = make_network(ranks), [], [], []

    def scratch(count, kind):
        scratched.append(count)
        return np.full(count, np.nan, kind)

    for rank in range(ranks):
        nodes = [(node, reference(leaves, *node).copy()) for node in tree.rank_nodes(ranks, total)[rank]]
        out = nodes[-1 if seed % 2 else 0][1] if aliased else np.full(size, np.nan, dtype)
        comm = network.comms[rank]
        if algorithm == "halving":
            part = collectives.halving(comm, rank, ranks, nodes[0][1], out, tag=1, scratch=scratch)
        elif algorithm == "owners":
            part = collectives.owners(comm, rank, ranks, nodes, out, virtual_workers=total, tag=1, scratch=scratch)
        else:
            part = collectives.gather(comm, ranks, nodes, out, virtual_workers=total, scratch=scratch)
        parts.append(part)
        outs.append(out)
    run(network, parts, choose)
    return outs, reference(leaves, tree.root_level(total), 0), scratched


sizes = st.integers(0, 40)
dtypes = st.sampled_from(["f4", "f8"])
any_world = st.integers(1, 20).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, min(total, 9))))
powers = st.integers(1, 4).flatmap(lambda a: st.tuples(st.just(2**a), st.integers(1, a).map(lambda b: 2**b)))


@settings(deadline=None, max_examples=60)
@given(
    any_world, st.sampled_from(["owners", "gather"]), sizes, dtypes, st.booleans(), st.integers(0, 999), st.randoms()
)
def test_any_world_any_order_of_delivery(make_network, world, algorithm, size, dtype, aliased, seed, random):
    outs, expected, _ = reduce(make_network, algorithm, *world, size, dtype, aliased, seed, random.choice)
    assert all(out.tobytes() == expected.tobytes() for out in outs)


@settings(deadline=None, max_examples=60)
@given(powers, sizes, dtypes, st.booleans(), st.integers(0, 999), st.randoms())
def test_halving_with_distance_doubling_is_the_tree(make_network, world, size, dtype, aliased, seed, random):
    outs, expected, scratched = reduce(make_network, "halving", *world, size, dtype, aliased, seed, random.choice)
    assert all(out.tobytes() == expected.tobytes() for out in outs)
    assert max(scratched) <= (size + 1) // 2


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_halving_keeps_the_lower_rank_on_the_left(make_network, ranks):
    """Strings show what numbers hide: + is not commutative."""
    network = make_network(ranks)
    data = [np.array([f"{rank},"] * 5, object) for rank in range(ranks)]
    parts = [
        collectives.halving(comm, rank, ranks, data[rank], data[rank], tag=1, scratch=np.empty)
        for rank, comm in enumerate(network.comms)
    ]
    run(network, parts, lambda able: able[-1])
    assert all((array == "".join(f"{rank}," for rank in range(ranks))).all() for array in data)


def test_one_rank_sends_nothing(make_network):
    out = np.full(3, np.nan)
    (nothing,) = collectives.local([(tree.Node(2, 0), np.arange(3.0))], out, virtual_workers=3)
    assert nothing == []
    assert out.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("number", "yes"), [(1, True), (2, True), (3, False), (6, False), (8, True)])
def test_powers_of_two(number, yes):
    assert collectives.power_of_two(number) is yes
