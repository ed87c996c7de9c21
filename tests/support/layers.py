"""What layers are tested with: the same layer in PyTorch, and derivatives by differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import allgrad as ag

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allgrad import nn

Array = np.ndarray[Any, Any]


def parameters_as_torch(model: nn.Module, pick: Callable[[nn.Parameter], Array]) -> dict[str, Array]:
    """An array of each parameter (its value, its gradient) by name, in PyTorch's layout."""
    return {name: p.layout.to_torch(pick(p)) for name, p in model.named_parameters()}


def check_against_torch(
    ours: nn.Module,
    theirs: Any,
    x: Array,
    *,
    to_torch: Callable[[Array], Array] = lambda a: a,
    run: Callable[[Any, Any], Any] = lambda m, x: m(x),
    run_theirs: Callable[[Any, Any], Any] | None = None,
    steps: int = 10,
    rtol: float = 2e-5,
    atol: float = 2e-6,
    lr: float = 0.05,
) -> None:
    """Values, gradients of input and parameters, and `steps` steps of SGD on a random quadratic, from the same weights.

    The weights travel from PyTorch to us, and back, through `load_state_dict(strict=True)`.

    Args:
        to_torch: an input or output of ours (channels last) in PyTorch's layout.
        run, run_theirs: how the models are called.
    """
    import torch

    run_theirs = run_theirs or run
    ours.load_state_dict({name: t.detach().numpy() for name, t in theirs.state_dict().items()}, strict=True)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in ours.state_dict().items()}, strict=True)
    floating = x.dtype.kind == "f"
    x_ours = ag.tensor(x, requires_grad=True) if floating else x
    x_theirs = torch.tensor(np.ascontiguousarray(to_torch(x)), requires_grad=floating)
    y_ours, y_theirs = run(ours, x_ours), run_theirs(theirs, x_theirs)
    y_array = y_theirs.detach().numpy()

    def close(a: Array, b: Array, what: str) -> None:
        largest = np.abs(b).max(initial=1)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * largest, err_msg=what)

    assert y_ours.dtype == np.float32
    close(to_torch(y_ours.value), y_array, "value")
    goal = np.random.default_rng(5).standard_normal(y_ours.shape).astype(np.float32)
    goal_theirs = torch.tensor(np.ascontiguousarray(to_torch(goal)))
    np.sum((y_ours - goal) * (y_ours - goal)).backward()
    ((y_theirs - goal_theirs) ** 2).sum().backward()
    if floating:
        close(to_torch(x_ours.grad), x_theirs.grad.numpy(), "gradient of the input")
    named = dict(theirs.named_parameters())
    for name, g in parameters_as_torch(ours, lambda p: p.grad).items():
        close(g, named[name].grad.numpy(), f"gradient of {name}")
    if not steps:
        return
    optimizer = torch.optim.SGD(theirs.parameters(), lr=lr)
    for _ in range(steps):
        ours.zero_grad()
        d = run(ours, x) - goal
        np.mean(d * d).backward()
        for p in ours.parameters():
            p.assign(p.value - np.float32(lr) * p.grad)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(run_theirs(theirs, x_theirs.detach()), goal_theirs).backward()
        optimizer.step()
    for name, array in ours.state_dict().items():
        close(array, theirs.state_dict()[name].numpy(), f"{name} after {steps} steps")


def check_derivatives(
    f: Callable[..., Any], args: Sequence[Array], *, rtol: float = 2e-6, step: float = 1e-4, second: bool = True
) -> None:
    """First and second derivatives of f (float64, any output) in a random direction, against five-point differences.

    Second order both ways: forward over reverse, and reverse over reverse.
    """
    rng = np.random.default_rng(11)
    args = [np.asarray(a, np.float64) for a in args]
    c = rng.standard_normal(np.shape(f(*args)))
    directions = [rng.standard_normal(a.shape) for a in args]
    positions = tuple(range(len(args)))

    def loss(*xs: Any) -> Any:
        return np.sum(f(*xs) * c)

    def along(*gradients: Any) -> Any:
        return sum(np.sum(g * v) for g, v in zip(gradients, directions, strict=True))

    def at(t: float) -> list[Array]:
        return [a + t * v for a, v in zip(args, directions, strict=True)]

    def difference(h: Callable[[float], float]) -> float:
        return (8 * (h(step) - h(-step)) - (h(2 * step) - h(-2 * step))) / (12 * step)

    def number(y: Any) -> float:
        return y.detach().item() if isinstance(y, ag.Tensor) else float(y)  # tracked, where f has parameters

    def value(t: float) -> float:
        return number(loss(*at(t)))

    gradient = ag.grad(loss, positions)
    np.testing.assert_allclose(number(along(*gradient(*args))), difference(value), rtol=rtol, atol=1e-7)
    tangent = ag.jvp(loss, tuple(args), tuple(directions))[1]
    np.testing.assert_allclose(number(tangent), difference(value), rtol=rtol, atol=1e-7)
    if not second:
        return
    expected = difference(lambda t: number(along(*gradient(*at(t)))))
    forward = ag.jvp(lambda *xs: along(*gradient(*xs)), tuple(args), tuple(directions))[1]
    np.testing.assert_allclose(number(forward), expected, rtol=10 * rtol, atol=1e-6)
    reverse = along(*ag.grad(lambda *xs: along(*gradient(*xs)), positions)(*args))
    np.testing.assert_allclose(number(reverse), expected, rtol=10 * rtol, atol=1e-6)
