"""Kernels against PyTorch, one thread each, in a process whose environment has no OPENBLAS_* or MKL_* settings.

    python tests/benchmarks/kernels.py [numpy|numba ...] [--only WORD]

Each row: least microseconds of ours and PyTorch's, interleaved so that noise hits both, and ours over PyTorch's (below
1: ours is faster).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path


def clean_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "MKL_", "OMP_", "NVPL_"))}
    return kept | {"ALLGRAD_BENCHMARK": "1"}


def cases(np, torch, k):
    """Name, our call, PyTorch's call; sizes are those of the models in tests/benchmarks, and 1M elements."""
    functional, rng = torch.nn.functional, np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def pair(*shape):
        a = normal(*shape)
        return a, torch.tensor(a.copy())

    n = 669_706  # MLP 784-512-512-10
    flat = [normal(n) for _ in range(4)]
    flat[3] **= 2
    for fused in (False, True):
        leaf = torch.tensor(flat[0].copy(), requires_grad=True)
        leaf.grad = torch.tensor(flat[1])
        step = torch.optim.AdamW([leaf], fused=fused).step
        options = {"step": 5, "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
        yield f"adamw {n} (torch fused={fused})", lambda o=options: k.adam(*flat, decoupled=True, **o), step

    x, tx = pair(2048, 128)
    g, tg = pair(2048, 128)
    w, tw = pair(128)
    b, tb = pair(128)
    out, dw, db = np.empty_like(x), np.empty_like(w), np.empty_like(b)
    _, mean, inverse = k.layer_norm_forward(x, w, b, 1e-5)
    native = torch.ops.aten
    _, tm, tr = native.native_layer_norm(tx, [128], tw, tb, 1e-5)
    yield (
        "layer_norm forward 2048x128",
        lambda: k.layer_norm_forward(x, w, b, 1e-5, out=out),
        lambda: native.native_layer_norm(tx, [128], tw, tb, 1e-5),
    )
    yield (
        "layer_norm backward 2048x128",
        lambda: k.layer_norm_backward(g, x, mean, inverse, w, out=out, dweight=dw, dbias=db),
        lambda: native.native_layer_norm_backward(tg, tx, [128], tm, tr, tw, tb, [True, True, True]),
    )
    _, _inv = k.rms_norm_forward(x, w, 1e-5)
    yield (
        "rms_norm forward 2048x128",
        lambda: k.rms_norm_forward(x, w, 1e-5, out=out),
        lambda: functional.rms_norm(tx, (128,), tw, 1e-5),
    )

    s, ts = pair(64, 128, 128)
    y, sout = k.softmax_forward(s), np.empty_like(s)
    ty = torch.softmax(ts, -1)
    yield "softmax forward 8192x128", lambda: k.softmax_forward(s, out=sout), lambda: torch.softmax(ts, -1)
    hidden = torch.full((128, 128), -torch.inf).triu(1)
    yield (
        "causal softmax 64x128x128",
        lambda: k.causal_softmax_forward(s, scale=0.2, out=sout),
        lambda: torch.softmax(ts * 0.2 + hidden, -1),
    )
    yield (
        "softmax backward 8192x128",
        lambda: k.softmax_backward(s, y, out=sout),
        lambda: native._softmax_backward_data(ts, ty, -1, torch.float32),
    )

    # With dropout, PyTorch draws its own mask in each forward pass.
    for causal, samples, length, p in ((True, 16, 128, 0.0), (False, 16, 65, 0.0), (True, 16, 128, 0.1)):
        packed, split = pair(samples, length, 12, 32)
        ga, tga = pair(samples, length, 4, 32)
        tga = tga.transpose(1, 2)
        tq, tk, tv = (part.detach().requires_grad_() for part in split.transpose(1, 2).split(4, 1))
        factors = (rng.random((samples, 4, length, length)) >= p).astype(np.float32) / np.float32(1 - p) if p else None
        options = {"causal": causal, "padding_mask": None, "scale": 32**-0.5, "dropout": factors}
        _, kept = k.attention_forward(packed, 4, keep=True, **options)
        attended = functional.scaled_dot_product_attention(tq, tk, tv, dropout_p=p, is_causal=causal)

        def theirs(tq=tq, tk=tk, tv=tv, p=p, causal=causal):
            with torch.no_grad():
                functional.scaled_dot_product_attention(tq, tk, tv, dropout_p=p, is_causal=causal)

        def theirs_backward(inputs=(tq, tk, tv), attended=attended, tga=tga):
            torch.autograd.grad(attended, inputs, tga, retain_graph=True)

        size = f"{samples}x4x{length}x32{' causal' if causal else ''}{' dropout' if p else ''}"
        yield (
            f"attention forward {size}",
            lambda packed=packed, options=options: k.attention_forward(packed, 4, keep=True, **options),
            theirs,
        )
        yield (
            f"attention backward {size}",
            lambda packed=packed, ga=ga, kept=kept, options=options: k.attention_backward(
                ga, packed, kept, 4, **options
            ),
            theirs_backward,
        )

    for rows, classes in ((64, 10), (2048, 65)):
        logits, tl = pair(rows, classes)
        labels = rng.integers(0, classes, rows)
        tlabels, p, d = torch.tensor(labels), np.empty_like(logits), np.empty_like(logits)
        tl.requires_grad_()

        def ours(logits=logits, labels=labels, p=p, d=d, rows=rows):
            k.cross_entropy_forward(logits, labels, out=p)
            k.cross_entropy_backward(1 / rows, p, labels, out=d)

        def theirs(tl=tl, tlabels=tlabels):
            tl.grad = None
            functional.cross_entropy(tl, tlabels).backward()

        yield f"cross_entropy both {rows}x{classes}", ours, theirs

    h, th = pair(2048, 512)
    hout, slope = np.empty_like(h), np.empty_like(h)
    gh, tgh = pair(2048, 512)
    yield "gelu forward 1M", lambda: k.gelu(h, out=hout), lambda: functional.gelu(th)

    def gelu_both():
        k.gelu(h, out=hout, derivative=slope)
        np.multiply(gh, slope, out=hout)

    def torch_gelu_both():
        functional.gelu(th)
        native.gelu_backward(tgh, th)

    yield "gelu forward + backward 1M", gelu_both, torch_gelu_both
    yield "gelu_tanh forward 1M", lambda: k.gelu_tanh(h, out=hout), lambda: functional.gelu(th, approximate="tanh")
    yield "relu forward 1M", lambda: k.relu_forward(h, out=hout), lambda: torch.relu(th)
    r, tr_ = k.relu_forward(h), torch.relu(th)
    yield (
        "relu backward 1M",
        lambda: k.relu_backward(gh, r, out=hout),
        lambda: native.threshold_backward(tgh, tr_, 0),
    )

    image, ti = pair(64, 28, 28, 64)
    ti = ti.permute(0, 3, 1, 2)
    pooled = k.max_pool_forward(image, (2, 2), (2, 2))
    gp, dx = normal(*pooled.shape), np.empty_like(image)
    tgp = torch.tensor(gp).permute(0, 3, 1, 2)
    _, where = native.max_pool2d_with_indices(ti, [2, 2], [2, 2])
    yield (
        "max_pool 2x2 forward 64x28x28x64",
        lambda: k.max_pool_forward(image, (2, 2), (2, 2), out=pooled),
        lambda: native.max_pool2d_with_indices(ti, [2, 2], [2, 2]),
    )
    yield (
        "max_pool 2x2 backward 64x28x28x64",
        lambda: k.max_pool_backward(gp, image, pooled, (2, 2), (2, 2), out=dx),
        lambda: native.max_pool2d_with_indices_backward(tgp, ti, [2, 2], [2, 2], [0, 0], [1, 1], False, where),
    )

    for table in (65, 5000):
        ids, grad = rng.integers(0, table, 2048), np.empty((table, 128), np.float32)
        tids = torch.tensor(ids)
        yield (
            f"embedding gradient {table}x128",
            lambda ids=ids, grad=grad: k.embedding_gradient(g, ids, out=grad),
            lambda tids=tids, table=table: native.embedding_dense_backward(tg, tids, table, -1, False),
        )
    total = np.empty(512, np.float32)
    yield "bias gradient 2048x512", lambda: k.bias_gradient(gh, out=total), lambda: tgh.sum(0)


def interleaved(calls, seconds=0.25):
    """Least microseconds of each call, measured in turns: on a shared machine the least is the least wrong."""
    for call in calls:
        call()
    times = [[] for _ in calls]
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(times[0]) < 5:
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [1e6 * min(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=["numpy", "numba"], help="sets of kernels")
    parser.add_argument("--only", default="", help="only cases whose name holds this word")
    arguments = parser.parse_args()
    if "ALLGRAD_BENCHMARK" not in os.environ:
        command = [sys.executable, str(Path(__file__)), *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, env=clean_environment(), check=False).returncode)

    from allgrad import kernels

    print("BLAS:", kernels.set_up_blas(1))
    import numpy as np
    import torch

    torch.set_num_threads(1)
    print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
    for name in arguments.sets:
        print(f"\n{'kernels: ' + name:40}{'ours us':>10}{'torch us':>10}{'ratio':>8}")
        for title, ours, theirs in cases(np, torch, kernels.use(name)):
            if arguments.only in title:
                a, b = interleaved([ours, theirs])
                print(f"{title:40}{a:10.1f}{b:10.1f}{a / b:8.2f}", flush=True)


if __name__ == "__main__":
    main()
