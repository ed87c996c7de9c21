"""`y += v`, `y[...] = v`, `out=y`, `y.sort()` gave the name y a new value, where NumPy changes the array and all its views."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allgrad as ag
from allgrad.autodiff.errors import AssignmentError, LostGradientError, NoRuleError

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
V = np.array([0.5, -1.5, 2.0])


def augmented(y, v):
    h, t = y[:1], y.T
    y += v
    y -= 0.5 * v
    y *= v
    y /= 2.0
    h **= 2.0
    t[0] = 7.0 * v[:2]
    y[:, :2] @= np.array([[1.0, 2.0], [0.5, 1.0]])
    return h


def through_views(y, v):
    flat = y.reshape(-1)
    flat[1::2] *= v
    y[::-1, 1:][0] = v[:2]
    np.swapaxes(y, 0, 1)[2] += 1.0
    y.ravel()[3:5] = flat[0]
    np.squeeze(y[:, None])[0, 0] = v[2]
    return flat


def shifted(y, v):
    y[1:] = y[:-1]
    y[:, 1:] = y[:, :-1] * v[1:]
    return y[0]


def sorted_in_place(y, v):
    rows = y[1]
    y *= -v
    y.sort()
    y.T.sort(axis=1)
    rows.partition(1)
    return rows


def into_out(y, v):
    np.add(y[0], v, out=y[1])
    np.sin(y, out=y, where=np.array([True, False, True]))
    np.sum(y, axis=0, out=y[0])
    np.clip(y, None, 2.0, out=y)
    np.modf(y[1] * 1.5, out=(y[1], None))
    np.cumsum(v, out=y[1])
    return y[0]


def by_functions(y, v):
    np.add.at(y, ([0, 0, 1], [1, 1, 2]), v)
    np.subtract.at(y, 1, v)
    np.multiply.at(y, ([0, 0], [0, 0]), v[:2])
    np.negative.at(y, ([1, 1, 1], [0, 1, 0]))
    np.copyto(y, v, where=np.array([[True], [False]]))
    np.put(y, [-1, 1], v[:2] * y[0, 0])
    np.place(y, np.eye(2, 3, dtype=bool), v)
    np.putmask(y, X > 4.0, y * 2.0)
    np.fill_diagonal(y, v[0])
    np.put_along_axis(y, np.array([[0], [2]]), v[:1] ** 2, axis=1)
    y[1].fill(v[1])
    return y


def rows_and_chains(y, v):
    for row in y:
        row *= v
        row[1:][0] = row[0]
    y[0][1] = v[0]
    y[[0, 1]][0] = 100.0  # fancy indexing copies
    y[y > 3.0] *= 0.5
    return y


def helper(y, v):
    def accumulate(buffer, x):
        buffer += x

    total = np.zeros_like(y)
    for _ in range(3):
        accumulate(total, y * v)
    accumulate(total[0], v)
    return total


PROGRAMS = [augmented, through_views, shifted, sorted_in_place, into_out, by_functions, rows_and_chains, helper]


def run(program, x, v):
    """The program's effect on everything that it can see, as one number per entry."""
    y = x * 1.0
    alias, view = y, y[:, 1:]
    result = program(y, v * 1.0)
    return np.concatenate([np.ravel(part) for part in (y, alias * 2.0, view, result)])


@pytest.mark.parametrize("program", PROGRAMS)
def test_values_are_those_of_numpy_itself(program):
    got = ag.vjp(lambda x, v: run(program, x, v), X, V)[0]
    np.testing.assert_allclose(got, run(program, X, V))
    got = ag.jvp(lambda x, v: run(program, x, v), (X, V), (X, V))[0]
    np.testing.assert_allclose(got, run(program, X, V))


@pytest.mark.parametrize("program", PROGRAMS)
def test_derivatives_in_both_modes_to_second_order(program):
    ag.check_grads(lambda x, v: np.sin(run(program, x, v)), X + 0.1, V, order=2)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_callers_arrays_stay_as_they_are(program):
    x, v = X.copy(), V.copy()

    def f(x, v):
        program(x, v)
        return np.sum(x)

    ag.grad(f, (0, 1))(x, v)
    ag.jvp(f, (x, v), (x, v))
    ag.vjp(f, x, v)[1](1.0)
    assert np.array_equal(x, X)
    assert np.array_equal(v, V)
    ag.check_grads(f, X + 0.1, V, order=1)


