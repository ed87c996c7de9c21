"""How much of the all-reduce hides behind compute, and the same step in PyTorch DDP over gloo.

    mpirun -n 2 python tests/benchmarks/overlap.py [--work gemm|python|model] [--mb 25] [--torch] [--mode thread|poll]
    python tests/mpi/netns/two_hosts.py 2 tests/benchmarks/overlap.py --work model --torch     # over a link of 1 Gbit/s

`--work gemm` posts equal buckets of `--bucket-mb` while the main thread multiplies matrices, `python` while it makes NumPy
calls of a few microseconds, as a tape does. `--work model` is `DataParallel.step` of a real model, about 250 nodes on the tape,
all of them plain NumPy calls, with parameters of `--mb`.

Communication is timed alone first, and what can hide it is made about as long: the compute between the buckets, or the model's
backward pass (by its number of rows). The ideal step is then max(compute, communication) plus the communication of one bucket,
which has nothing left to hide behind; for a model plus the forward pass, behind which nothing can hide. Two ideals are told:
that of eight equal buckets, a yardstick that does not move, to compare settings and peers by; and that of the buckets in use.
All are measured in turn within a repetition, so that a noisy moment hits all of them; printed are medians of the slowest rank,
the median of the ratio within a repetition, and the machine's load. `--torch`: beside it gloo with buckets as large, and its
ratio to the same yardstick: for `gemm` and `python` its asynchronous all-reduce behind the same work, for `model` the same
model in PyTorch's DDP.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

from allgrad import comm, kernels, nn, parallel

WIDTH = 512
YARDSTICK = 1 / 8  # of the communication: what eight equal buckets leave exposed


class Block(nn.Module):
    """x + tanh(norm(x) W + b), the norm written in NumPy."""

    def __init__(self, rng: int) -> None:
        self.gain = nn.Parameter(np.ones(WIDTH, np.float32))
        self.dense = nn.Linear(WIDTH, WIDTH, rng=rng)

    def forward(self, x):
        d = x - np.mean(x, axis=-1, keepdims=True)
        y = d / np.sqrt(np.mean(d * d, axis=-1, keepdims=True) + np.float32(1e-5))
        return x + np.tanh(self.dense(y * self.gain))


def sizes(options: argparse.Namespace) -> list[int]:
    """The elements of equal buckets of about `bucket_mb`."""
    count = max(1, round(options.mb * 1e6 / (options.bucket_mb * (1 << 20))))
    return [int(options.mb * 1e6 / 4 / count)] * count


class Buckets:
    """Buckets posted one after another, work between them."""

    def __init__(self, world: comm.World, engine: comm.Engine, options: argparse.Namespace) -> None:
        self.engine, self.options = engine, options
        self.total = 1 << (world.size - 1).bit_length()
        self.plan = comm.plan_block(comm.block(world.rank, world.size, self.total), self.total)
        self.arrays = [[np.ones(n, np.float32) for _ in range(self.plan.arrays)] for n in sizes(options)]
        self.a = np.random.default_rng(0).standard_normal((256, 256), np.float32)
        self.small = np.ones(64, np.float32)
        self.units, self.last_share = 1, 1 / len(self.arrays)

    def _work(self) -> None:
        for _ in range(self.units):
            if self.options.work == "gemm":
                self.a @ self.a
                self.engine.poll()
            else:
                for _ in range(50):
                    self.small + self.small
                    self.engine.poll()

    def compute(self) -> tuple[float, float]:
        """(seconds behind which communication can hide, seconds behind which it cannot)"""
        start = time.perf_counter()
        for _ in self.arrays:
            self._work()
        return time.perf_counter() - start, 0.0

    def lengthen(self, factor: float) -> None:
        self.units = max(1, round(self.units * factor))

    def communicate(self) -> float:
        return self._step(lambda: None)

    def step(self) -> float:
        return self._step(self._work)

    def _step(self, work) -> float:
        for bucket in self.arrays:
            for array in bucket:
                array.fill(1)
        start = time.perf_counter()
        handles = []
        for number, bucket in enumerate(self.arrays):
            work()
            nodes = [(*node, bucket[slot]) for node, slot in zip(self.plan.nodes, self.plan.slots, strict=True)]
            handle = comm.tree_all_reduce(
                self.engine,
                nodes,
                bucket[0],
                virtual_workers=self.total,
                label=f"b{number}",
                step=0,
                chunk_bytes=self.options.chunk_kb << 10,
            )
            handles.append(handle)
        for handle in handles:
            handle.wait()
        return time.perf_counter() - start


class Model:
    """`DataParallel.step` of a model, one worker per rank."""

    def __init__(self, world: comm.World, options: argparse.Namespace) -> None:
        def replica(of: comm.World) -> parallel.DataParallel:
            model = nn.Sequential(*(Block(i) for i in range(blocks)))
            return parallel.DataParallel(model, of, bucket_mb=options.bucket_mb, comm=modes[options.mode])

        modes = {"thread": "thread", "poll": "polling"}
        blocks = max(1, round(options.mb * 1e6 / 4 / (WIDTH * (WIDTH + 2))))
        self.rank, self.rows, self.number = world.rank, 16, 0
        self.single, self.shared = replica(comm.World()), replica(world)
        buckets = self.shared.reducer.buckets
        self.last_share = buckets[-1].nbytes / sum(bucket.nbytes for bucket in buckets)
        self._fill()

    def _fill(self) -> None:
        self.x = np.random.default_rng(self.rank).standard_normal((self.rows, WIDTH), np.float32)
        self.forward = 0.0

    def _loss(self, of: parallel.DataParallel):
        def loss(x):
            start = time.perf_counter()
            y = of.model(x)
            value = np.mean(y * y)
            self.forward = time.perf_counter() - start
            return value

        return loss

    def compute(self) -> tuple[float, float]:
        self.number += 1
        result = self.single.step(self._loss(self.single), {0: self.x}, self.number)
        return result.seconds - self.forward, self.forward

    def lengthen(self, factor: float) -> None:
        self.rows = max(1, round(self.rows * factor))
        self._fill()

    def communicate(self) -> float:
        reducer = self.shared.reducer
        start = time.perf_counter()
        with reducer.step(self.number):
            for position in range(len(reducer.plan.order)):
                with reducer.worker(position):
                    pass
                reducer.add(position)
            reducer.finish(())
        return time.perf_counter() - start

    def step(self) -> float:
        self.number += 1
        (worker,) = self.shared.workers
        return self.shared.step(self._loss(self.shared), {worker: self.x}, self.number).seconds


def gloo(world: comm.World):
    """PyTorch's process group over gloo, and PyTorch on one thread."""
    import torch

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "eth0" if world.nodes > 1 else "lo"
    address = "10.77.0.1" if world.nodes > 1 else "127.0.0.1"  # as tests/mpi/netns has them
    torch.distributed.init_process_group("gloo", f"tcp://{address}:29511", rank=world.rank, world_size=world.size)
    return torch


