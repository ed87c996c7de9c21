"""Gradient checks, custom derivatives, fused operations, anomaly detection, the drawn graph."""

import shutil

import numpy as np
import pytest

import allgrad as ag
from allgrad.autodiff.errors import AnomalyError, GraphFreedError, NoRuleError, NotDifferentiableError

X = np.array([0.3, -0.7])


def test_numerical_grad_of_real_complex_and_single_precision():
    np.testing.assert_allclose(ag.numerical_grad(lambda x: np.sum(x**3), X), 3 * X**2, rtol=1e-8)
    z = np.array([1 + 2j])
    np.testing.assert_allclose(ag.numerical_grad(lambda z: np.sum(np.abs(z) ** 2), z), 2 * np.conj(z), rtol=1e-8)
    single = ag.numerical_grad(lambda x: np.sum(x**3), X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, 3 * X**2, rtol=1e-3)
    with pytest.raises(NotDifferentiableError):
        ag.numerical_grad(np.sum, np.array([1, 2]))


WRONG = {
    "vjp": ag.Primitive(np.sin, name="s", arguments=("x",), vjp={"x": lambda g, x: g}, jvp={"x": lambda t, x: t * np.cos(x)}),
    "jvp": ag.Primitive(np.sin, name="s", arguments=("x",), vjp={"x": lambda g, x: g * np.cos(x)}, jvp={"x": lambda t, x: t}),
}  # fmt: skip


@pytest.mark.parametrize("which", WRONG)
def test_check_grads_finds_the_wrong_mode_and_names_it(which):
    with pytest.raises(AssertionError, match=f"^{which}"):
        ag.check_grads(WRONG[which], X)
    other = {"vjp": "forward", "jvp": "reverse"}[which]
    ag.check_grads(WRONG[which], X, modes=(other,), order=1)


def test_check_grads_finds_a_wrong_second_derivative():
    half = ag.Primitive(
        lambda x: x**3,
        name="cube",
        vjp={"x": lambda g, x: g * 3 * (x.detach() if isinstance(x, ag.Tensor) else x) * x},
        jvp={"x": lambda t, x: t * 3 * x * x},
    )
    ag.check_grads(half, X, order=1)
    with pytest.raises(AssertionError, match=r"^(vjp|jvp) of vjp"):
        ag.check_grads(half, X, order=2)


def test_custom_derivatives_save_what_they_name_and_take_statics():
    @ag.custom_vjp(x=lambda g, x, *, n: g * n * x ** (n - 1))
    def power(x, *, n):
        return x**n

    assert ag.grad(power)(2.0, n=3) == 12.0
    assert ag.grad(ag.grad(lambda x: power(x, n=3)))(2.0) == 12.0
    with pytest.raises(NoRuleError, match="power"):
        ag.derivative(lambda x: power(x, n=3))(2.0)
    power.defjvp(x=lambda t, x, *, n: t * n * x ** (n - 1))
    ag.check_grads(lambda x: power(x, n=3), X)
    with pytest.raises(ValueError, match="'y'"):
        power.defvjp(y=lambda g: g)
    with pytest.raises(ValueError, match="asks for"):
        power.defvjp(x=lambda g, z: g)


def test_a_function_that_is_not_differentiable_in_an_argument_says_which():
    @ag.custom_vjp(x=lambda g, y: g * y)
    def f(x, y):
        return x * y

    y = ag.tensor(2.0, requires_grad=True)
    with pytest.raises(NotDifferentiableError, match="'y'"):
        f(1.0, y)


def test_a_primitive_with_several_results():
    both = ag.Primitive(
        lambda x: (np.sin(x), np.cos(x)),
        name="sincos",
        vjp={"x": lambda g, ans: g[0] * ans[1] - g[1] * ans[0]},
        jvp={"x": lambda t, ans: (t * ans[1], -t * ans[0])},
        outputs=True,
    )
    ag.check_grads(lambda x: both(x)[0] * both(x)[1], X, order=3)
    ag.check_grads(lambda x: both(x)[1], X)