def test_arguments_written_inside_a_nested_transform():
    def f(x):
        def inner(y):
            y[0] *= 3.0
            view = y[1:]
            view += x[:1]
            return np.sum(y**3)

        return np.sum(ag.grad(inner)(x) * x)

    ag.check_grads(f, np.array([1.0, 2.0, 3.0]), order=2)


def test_a_dual_of_a_leaf_may_be_written():
    w = ag.tensor([1.0, 2.0], requires_grad=True)

    def f(x):
        x[0] = x[1] * x[0]
        return np.sum(x)

    value, tangent = ag.jvp(f, (w,), (np.ones(2),))
    tangent.backward()
    assert (value.item(), w.tolist(), w.grad.tolist()) == (4.0, [1.0, 2.0], [1.0, 1.0])


def test_scalars_cannot_change():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    total = np.sum(x)
    alias = total
    total += 1.0
    assert (alias.item(), total.item()) == (3.0, 4.0)
    first = x[0] * 1.0
    kept = first
    first *= 10.0
    assert (kept.item(), first.item()) == (1.0, 10.0)
    array = ag.tensor(1.0)  # an array of rank 0, as np.array(1.0) is
    alias = array
    array += 1.0
    assert alias.item() == 2.0


def test_parameters_follow_gradient_descent():
    p, reference = ag.tensor(X, requires_grad=True), X.copy()
    row = p[0]
    for _ in range(3):
        p.zero_grad()
        np.sum(p * p * p).backward()
        with ag.no_grad():
            p -= 0.01 * p.grad
        reference -= 0.01 * 3 * reference**2
    np.testing.assert_allclose(p.value, reference)
    assert p.is_leaf
    with ag.no_grad():
        p[0] = 0.0
        p.T[2] *= 2.0
        np.copyto(p[1, :1], 5.0)
        np.add(p, 1.0, out=p)
    reference[0] = 0.0
    reference.T[2] *= 2.0
    reference[1, :1] = 5.0
    reference += 1.0
    np.testing.assert_allclose(p.value, reference)
    np.testing.assert_allclose(row.value, reference[0])


def test_writing_a_parameter_between_forward_and_backward_is_found():
    p = ag.tensor([1.0, 2.0], requires_grad=True)
    loss = np.sum(p.reshape(2, 1) ** 2)
    with ag.no_grad():
        p[:1] *= 0.5
    with pytest.raises(ag.autodiff.errors.SavedArrayError, match="leaf"):
        loss.backward()


def _set(t):
    t[0] = 1.0


def _add(t):
    t += 1.0


@pytest.mark.parametrize("write", [_set, _add, lambda t: t.sort(), lambda t: np.exp(t, out=t), lambda t: t.fill(0.0)])
def test_a_leaf_is_refused_while_recording(write):
    p = ag.tensor([2.0, 1.0], requires_grad=True)
    for target in (p, p[:2], p.reshape(1, 2)[0]):
        with pytest.raises(AssignmentError, match="no_grad"):
            write(target)
    assert p.tolist() == [2.0, 1.0]


def test_what_cannot_be_is_refused_with_words():
    y = ag.tensor([1.0, 2.0], requires_grad=True) * 1.0
    plain = np.zeros(2)
    for call in (lambda: np.add(y, 1.0, out=plain), lambda: plain.__iadd__(y)):
        with pytest.raises(NoRuleError, match=r"ag\.tensor\(a\)"):
            call()
    for call in (lambda: np.add.at(plain, [0], y[:1]), lambda: np.copyto(plain, y), lambda: np.put(plain, 0, y[0])):
        with pytest.raises(LostGradientError, match="plain array"):
            call()
    with pytest.raises(AssignmentError, match="read-only"):
        np.broadcast_to(y, (3, 2))[0] = 1.0
    with pytest.raises(AssignmentError, match="no_grad"), ag.no_grad():
        y[0] = 1.0
    counts = ag.tensor([1, 2])
    with pytest.raises(TypeError, match="cast"):
        counts += 0.5
    with pytest.raises(LostGradientError, match="astype"):
        counts[0] = y[0]
    with pytest.raises(ValueError, match="broadcast"):
        y += np.ones((3, 2))
    assert y.tolist() == [1.0, 2.0]