class GlooBuckets:
    """The work of `Buckets`, and gloo's all-reduce of as many buckets behind it."""

    def __init__(self, world: comm.World, like: Buckets, options: argparse.Namespace) -> None:
        torch = gloo(world)
        self.dist, self.work = torch.distributed, like._work
        self.buckets = [torch.ones(n) for n in sizes(options)]

    def step(self) -> float:
        start = time.perf_counter()
        handles = []
        for bucket in self.buckets:
            self.work()
            handles.append(self.dist.all_reduce(bucket, async_op=True))
        for handle in handles:
            handle.wait()
        return time.perf_counter() - start


class GlooModel:
    """The model of `Model` in PyTorch, with DistributedDataParallel over gloo."""

    def __init__(self, world: comm.World, like: Model, options: argparse.Namespace) -> None:
        torch = gloo(world)

        class TorchBlock(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.gain = torch.nn.Parameter(torch.ones(WIDTH))
                self.dense = torch.nn.Linear(WIDTH, WIDTH)

            def forward(self, x):
                d = x - x.mean(-1, keepdim=True)
                y = d / torch.sqrt((d * d).mean(-1, keepdim=True) + 1e-5)
                return x + torch.tanh(self.dense(y * self.gain))

        alone = torch.nn.Sequential(*(TorchBlock() for _ in like.single.model.children()))
        self.model = torch.nn.parallel.DistributedDataParallel(alone, bucket_cap_mb=options.bucket_mb)
        self.x = torch.from_numpy(like.x)
        self.dist = torch.distributed

    def step(self) -> float:
        self.model.zero_grad(set_to_none=False)
        start = time.perf_counter()
        (self.model(self.x) ** 2).mean().backward()
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=25)
    parser.add_argument("--bucket-mb", type=float, help="MiB; default: as DataParallel has it")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--work", choices=["gemm", "python", "model"], default="gemm")
    parser.add_argument("--mode", choices=["thread", "poll"], default="thread")
    parser.add_argument("--chunk-kb", type=int, default=1024)
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--poll-us", type=float, default=500)
    parser.add_argument("--torch", action="store_true")
    options = parser.parse_args()

    world = comm.init()
    options.bucket_mb = options.bucket_mb or parallel.default_bucket_mb(world.nodes)
    kernels.set_up_blas(1)
    engine = world.start_engine(mode=options.mode, window=options.window, poll_seconds=options.poll_us * 1e-6)
    subject = Model(world, options) if options.work == "model" else Buckets(world, engine, options)

    def slowest(value: float) -> float:
        return float(world.all_gather(np.array(value)).max())

    spent = [0.0]

    def measure(function) -> list[float]:
        world.barrier()
        before = time.process_time()
        values = function()
        spent[0] = time.process_time() - before
        return [slowest(value) for value in np.atleast_1d(values)]

    for _ in range(2):
        subject.step()  # the order of posting is found in the first of them
    for _ in range(3):  # make what can hide communication as long as communication
        alone = np.median([measure(subject.communicate) for _ in range(3)])
        subject.lengthen(alone / np.median([measure(subject.compute)[0] for _ in range(3)]))
    peer = None
    if options.torch:
        peer = (GlooModel if options.work == "model" else GlooBuckets)(world, subject, options)
        peer.step()
    rows, cpu = [], []
    for _ in range(options.repeat):
        (alone,) = measure(subject.communicate)
        hiding, before = measure(subject.compute)
        used = [spent[0]]
        (step,) = measure(subject.step)
        cpu.append([*used, spent[0]])
        hidden = before + max(hiding, alone)
        ideal, own = hidden + alone * YARDSTICK, hidden + alone * subject.last_share
        row = [alone, before, hiding, before + hiding + alone, ideal, own, step, step / ideal, step / own]
        if peer is not None:
            (theirs,) = measure(peer.step)
            row += [theirs, theirs / ideal]
        rows.append(row)
    report(world, options, engine, np.array(rows), np.median(np.array(cpu), axis=0) * 1e3)
    if peer is not None:
        peer.dist.destroy_process_group()


