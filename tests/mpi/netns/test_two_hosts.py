"""A job across two hosts: where its ranks are, that its bytes cross the link, and that its bits are those of one host."""


def across():
    import hashlib

    import numpy as np

    from allgrad import comm

    world = comm.init()
    engine = world.start_engine()
    hashes = []
    for total in (4, 8, 11):
        plan = comm.plan_block(comm.block(world.rank, world.size, total), total)
        rows = np.random.default_rng(total).standard_normal((total, 300_000), np.float32)
        slots = [np.empty(300_000, np.float32) for _ in range(plan.arrays)]
        for i, worker in enumerate(plan.order):
            slots[plan.writes[i]][:] = rows[worker]
            for left, right in plan.merges[i]:
                slots[left] += slots[right]
        nodes = [(*node, slots[slot]) for node, slot in zip(plan.nodes, plan.slots, strict=True)]
        comm.tree_all_reduce(engine, nodes, slots[0], virtual_workers=total, label="b", step=total).wait()
        hashes.append(hashlib.sha256(slots[0].tobytes()).hexdigest())
    return {"place": [world.rank, world.node, world.nodes, world.local_rank, world.host], "hashes": hashes}


def test_same_bits_across_two_hosts(mpirun, mpirun_two_hosts, two_hosts):
    (one,) = mpirun(across, 1).values
    before = two_hosts.bytes_sent()
    values = mpirun_two_hosts(across, 4).values
    sent = {name: count - before[name] for name, count in two_hosts.bytes_sent().items()}
    assert [value["place"] for value in values] == [
        [0, 0, 2, 0, "nodea"],
        [1, 0, 2, 1, "nodea"],
        [2, 1, 2, 0, "nodeb"],
        [3, 1, 2, 1, "nodeb"],
    ]
    assert all(value["hashes"] == one["hashes"] for value in values)
    # The two aligned sums send at least their half across the link in each direction, once.
    assert all(2 * 1_200_000 < count < 12_000_000 for count in sent.values())


def round_robin():
    from allgrad import comm

    world = comm.init()
    from mpi4py import MPI

    return [world.rank, world.node, world.local_rank, MPI.COMM_WORLD.Get_rank(), world.all_gather_json(world.host)]


def test_ranks_follow_nodes_whatever_the_launcher_did(mpirun_two_hosts):
    values = mpirun_two_hosts(round_robin, 4, per_host=1).values  # the launcher deals: nodea, nodeb, nodea, nodeb
    assert [value[:4] for value in values] == [[0, 0, 0, 0], [1, 0, 1, 2], [2, 1, 0, 1], [3, 1, 1, 3]]
    assert values[0][4] == ["nodea", "nodea", "nodeb", "nodeb"]


def dying():
    import numpy as np

    from allgrad import comm

    world = comm.init()
    engine = world.start_engine()
    a = np.ones(1_000_000, np.float32)
    if world.rank == 3:
        raise ValueError("on the other host")
    comm.tree_all_reduce(engine, [(0, world.rank, a)], a, virtual_workers=4, label="b", step=0).wait()


def test_a_failure_on_one_host_ends_the_other(mpirun_two_hosts):
    job = mpirun_two_hosts(dying, 4, check=False)
    assert job.code != 0
    assert "allgrad: rank 3 of 4 on nodeb failed" in job.stderr
