"""The numba kernels give one set of weights whatever NumPy, BLAS and the compiler find in the CPU; the NumPy kernels do not."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba", reason="only the numba kernels are portable")

# Four small models, three steps each; prints a digest of the weights.
TRAIN = """
import hashlib, sys
import numpy as np
from allgrad import kernels, nn, optim

kind, tile, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
kernels.set_up_blas(threads)
chosen = kernels.use(kind)
if tile != "host":
    from allgrad.kernels.matmul.product import Product
    from allgrad.kernels.matmul.tiles import TILES
    chosen.matmul = Product(TILES[tile])
    for name, module in list(sys.modules.items()):  # recurrences, attention and workers' sums have it by name
        if name.startswith("allgrad.kernels.numba_") and hasattr(module, "matmul"):
            module.matmul = chosen.matmul
rng = np.random.default_rng(0)


class Last(nn.Linear):
    def forward(self, x):
        return super().forward(x[:, -1])


class Recurrent(nn.Module):
    def __init__(self):
        self.lstm, self.gru, self.head = nn.LSTM(6, 9, rng=1), nn.GRU(9, 7, rng=2), nn.Linear(7, 3, rng=3)

    def forward(self, x):
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


models = [
    (
        nn.Sequential(
            nn.Linear(40, 70, activation="gelu", rng=1), nn.LayerNorm(70), nn.Linear(70, 33, activation="tanh", rng=2),
            nn.Linear(33, 20, activation="gelu_tanh", rng=3), nn.Linear(20, 3, activation="softplus", rng=4),
        ),
        (37, 40),
    ),
    (
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, activation="relu", pool=2, rng=1), nn.Conv2d(16, 16, 3, padding=1, rng=2),
            nn.BatchNorm2d(16), nn.ELU(), nn.FlatLinear((6, 6, 16), 3, rng=3),
        ),
        (9, 12, 12, 3),
    ),
    (
        nn.Sequential(
            nn.TransformerBlock(24, 3, causal=True, rng=1), nn.RMSNorm(24), Last(24, 3, rng=2)
        ),
        (5, 11, 24),
    ),
    (Recurrent(), (8, 10, 6)),
]
digest = hashlib.sha256()
for model, shape in models:
    x = rng.random(shape, np.float32) - np.float32(0.5)
    labels = rng.integers(0, 3, shape[0])
    optimizer = optim.AdamW(model.named_parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        nn.CrossEntropyLoss(label_smoothing=0.1)(model(x), labels).backward()
        optim.clip_norm(optimizer.flat, 0.5)
        optimizer.step()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.tobytes())
print(digest.hexdigest())
"""


def digest(kind, tile="host", threads=1, **environment):
    settings = {"OPENBLAS_NUM_THREADS": "1", "PATH": os.environ["PATH"], "HOME": os.path.expanduser("~"), **environment}
    if "ALLGRAD_CACHE" in os.environ:
        settings["ALLGRAD_CACHE"] = os.environ["ALLGRAD_CACHE"]
    command = [sys.executable, "-W", "ignore", "-c", TRAIN, kind, tile, str(threads)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dispatched():
    """The CPU features for which NumPy has code of its own that this CPU runs."""
    return " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"])


def test_one_digest_for_every_cpu_and_thread_count():
    first = digest("numba")
    assert digest("numba", NPY_DISABLE_CPU_FEATURES=dispatched()) == first
    assert digest("numba", OPENBLAS_CORETYPE="Prescott") == first
    assert digest("numba", tile="avx512") == first
    assert digest("numba", tile="neon", threads=2) == first


def test_the_compilers_cpu_does_not_matter():
    llvm = pytest.importorskip("llvmlite.binding")
    if "+avx2" not in llvm.get_host_cpu_features().flatten():
        pytest.skip("this test names x86 features")
    assert digest("numba", NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+avx,+avx2,+fma,+sse4.2") == digest("numba")


def test_numpy_kernels_depend_on_the_cpu():
    assert digest("numpy", OPENBLAS_CORETYPE="Prescott", NPY_DISABLE_CPU_FEATURES=dispatched()) != digest("numpy")