def report(world: comm.World, options: argparse.Namespace, engine: comm.Engine, rows, cpu) -> None:
    """Print what the repetitions, the rows, have in common."""
    if world.rank:
        return
    names = ["communication", "forward", "hiding compute", "one after another", "ideal", "own ideal", "overlapped"]
    times = dict(zip(names, np.median(rows, axis=0), strict=False))
    ratios, own, theirs = rows[:, 7], rows[:, 8], rows[:, 9:]
    print(
        f"{world.size} ranks on {world.nodes} nodes, {options.mb:g} MB in buckets of {options.bucket_mb:g} MiB", end=""
    )
    print(f", {options.work}, {engine.mode}, load {os.getloadavg()[0]:.1f}")
    print("  ms: " + ", ".join(f"{name} {1e3 * s:.0f}" for name, s in times.items()))
    print(f"  overlapped / ideal: median {np.median(ratios):.3f}, best {ratios.min():.3f}", end="")
    print(f"; to the ideal of these buckets {np.median(own):.3f}")
    print(
        f"  ms of CPU on rank 0, which a loaded machine stretches less: compute {cpu[0]:.0f}, overlapped {cpu[1]:.0f}"
    )
    if theirs.size:
        print(
            f"  PyTorch over gloo: {1e3 * np.median(theirs[:, 0]):.0f} ms, to the same ideal median "
            f"{np.median(theirs[:, 1]):.3f}, best {theirs[:, 1].min():.3f}; allgrad / gloo within a repetition: median "
            f"{np.median(rows[:, 6] / theirs[:, 0]):.3f}"
        )


if __name__ == "__main__":
    sys.exit(main())
