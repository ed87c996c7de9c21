"""Convolution layers against PyTorch, their higher derivatives, determinism, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layers import check_against_torch, check_derivatives

import allgrad as ag
from allgrad import nn
from allgrad.nn.activations import ACTIVATIONS
from allgrad.nn.convolution import Epilogue, Geometry, convolve, convolve_transposed

REASON = "PyTorch is what it is compared with"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def first(a: np.ndarray) -> np.ndarray:
    """Channels last to PyTorch's channels first."""
    return np.moveaxis(a, -1, 1)


# in, out, kernel, options, image: every algorithm, and the options of each.
IMAGES: list[tuple[int, int, Any, dict[str, Any], tuple[int, int]]] = [
    (3, 5, 3, {"padding": 1}, (7, 8)),
    (3, 5, 3, {"padding": 2, "bias": False}, (7, 8)),
    (1, 4, (3, 2), {"stride": (2, 1), "padding": (1, 0)}, (9, 8)),
    (20, 6, 3, {"stride": 2, "padding": 1}, (9, 10)),
    (20, 6, (2, 3), {"dilation": (2, 1), "padding": "same"}, (6, 7)),
    (20, 6, 4, {"padding": "same"}, (6, 7)),
    (8, 12, 3, {"groups": 4, "padding": 1}, (6, 5)),
    (8, 12, 3, {"groups": 2, "stride": (1, 2), "dilation": 2, "padding": 2}, (6, 9)),
    (6, 6, 3, {"groups": 6, "padding": 1}, (8, 7)),
    (6, 6, (3, 2), {"groups": 6, "stride": 2}, (8, 7)),
    (6, 12, 3, {"groups": 6}, (5, 5)),
    (7, 9, 1, {}, (5, 6)),
    (7, 9, 1, {"stride": 2}, (5, 6)),
    (7, 9, 1, {"padding": 1}, (5, 6)),
    (16, 20, 3, {"padding": 1}, (12, 8)),
    (16, 20, 3, {"padding": "valid"}, (12, 11)),
    (20, 16, 3, {"padding": (0, 2)}, (14, 15)),
    (40, 8, 5, {"padding": 2}, (40, 40)),
]


@pytest.mark.filterwarnings("ignore:Using padding=.same.")  # PyTorch copies for even kernels
@pytest.mark.parametrize(("inner", "outer", "kernel", "options", "image"), IMAGES)
def test_conv2d_equals_torch(inner: int, outer: int, kernel: Any, options: Any, image: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    batch = 11 if inner >= 16 else 3  # enough tiles for Winograd
    theirs = torch.nn.Conv2d(inner, outer, kernel, **options)
    ours = nn.Conv2d(inner, outer, kernel, rng=0, **options)
    x = normal(batch, *image, inner).astype(np.float32)
    check_against_torch(ours, theirs, x, to_torch=first, steps=2 if inner == 40 else 10)


@pytest.mark.parametrize("inner", [3, 16])
@pytest.mark.parametrize("pool", [None, 2, (3, 2)])
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "leaky_relu"])
def test_conv2d_with_activation_and_pool_equals_torch(inner: int, pool: Any, activation: str | None) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    # With these weights no number comes so near a kink of ReLU, or two of a window so near each other, in any of the steps, that
    # rounding decides: 1.5e-6 of the largest at least, ten times the usual error of a number.
    torch.manual_seed(86)
    curves = {"relu": torch.nn.ReLU(), "tanh": torch.nn.Tanh(), "leaky_relu": torch.nn.LeakyReLU()}

    class Theirs(torch.nn.Conv2d):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            y = super().forward(x)
            y = y if activation is None else curves[activation](y)
            return y if pool is None else torch.nn.functional.max_pool2d(y, pool)

    ours = nn.Conv2d(inner, 18, 3, padding=1, activation=activation, pool=pool, rng=0)
    x = normal(5, 13, 14, inner, seed=3).astype(np.float32)
    # Errors are relative to the largest number before the activation (2.3), of which tanh leaves 0.98.
    atol = 5e-6 if activation == "tanh" else 2e-6
    check_against_torch(ours, Theirs(inner, 18, 3, padding=1), x, to_torch=first, atol=atol)


def test_pool_inside_gives_ties_to_the_first_pixel() -> None:
    for inner in (3, 16):
        conv = nn.Conv2d(inner, 16, 1, pool=2, bias=False, rng=0)
        conv.weight.assign(np.eye(inner, 16)[None, None])
        x = ag.tensor(np.ones((3, 4, 5, inner), np.float32), requires_grad=True)
        np.sum(conv(x)).backward()
        expected = np.zeros((4, 5))
        expected[:4:2, :4:2] = 1
        np.testing.assert_array_equal(x.grad, np.broadcast_to(expected[None, :, :, None], x.shape))


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if "gelu" not in name])
def test_activation_inside_is_activation_behind(activation: str) -> None:
    x = normal(2, 6, 6, 4).astype(np.float32)
    fused = nn.Conv2d(4, 5, 3, activation=activation, rng=0)(x)
    behind = nn.Activation(activation)(nn.Conv2d(4, 5, 3, rng=0)(x))
    np.testing.assert_array_equal(fused.value, behind.value)