def test_constants_and_integers_are_written_too():
    counts = ag.tensor([3, 1, 2])
    view = counts[1:]
    counts += 1
    counts.sort()
    assert view.tolist() == [3, 4]
    plain = np.zeros(3)
    assert np.add(np.ones(3), 1.0, out=plain) is plain
    np.add(ag.tensor(np.ones(3)), 1.0, out=plain)
    assert plain.tolist() == [2.0, 2.0, 2.0]


def test_real_and_imaginary_parts_are_views():
    def f(x, v):
        z = x * (1.0 + 2.0j)
        z.real[0] = v
        z.imag *= 2.0
        z.real = z.imag + z.real
        return np.concatenate([np.real(z), np.imag(z)])

    np.testing.assert_allclose(ag.vjp(f, V, 3.0)[0], f(V, 3.0))
    ag.check_grads(f, V, 3.0)


def test_a_view_made_under_no_grad_stays_a_constant():
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1.0
    with ag.no_grad():
        seen = y[:1]
    y *= 2.0
    assert seen.tolist() == [2.0]
    assert not seen.requires_grad
    with pytest.raises(AssignmentError, match="no_grad"):
        seen += 1.0


def test_a_detached_tensor_is_independent():
    y = ag.tensor([1.0, 2.0], requires_grad=True) * 1.0
    d = y.detach()
    d[0] = 9.0
    y[1] = 5.0
    assert (y.tolist(), d.tolist()) == ([1.0, 5.0], [9.0, 2.0])


# Random programs of views and writes, against PyTorch for the derivatives and NumPy for the values.

VIEWS = {
    "rows": (lambda a: a[1:], lambda a: a.ndim > 0 and a.shape[0] > 1),
    "every other": (lambda a: a[::2], lambda a: a.ndim > 0 and a.shape[0] > 0),
    "columns": (lambda a: a[..., :1], lambda a: a.ndim > 1 and a.shape[-1] > 0),
    "one row": (lambda a: a[0], lambda a: a.ndim > 1 and a.shape[0] > 0),
    "transposed": (lambda a: a.T, lambda a: a.ndim == 2),
    "new axis": (lambda a: a[None], lambda a: a.ndim < 3),
    "flat": (lambda a: a.reshape(-1), lambda a: a.ndim > 0),
}
WRITES = ["+=", "*=", "set", "set from another", "-= another"]


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from([*VIEWS, *WRITES]), st.integers(0, 99), st.integers(0, 99)), max_size=14)
)
def test_random_programs_against_torch_and_numpy(steps):
    torch = pytest.importorskip("torch", reason="the peer for derivatives through views and writes")

    def play(x):
        arrays = [x * 1.0]
        for name, first, second in steps:
            a, b = arrays[first % len(arrays)], arrays[second % len(arrays)]
            if name in VIEWS:
                view, fits = VIEWS[name]
                # reshape copies where a view is not possible, which depends on memory that torch lays out differently
                if fits(a) and not (name == "flat" and a.ndim > 1 and not contiguous(a)):
                    arrays.append(view(a))
                continue
            number = 0.25 + first / 50
            if name == "+=":
                a += number
            elif name == "*=":
                a *= number
            elif name == "set":
                a[...] = number
            elif a.shape == b.shape and a is not b:
                if name == "set from another":
                    a[...] = b * number
                else:
                    a -= b * number
        return arrays

    def contiguous(a):
        if isinstance(a, torch.Tensor):
            return a.is_contiguous()
        return (a.value if isinstance(a, ag.Tensor) else a).flags.c_contiguous

    start = np.arange(6.0).reshape(2, 3) / 3.0 + 0.5
    expected = play(start)
    for leaf in (ag.tensor(start, requires_grad=True),):
        ours = play(leaf)
        for got, wanted in zip(ours, expected, strict=True):
            np.testing.assert_allclose(got.value, wanted)
        np.sum(np.stack([np.sum(np.sin(a) * (i + 1.0)) for i, a in enumerate(ours)])).backward()
        peer = torch.tensor(start, requires_grad=True)
        sum((torch.sin(a) * (i + 1.0)).sum() for i, a in enumerate(play(peer))).backward()
        np.testing.assert_allclose(leaf.grad, peer.grad.numpy(), rtol=1e-10, atol=1e-12)
    tangent = ag.jvp(lambda x: [np.sin(a) for a in play(x)], (start,), (np.ones((2, 3)),))[1]
    total = sum((i + 1.0) * np.sum(t) for i, t in enumerate(tangent))
    np.testing.assert_allclose(total, np.sum(leaf.grad), rtol=1e-9)
