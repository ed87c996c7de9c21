"""The models of `steps.py`: ours, PyTorch's with the same weights, and for some of them JAX's.

A `Task` is one model and one batch. `contestants(task, ...)` makes a function per contestant that runs a whole training step
(forward, backward, Adam or AdamW) and returns the loss.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn as tnn

from allgrad import kernels, nn, optim
from allgrad.nn.precision import apply_precision

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[], float]

REFERENCE = "torch fused"
NAMES = (("self_attn.in_proj_", "qkv."), ("self_attn.out_proj", "out"))
"""A block's names in PyTorch's encoder layer and in the leaner `Block` here."""


class Task(NamedTuple):
    """A model and its batch: `build` makes ours, `peer` PyTorch's; `decay` is AdamW's weight decay, None means Adam."""

    build: Callable[[], Any]
    peer: Callable[[], Any]
    x: Any
    y: Any
    decay: float | None = None
    jax: Callable[[Any, Any, Any], Any] | None = None
    """(parameters by name, x, y) -> loss, in JAX."""


def contestants(task: Task, sets: list[str], *, compiled: bool, jax: bool, bf16: bool = False) -> dict[str, Step]:
    """A step per contestant, all from the same weights; `bf16` adds ours and PyTorch's with products of bfloat16."""
    start = task.build().state_dict()
    images = task.x.ndim == 4
    steps = {"torch": theirs(task, start), REFERENCE: theirs(task, start, fused=True)}
    if images:
        steps |= {"torch channels last": steps["torch"], REFERENCE: theirs(task, start, last=True, fused=True)}
        steps["torch channels last"] = theirs(task, start, last=True)
    if compiled:
        steps["torch compiled"] = theirs(task, start, last=images, fused=True, compiled=True)
    if jax and task.jax is not None:
        steps["jax.jit"] = jitted(task, start)
    if bf16:
        steps["torch fused bf16"] = theirs(task, start, last=images, fused=True, bf16=True)
        steps |= {f"{name} bf16": ours(task, name, bf16=True) for name in sets}
    return steps | {name: ours(task, name) for name in sets}


def ours(task: Task, name: str, *, bf16: bool = False) -> Step:
    model, loss = task.build(), nn.CrossEntropyLoss()
    x, y = task.x.copy(), task.y.copy()
    for array in (x, y):
        array.flags.writeable = (
            False  # as a loader's batches are; a copy that nobody can write would be made in each step
        )
    apply_precision(model, "bf16" if bf16 else "float32", ())
    parameters = model.named_parameters()
    decayed = task.decay is not None
    optimizer: Any = (
        optim.AdamW(parameters, lr=1e-3, weight_decay=task.decay) if decayed else optim.Adam(parameters, lr=1e-3)
    )

    def step() -> float:
        kernels.use(name)
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def theirs(
    task: Task,
    start: dict[str, Any],
    *,
    last: bool = False,
    fused: bool = False,
    compiled: bool = False,
    bf16: bool = False,
) -> Step:
    layout = torch.channels_last if last else torch.contiguous_format
    x, y = torch.from_numpy(task.x), torch.from_numpy(task.y).flatten()
    model = task.peer()
    load(model, start)
    if x.ndim == 4:
        x, model = x.permute(0, 3, 1, 2).contiguous(memory_format=layout), model.to(memory_format=layout)
    options: dict[str, Any] = {"lr": 1e-3, "fused": fused or None}
    if task.decay is None:
        optimizer: Any = torch.optim.Adam(model.parameters(), **options)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=task.decay, **options)
    run = torch.compile(model) if compiled else model

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = functional.cross_entropy(run(x).flatten(0, -2), y)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def load(model: Any, start: dict[str, Any]) -> None:
    """Our weights into PyTorch's model: by name, or in order where only the names differ."""
    for a, b in NAMES:
        start = {k.replace(a, b): v for k, v in start.items()}
    own = model.state_dict()
    if set(own) != set(start):
        start = dict(zip(own, start.values(), strict=True))
    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in start.items()})