def test_fused_operations_in_every_mode():
    calls = []

    def forward(x, y, *, k):
        calls.append("forward")
        return x * x * y * k, (x, y)

    def backward(g, residuals, *, needs, into, k):
        calls.append("backward")
        x, y = residuals
        if into[1] is not None:
            np.multiply(g * k, x * x, out=into[1])
        return (2 * g * k * x * y if needs[0] else None), (into[1] if into[1] is not None else g * k * x * x)

    op = ag.Fused(forward, backward, name="op", reference=lambda x, y, *, k: x * x * y * k)
    ag.check_grads(lambda x, y: np.sin(op(x, y, k=2.0)), X, X + 1, order=3, rtol=1e-4)
    calls.clear()
    y = ag.tensor(X + 1, requires_grad=True)
    memory = np.zeros(2)
    y.bind(grad=memory)
    np.sum(op(X, y, k=3.0)).backward()
    assert calls == ["forward", "backward"]
    np.testing.assert_allclose(memory, 3 * X * X)


def test_anomaly_detection_names_operation_and_line():
    x = ag.tensor([0.0, 1.0], requires_grad=True)
    with ag.detect_anomaly(), np.errstate(divide="ignore"):
        with pytest.raises(AnomalyError, match=r"log gave -inf \(1 of 2.*test_tools\.py:\d+"):
            np.log(x)
        bad = ag.custom_vjp(x=lambda g: g * np.inf)(lambda x: x * 1.0)
        y = bad(x)
        with pytest.raises(AnomalyError, match=r"called at .*test_tools\.py:\d+"):
            np.sum(y).backward()
    np.log(x + 1.0)  # and outside nothing is looked at


def test_recomputation_keeps_less_and_gives_the_same():
    import tracemalloc

    x = ag.tensor(np.full(10_000, 0.5), requires_grad=True)

    def block(x):
        for _ in range(8):
            x = np.sin(x)
        return x

    def kept(f):
        x.zero_grad()
        tracemalloc.start()
        y = np.sum(f(f(x)))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        y.backward()
        return held, x.grad.copy()

    plain, expected = kept(block)
    less, got = kept(ag.checkpoint(block))
    assert np.array_equal(got, expected)
    assert less < plain / 4


def test_recomputation_differentiates_to_second_order_and_forward():
    f = ag.checkpoint(lambda x: np.exp(np.sin(x)) * x)
    ag.check_grads(lambda x: np.sum(f(f(x))), X, order=2)


def test_recomputation_replays_random_state():
    from allgrad import nn

    model = nn.Sequential(nn.Linear(6, 6, rng=0), nn.Dropout(0.5), nn.Linear(6, 6, rng=1))
    x = np.random.default_rng(0).standard_normal((4, 6), dtype=np.float32)
    gradients = []
    for run in (model, ag.checkpoint(model)):
        model.zero_grad()
        with nn.random_stream(seed=1, step=2, worker=3):
            np.sum(run(run(x)) ** 2).backward()
        gradients.append([p.grad.copy() for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def graph():
    x, w = ag.tensor(X, requires_grad=True), ag.tensor(2.0, requires_grad=True)
    loss = np.sum(np.sin(x) * w).named("loss")
    return ag.Graph(loss, x=x, w=w), loss


def test_the_graph_as_text_dot_and_mermaid(graph):
    drawn, loss = graph
    assert drawn.text().splitlines()[-1] == "%4 = loss(%3)  () float64"
    loss.backward()
    assert "|grad| = 2" in drawn.text().splitlines()[2].replace("2.83", "2")
    assert drawn.dot().count("->") == 4
    assert drawn.mermaid().count("-->") == 4
    assert 'n0(["x<br/>(2,) float64' in drawn.mermaid()


def test_the_graph_saved(graph, tmp_path):
    drawn, _ = graph
    for suffix, start in ((".dot", "digraph"), (".mmd", "graph TD"), (".txt", "%0 = x"), (".svg", "<svg")):
        drawn.save(tmp_path / f"g{suffix}")
        assert (tmp_path / f"g{suffix}").read_text().startswith(start)
    with pytest.raises(ValueError, match=r"\.jpg"):
        drawn.save(tmp_path / "g.jpg")
    if shutil.which("dot"):
        drawn.save(tmp_path / "g.png")
        assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    else:
        with pytest.raises(FileNotFoundError, match="graphviz"):
            drawn.save(tmp_path / "g.png")


def test_a_freed_or_untracked_graph_is_refused(graph):
    _, loss = graph
    loss.backward()
    with pytest.raises(GraphFreedError):
        ag.Graph(loss * 2.0)
    with pytest.raises(NotDifferentiableError):
        ag.Graph(ag.tensor(1.0))