def test_sequential_runs_an_activation_inside() -> None:
    x, line = normal(2, 6, 6, 4).astype(np.float32), normal(2, 6, 4).astype(np.float32)
    for conv, data in (
        (nn.Conv2d(4, 5, 3, rng=0), x),
        (nn.Conv2d(4, 5, 3, pool=2, rng=0), x),
        (nn.Conv1d(4, 5, 3, rng=0), line),
    ):
        y = nn.Sequential(conv, nn.GELU())(data)
        assert y.node.plan.name in ("convolve", "reshape")
        np.testing.assert_array_equal(y.value, nn.GELU()(conv(data)).value)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 2},
        {"padding": "same", "dilation": 2},
        {"groups": 4, "padding": 1},
        {"groups": 2, "bias": False},
    ],
)
def test_conv1d_equals_torch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    ours, theirs = nn.Conv1d(4, 8, 3, rng=0, **options), torch.nn.Conv1d(4, 8, 3, **options)
    check_against_torch(ours, theirs, normal(3, 12, 4).astype(np.float32), to_torch=first)


@pytest.mark.parametrize(
    ("inner", "outer", "kernel", "options"),
    [
        (4, 6, 3, {}),
        (4, 6, 3, {"stride": 2, "padding": 1, "output_padding": 1}),
        (4, 6, (2, 3), {"stride": (3, 2), "groups": 2}),
        (6, 6, 3, {"stride": 2, "groups": 6}),
        (4, 6, 3, {"dilation": 2, "stride": (2, 1), "padding": 3, "output_padding": (1, 0), "bias": False}),
        (4, 6, 2, {"padding": 1, "stride": 2}),
        (16, 16, 3, {"padding": 1}),
        (5, 7, 1, {}),
    ],
)
def test_conv_transpose2d_equals_torch(inner: int, outer: int, kernel: Any, options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason=REASON)
    ours = nn.ConvTranspose2d(inner, outer, kernel, rng=0, **options)
    theirs = torch.nn.ConvTranspose2d(inner, outer, kernel, **options)
    check_against_torch(ours, theirs, normal(9, 6, 7, inner).astype(np.float32), to_torch=first)