def jitted(task: Task, start: dict[str, Any]) -> Step:
    """JAX with the same Adam, compiled as one function; its buffers are given away, so nothing is copied."""
    import jax
    import jax.numpy as jnp

    loss, decay = task.jax, 1e-3 * (task.decay or 0)
    assert loss is not None
    x, y = jnp.asarray(task.x), jnp.asarray(task.y).reshape(-1)

    def update(state: Any) -> Any:
        p, m, v, t = state
        value, g = jax.value_and_grad(loss)(p, x, y)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        a, b = 1 - 0.9**t, 1 - 0.999**t
        p = jax.tree.map(lambda p, m, v: p * (1 - decay) - 1e-3 * (m / a) / (jnp.sqrt(v / b) + 1e-8), p, m, v)
        return value, (p, m, v, t + 1)

    p = {name: jnp.asarray(value) for name, value in start.items()}
    state = [(p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.float32(1))]
    run = jax.jit(update, donate_argnums=0)

    def step() -> float:
        value, state[0] = run(state[0])
        return float(value)

    return step


def jax_cross_entropy(logits: Any, y: Any) -> Any:
    import jax
    import jax.numpy as jnp

    rows = jax.nn.log_softmax(logits.reshape(-1, logits.shape[-1]))
    return -jnp.take_along_axis(rows, y[:, None], 1).mean()


# -- multi-layer perceptrons -----------------------------------------------------------------------------------------


def mlp(sizes: list[int], batch: int) -> Task:
    rng = np.random.default_rng(0)

    def peer() -> Any:
        layers: list[Any] = []
        for fan_in, fan_out in pairwise(sizes):
            layers += [tnn.Linear(fan_in, fan_out), tnn.ReLU()]
        return tnn.Sequential(*layers[:-1])

    def jax_loss(p: Any, x: Any, y: Any) -> Any:
        import jax

        names = sorted(name.removesuffix(".weight") for name in p if name.endswith(".weight"))
        for name in names:
            x = x @ p[f"{name}.weight"].T + p[f"{name}.bias"]
            x = jax.nn.relu(x) if name != names[-1] else x
        return jax_cross_entropy(x, y)

    x, y = rng.standard_normal((batch, sizes[0]), np.float32), rng.integers(0, sizes[-1], batch)
    return Task(lambda: nn.models.MLP(sizes, rng=0), peer, x, y, jax=jax_loss)


# -- transformers ----------------------------------------------------------------------------------------------------


