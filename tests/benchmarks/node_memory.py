"""The memory of several ranks on one host: a GPT of 50 million parameters with AdamW, one copy
per rank, one per node, and PyTorch's DDP.

    python tests/benchmarks/node_memory.py [--ranks 4] [--workers 4] [--no-torch]

Proportional set sizes (PSS) of all ranks together, from /proc/PID/smaps: a page that n processes map counts 1/n for each.
Each way runs as a job of its own. What is measured is the growth from before the model is built (interpreter, libraries, MPI)
to after three steps. Activations are not in it: after a step they are freed, and malloc gives back what it keeps of them. What
the libraries load later is in it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

CONTEXT, LAYERS, WIDTH, HEADS, TOKENS = 32, 16, 512, 8, 256


KINDS = ("shared by the ranks", "private", "MPI's segments", "files")


def pss() -> np.ndarray:
    """This process's PSS in MiB, by kind of memory, without what is freed and kept for the next step's activations."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    found, kind = np.zeros(len(KINDS)), 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, rest = line.partition(" ")
        if first == "Pss:":
            found[kind] += int(rest.split()[0]) / 1024
        elif not first.endswith(":"):  # a mapping: addresses, rights, offset, device, inode, name
            name = rest.split(maxsplit=4)[4:]
            name = name[0] if name else ""
            shared, segment = name.startswith("/memfd:"), name.startswith("/dev/shm")
            kind = 0 if shared else 2 if segment else 3 if name.startswith("/") else 1
    return found


def report(growth: np.ndarray) -> None:
    """What all ranks together have more than before."""
    kinds = ", ".join(f"{kind} {size:.0f}" for kind, size in zip(KINDS, growth, strict=True))
    print(f"PSS by kind of memory, MiB: {kinds}")
    print(f"RESULT {growth.sum():.0f}", flush=True)


def allgrad(memory: str, workers: int) -> None:
    from allgrad import comm, nn, optim, parallel

    world = comm.init()
    warm = nn.models.GPT(7, context=4, layers=1, width=8, heads=2, rng=0)
    train(
        parallel.DataParallel(warm, world, virtual_workers=workers, memory=memory), optim.AdamW(warm.parameters()), 4, 7
    )
    world.barrier()
    before = pss()
    model = nn.models.GPT(TOKENS, context=CONTEXT, layers=LAYERS, width=WIDTH, heads=HEADS, rng=0)
    replica = parallel.DataParallel(model, world, virtual_workers=workers, memory=memory)
    optimizer = optim.AdamW(model.parameters(), lr=1e-4)
    train(replica, optimizer, CONTEXT, TOKENS)
    world.barrier()
    growth = world.all_gather(pss() - before).sum(axis=0)
    if world.rank == 0:
        parts = {"parameters": replica.flat.params, **optimizer.state}
        copies = 1 if memory == "node" else world.size
        table = {name: arena.nbytes / 2**20 * copies for name, arena in parts.items()}
        arenas = len(replica.reducer.arenas)
        table["gradients"] = replica.flat.grads.nbytes / 2**20 * world.size * arenas
        words = ", ".join(f"{name} {size:.0f}" for name, size in table.items())
        print(f"{model.parameter_count() / 1e6:.1f} M parameters, {arenas} gradient arena(s) per rank; MiB: {words}")
        report(growth)


def train(replica, optimizer, context: int, tokens: int) -> None:
    from allgrad import nn

    def loss(part):
        return nn.CrossEntropyLoss()(replica.model(part[0][:, :-1]), part[0][:, 1:])

    for step in range(3):
        batch = np.random.default_rng(step).integers(0, tokens, (replica.virtual_workers, context + 1))
        optimizer.step(replica.step(loss, replica.split((batch,)), step).unused)


def ddp() -> None:
    import torch
    from mpi4py import MPI
    from torch import nn

    rank, size = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", "tcp://127.0.0.1:29514", rank=rank, world_size=size)

    class GPT(nn.Module):
        def __init__(self, layers: int, width: int, heads: int, tokens: int, context: int) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(tokens, width), nn.Embedding(context, width)
            block = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
            self.blocks = nn.TransformerEncoder(block, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
            self.head = nn.Linear(width, tokens)

        def forward(self, x):
            return self.head(self.blocks(self.tokens(x) + self.places.weight[: x.shape[1]]))

    def run(model, context: int, tokens: int):
        replica = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        for step in range(3):
            x = torch.randint(0, tokens, (1, context + 1), generator=torch.Generator().manual_seed(step))
            loss = nn.functional.cross_entropy(replica(x[:, :-1]).transpose(1, 2), x[:, 1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        return replica, optimizer

    run(GPT(1, 8, 2, 7, 4), 4, 7)
    MPI.COMM_WORLD.Barrier()
    before = pss()
    kept = run(GPT(LAYERS, WIDTH, HEADS, TOKENS, CONTEXT), CONTEXT, TOKENS)
    MPI.COMM_WORLD.Barrier()
    growth = MPI.COMM_WORLD.allreduce(pss() - before)
    if rank == 0:
        count = sum(p.numel() for p in kept[0].parameters())
        print(f"{count / 1e6:.1f} M parameters; each rank: parameters, gradients, DDP's buckets, two moments")
        report(growth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--one")
    options = parser.parse_args()
    if options.one == "ddp":
        ddp()
    elif options.one:
        allgrad(options.one, options.workers)
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    beside = str(Path(sys.executable).parent)
    mpirun = shutil.which("mpirun", path=beside + os.pathsep + os.environ.get("PATH", ""))
    found = {}
    for way in ("rank", "node") if options.no_torch else ("rank", "node", "ddp"):
        command = [
            mpirun,
            "-n",
            str(options.ranks),
            sys.executable,
            __file__,
            "--one",
            way,
            "--workers",
            str(options.workers),
        ]
        output = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"{way}: " + output.stdout.replace("RESULT", "growth of PSS of all ranks, MiB:").strip(), flush=True)
        if output.returncode:
            sys.exit(output.stderr)
        found[way] = float(output.stdout.split("RESULT")[1])
    print(", ".join(f"node/{way} {found['node'] / size:.3f}" for way, size in found.items() if way != "node"))


if __name__ == "__main__":
    main()