@pytest.mark.parametrize(
    ("geometry", "shape", "outer"),
    [
        (Geometry((3, 2), (2, 1), ((1, 0), (0, 2)), (1, 2)), (2, 6, 5, 2), 3),
        (Geometry((3, 3), padding=((1, 1), (1, 1)), groups=2), (2, 4, 4, 4), 4),
        (Geometry((3, 3), padding=((1, 1), (1, 1))), (6, 7, 8, 16), 16),
    ],
)
@pytest.mark.parametrize("epilogue", [Epilogue(), Epilogue(ACTIVATIONS["silu"], (2, 2))])
def test_higher_derivatives(geometry: Geometry, shape: tuple[int, ...], outer: int, epilogue: Epilogue) -> None:
    x, w = normal(*shape), normal(*geometry.kernel, shape[3] // geometry.groups, outer, seed=1) / 4
    check_derivatives(
        lambda x, w, b: convolve(x, w, b, geometry=geometry, epilogue=epilogue),
        [x, w, normal(outer, seed=2)],
        step=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_higher_derivatives_transposed(groups: int) -> None:
    geometry = Geometry((3, 2), (2, 1), ((1, 0), (2, 0)), (1, 2), groups)
    image = (8, 5)
    small = geometry.output(image)
    x, w, b = normal(2, *small, 4), normal(3, 2, 6 // groups, 4, seed=1), normal(6, seed=2)
    check_derivatives(lambda x, w, b: convolve_transposed(x, w, b, geometry=geometry, image=image), [x, w, b])


@pytest.mark.parametrize("layer", ["winograd", "patches", "few", "depthwise", "pointwise"])
def test_weight_gradient_goes_into_bound_memory_with_the_same_bits(layer: str) -> None:
    sizes = {"winograd": (16, 16, 3, 1), "patches": (20, 8, 5, 1), "few": (2, 8, 3, 1)}
    inner, outer, kernel, groups = sizes.get(layer, (8, 8, 3, 8) if layer == "depthwise" else (8, 8, 1, 1))
    x = normal(7, 12, 12, inner).astype(np.float32)
    results = []
    for bound in (False, True, True):
        conv = nn.Conv2d(inner, outer, kernel, groups=groups, activation="relu", rng=0)
        # Other addresses, 4 bytes off the usual alignment.
        memory = np.full(conv.weight.size + 1, np.nan, np.float32)[1:].reshape(conv.weight.shape)
        if bound:
            conv.weight.bind(grad=memory)
        shifted = np.empty(x.size + 1, np.float32)[1:].reshape(x.shape)
        shifted[...] = x
        y = conv(shifted if bound else x)
        np.sum(y * y).backward()
        assert not bound or conv.weight.grad is memory
        results.append((y.value.tobytes(), conv.weight.grad.tobytes(), conv.bias.grad.tobytes()))
    assert results[0] == results[1] == results[2]


def test_an_empty_batch_has_zero_gradients() -> None:
    for inner, kernel, groups in ((3, 3, 1), (16, 3, 1), (4, 3, 4), (4, 1, 1)):
        conv = nn.Conv2d(inner, 16 if groups == 1 else 4, kernel, groups=groups, pool=2, rng=0)
        y = conv(np.zeros((0, 8, 8, inner), np.float32))
        assert y.shape[0] == 0
        np.sum(y).backward()
        assert not conv.weight.grad.any()
        assert not conv.bias.grad.any()


def test_flat_linear_loads_pytorchs_flatten_and_linear() -> None:
    torch = pytest.importorskip("torch", reason=REASON)

    class Theirs(torch.nn.Linear):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return super().forward(torch.flatten(x, 1))

    x = normal(6, 3, 4, 5).astype(np.float32)
    run_theirs = lambda m, x: m(x)  # noqa: E731
    check_against_torch(
        nn.FlatLinear((3, 4, 5), 7, rng=0),
        Theirs(60, 7),
        x,
        to_torch=lambda a: first(a) if a.ndim == 4 else a,
        run_theirs=run_theirs,
    )


class Net(nn.Module):
    def __init__(self) -> None:
        self.features = nn.ModuleList([nn.Conv2d(3, 4, 3, rng=0)])
        self.flat = nn.FlatLinear((2, 2, 4), 5, rng=0)

    def forward(self, x: Any) -> Any:
        return self.flat(self.features[0](x))


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (
            np.zeros((2, 3, 8, 8), np.float32),
            ValueError,
            r"'features.0'.*\(batch, height, width, 3\).*\(2, 3, 8, 8\).*moveaxis",
        ),
        (np.zeros((8, 8, 3), np.float32), ValueError, r"'features.0'.*\(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.float64), TypeError, r"'features.0'.*float32.*float64"),
        (np.zeros((1, 8, 8, 3), np.uint8), TypeError, r"'features.0'.*float32.*uint8"),
        (np.zeros((1, 2, 8, 3), np.float32), ValueError, r"'features.0'.*\(3, 3\).*\(1, 2, 8, 3\)"),
        (np.zeros((1, 5, 5, 3), np.float32), ValueError, r"'flat'.*\(batch, 2, 2, 4\).*\(1, 3, 3, 4\)"),
        ([[1.0]], TypeError, r"'features.0'.*list"),
    ],
)
def test_bad_input_names_layer_path_and_both_shapes(x: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Net()(x)


def test_bad_input_of_the_others() -> None:
    with pytest.raises(ValueError, match=r"Conv1d.*\(batch, length, 3\).*\(2, 3, 8\).*moveaxis"):
        nn.Conv1d(3, 4, 3, rng=0)(np.zeros((2, 3, 8), np.float32))
    with pytest.raises(ValueError, match=r"Conv1d.*spans 5.*\(2, 4, 3\)"):
        nn.Conv1d(3, 4, 3, dilation=2, rng=0)(np.zeros((2, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"ConvTranspose2d.*padding"):
        nn.ConvTranspose2d(3, 4, 3, padding=2, rng=0)(np.zeros((2, 1, 1, 3), np.float32))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2, rng=0), "groups must divide"),
        (lambda: nn.Conv2d(3, 4, 0, rng=0), "kernel_size.*Got 0"),
        (lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same", rng=0), "stride 1"),
        (lambda: nn.Conv2d(3, 4, 3, padding="full", rng=0), "'full'"),
        (lambda: nn.Conv2d(3, 4, 3, activation="gelu", pool=2, rng=0), "monotonic activation"),
        (lambda: nn.Conv2d(3, 4, 3, pool=17, rng=0), "256"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, output_padding=1, rng=0), "output_padding"),
    ],
)
def test_bad_options(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_repr_says_the_options_that_differ() -> None:
    text = repr(nn.Conv2d(3, 8, 3, stride=2, padding=1, activation="relu", pool=2, rng=0))
    assert "3 -> 8, kernel (3, 3), stride=(2, 2)" in text
    assert "relu, pool=(2, 2)" in text
    assert "224 parameters" in text


def test_under_no_grad_nothing_is_recorded() -> None:
    conv = nn.Conv2d(3, 4, 3, activation="relu", pool=2, rng=0)
    with ag.no_grad():
        assert conv(np.zeros((1, 6, 6, 3), np.float32)).node is None