class Block(tnn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = tnn.LayerNorm(width), tnn.LayerNorm(width)
        self.qkv, self.out = tnn.Linear(width, 3 * width), tnn.Linear(width, width)
        self.linear1, self.linear2 = tnn.Linear(width, 4 * width), tnn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(a.transpose(1, 2).reshape(b, t, -1))
        return x + self.linear2(functional.gelu(self.linear1(self.norm2(x))))


class PeerGPT(tnn.Module):
    def __init__(self, vocabulary: int, context: int, layers: int, width: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = tnn.Embedding(vocabulary, width), tnn.Embedding(context, width)
        self.blocks = tnn.ModuleList(Block(width, heads, causal=True) for _ in range(layers))
        self.norm, self.head = tnn.LayerNorm(width), tnn.Linear(width, vocabulary, bias=False)

    def forward(self, i: Any) -> Any:
        x = self.tokens(i) + self.positions.weight[: i.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def gpt() -> Task:
    rng = np.random.default_rng(0)
    tokens, goal = rng.integers(0, 65, (16, 128)), rng.integers(0, 65, (16, 128))
    return Task(
        lambda: nn.models.GPT(65, context=128, layers=4, width=128, heads=4, tied=False, rng=0),
        lambda: PeerGPT(65, 128, 4, 128, 4),
        tokens, goal, decay=0.01, jax=jax_gpt,
    )  # fmt: skip


def jax_gpt(p: Any, tokens: Any, y: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scale = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        return centred * scale * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x: Any, name: str, joint: str = ".") -> Any:
        return x @ p[f"{name}{joint}weight"].T + p[f"{name}{joint}bias"]

    b, t = tokens.shape
    x = p["tokens.weight"][tokens] + p["positions.weight"][:t]
    for i in range(4):
        block = f"blocks.{i}"
        packed = linear(norm(x, f"{block}.norm1"), f"{block}.self_attn.in_proj", "_").reshape(b, t, 3, 4, -1)
        q, k, v = packed.transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
        a = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -jnp.inf)) @ v
        x = x + linear(a.transpose(0, 2, 1, 3).reshape(x.shape), f"{block}.self_attn.out_proj")
        h = jax.nn.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.linear1"), approximate=False)
        x = x + linear(h, f"{block}.linear2")
    return jax_cross_entropy(norm(x, "norm") @ p["head.weight"].T, y)


class ViT(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021) without class token: the mean over the patches is classified."""

    def __init__(self, patch: int, width: int, layers: int, heads: int, tokens: int, classes: int) -> None:
        rng = np.random.default_rng(0)
        self.patches = nn.Conv2d(3, width, patch, stride=patch, rng=rng)
        self.positions = nn.Parameter(0.02 * rng.standard_normal((tokens, width)).astype(np.float32))
        self.blocks = nn.ModuleList(nn.TransformerBlock(width, heads, rng=rng) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes, rng=rng)

    def forward(self, x: Any) -> Any:
        x = self.patches(x)
        x = np.reshape(x, (x.shape[0], -1, x.shape[3])) + self.positions
        for block in self.blocks.children():
            x = block(x)
        return self.head(np.mean(self.norm(x), axis=1))


class PeerViT(tnn.Module):
    def __init__(self, patch: int, width: int, layers: int, heads: int, tokens: int, classes: int) -> None:
        super().__init__()
        self.patches = tnn.Conv2d(3, width, patch, stride=patch)
        self.positions = tnn.Parameter(torch.zeros(tokens, width))
        self.blocks = tnn.ModuleList(Block(width, heads, causal=False) for _ in range(layers))
        self.norm, self.head = tnn.LayerNorm(width), tnn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def vit() -> Task:
    size = (4, 128, 4, 4, 64, 10)
    return Task(lambda: ViT(*size), lambda: PeerViT(*size), *images(16, 32, 3), decay=0.01)


# -- convolutions ----------------------------------------------------------------------------------------------------


def images(batch: int, side: int, channels: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, side, side, channels), np.float32), rng.integers(0, 10, batch)


def cnn() -> Task:
    def peer() -> Any:
        return tnn.Sequential(
            tnn.Conv2d(1, 32, 3, padding=1), tnn.ReLU(), tnn.Conv2d(32, 64, 3, padding=1), tnn.ReLU(), tnn.MaxPool2d(2),
            tnn.Flatten(), tnn.Linear(12544, 128), tnn.ReLU(), tnn.Linear(128, 10),
        )  # fmt: skip

    return Task(lambda: nn.models.CNN(rng=0), peer, *images(64, 28, 1))


class PeerBasicBlock(tnn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = tnn.Conv2d(inner, outer, 3, stride, 1, bias=False), tnn.BatchNorm2d(outer)
        self.conv2, self.bn2 = tnn.Conv2d(outer, outer, 3, 1, 1, bias=False), tnn.BatchNorm2d(outer)
        self.downsample = None
        if stride != 1 or inner != outer:
            self.downsample = tnn.Sequential(tnn.Conv2d(inner, outer, 1, stride, bias=False), tnn.BatchNorm2d(outer))

    def forward(self, x: Any) -> Any:
        skip = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + skip)


class PeerResNet18(tnn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = tnn.Conv2d(3, 64, 3, 1, 1, bias=False), tnn.BatchNorm2d(64)
        inner = 64
        for number, width in enumerate((64, 128, 256, 512), start=1):
            first = PeerBasicBlock(inner, width, 2 if number > 1 else 1)
            setattr(self, f"layer{number}", tnn.Sequential(first, PeerBasicBlock(width, width, 1)))
            inner = width
        self.fc = tnn.Linear(512, 10)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def resnet() -> Task:
    return Task(lambda: nn.models.ResNet18(10, rng=0), PeerResNet18, *images(8, 32, 3))


# -- recurrence ------------------------------------------------------------------------------------------------------


class PeerLSTM(tnn.Module):
    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.tokens = tnn.Embedding(vocabulary, width)
        self.lstm = tnn.LSTM(width, width, layers, batch_first=True)
        self.head = tnn.Linear(width, vocabulary)

    def forward(self, i: Any) -> Any:
        return self.head(self.lstm(self.tokens(i))[0])


def lstm() -> Task:
    rng = np.random.default_rng(0)
    tokens, goal = rng.integers(0, 65, (32, 64)), rng.integers(0, 65, (32, 64))
    return Task(
        lambda: nn.models.LSTMLanguageModel(65, width=128, layers=2, rng=0), lambda: PeerLSTM(65, 128, 2), tokens, goal
    )


TASKS: dict[str, Callable[[], Task]] = {
    "mlp": lambda: mlp([784, 512, 512, 10], 64),
    "tiny": lambda: mlp([64, 64, 10], 32),
    "gpt": gpt,
    "cnn": cnn,
    "lstm": lstm,
    "vit": vit,
    "resnet": resnet,
}
