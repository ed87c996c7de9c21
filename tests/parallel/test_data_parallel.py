"""DataParallel in one process: what a step computes, weighs, leaves alone, and refuses."""

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn, parallel
from allgrad.autodiff.engine import _armed
from allgrad.autodiff.errors import InFlightError, NotDifferentiableError
from allgrad.comm import World


def linear_model():
    return nn.Linear(4, 2, rng=0)


def batch(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((size, 4), dtype=np.float32), rng.standard_normal((size, 2), dtype=np.float32)


def mse(model):
    return lambda part: nn.MSELoss()(model(part[0]), part[1])


def whole_batch_gradient(model, x, y):
    twin = linear_model()
    twin.load_state_dict(model.state_dict())
    nn.MSELoss()(twin(x), y).backward()
    return [p.grad for p in twin.parameters()]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [8, 13, 3, 1])
def test_the_gradient_is_that_of_the_whole_batch(workers, size):
    """Unequal parts and empty workers weigh rightly."""
    model = linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=workers)
    x, y = batch(size)
    expected = whole_batch_gradient(model, x, y)
    result = replica.step(mse(model), replica.split((x, y)), 0)
    for p, g in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=2e-5, atol=1e-6)
    assert np.isclose(result.loss, np.mean((model(x).value - y) ** 2), rtol=1e-5)


class Masked:
    """Counts only some entries: a mean of means would be wrong."""

    def __init__(self, model):
        self.model = model

    def counts(self, part):
        return {"kept": float(np.sum(part[2])), "never": 0.0}

    def __call__(self, part):
        error = (self.model(part[0]) - part[1]) * part[2][:, None]
        return {"kept": np.sum(error * error), "never": np.sum(error) * 0}


def test_terms_are_divided_by_their_counts_over_all_workers():
    model = linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=4)
    x, y = batch(16)
    mask = (np.arange(16) > 9).astype(np.float32)  # the first two workers count nothing
    result = replica.step(Masked(model), replica.split((x, y, mask)), 0)
    twin = linear_model()
    error = twin(x[10:]) - y[10:]
    (np.sum(error * error) / 6.0).backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-5, atol=1e-6)
    assert result.counts == {"kept": 6.0, "never": 0.0}
    assert set(result.terms) == {"kept"}


class Branches(nn.Module):
    """Which branch a part takes depends on its data; `never` is not used at all."""

    def __init__(self):
        self.a, self.b, self.never = (nn.Linear(4, 2, bias=False, rng=i) for i in range(3))

    def forward(self, x):
        return self.a(x) if x[0, 0] > 0 else self.b(x)


@pytest.mark.parametrize(("nodes", "sizes"), [(1, [0.5, 2.5]), (2, [0.5, 1.0, 1.0, 0.5])])
def test_buckets_are_small_where_they_travel_between_nodes(nodes, sizes):
    world = World()
    world.nodes = nodes
    model = nn.Sequential(*(nn.Linear(512, 256, bias=False, rng=i) for i in range(6)))  # of half a MiB each
    replica = parallel.DataParallel(model, world, memory="rank")
    assert [bucket.nbytes / parallel.buckets.MIB for bucket in replica.reducer.buckets] == sizes


def test_parameters_that_some_or_no_workers_use():
    """A parameter that no worker used has no gradient, and one that some used has zeros from the others."""
    model = Branches()
    replica = parallel.DataParallel(model, World(), virtual_workers=2, bucket_mb=1e-5)
    x, y = batch(8)
    x[:4, 0], x[4:, 0] = 1, -1
    result = replica.step(mse(model), replica.split((x, y)), 0)
    assert result.unused == {"never.weight"}
    assert model.never.weight.grad is None
    for branch, rows in ((model.a, slice(0, 4)), (model.b, slice(4, 8))):
        expected = x[rows].T @ (2 * (x[rows] @ branch.weight.value - y[rows])) / 16
        np.testing.assert_allclose(branch.weight.grad, expected, rtol=1e-5, atol=1e-6)
    x[:, 0] = 1  # now nobody takes b: what stands in its memory from before must not come back
    result = replica.step(mse(model), replica.split((x, y)), 1)
    assert result.unused == {"b.weight", "never.weight"}
    assert model.b.weight.grad is None


class Recording(nn.Module):
    """A module with a buffer of each kind that every forward writes."""

    def __init__(self):
        self.layer = nn.Linear(4, 2, rng=0)
        self.register_buffer("mean", np.zeros(4, np.float32), merge="mean")
        self.register_buffer("calls", np.zeros((), np.int64), merge="last")
        self.seen = []

    def forward(self, x):
        self.seen.append((self.mean.copy(), int(self.calls)))
        self.mean += np.mean(x, axis=0)
        self.calls += 1
        return self.layer(x)


def test_buffers_do_not_leak_from_worker_to_worker():
    """Each worker starts from the state at the opening of the step."""
    model = Recording()
    replica = parallel.DataParallel(model, World(), virtual_workers=4)
    x, y = batch(12)
    replica.step(mse(model), replica.split((x, y)), 0)
    assert all(np.array_equal(mean, np.zeros(4)) and calls == 0 for mean, calls in model.seen)
    np.testing.assert_allclose(model.mean, np.mean(x, axis=0), rtol=1e-5, atol=1e-6)
    assert model.calls == 1
    replica.step(mse(model), replica.split((x[:2], y[:2])), 1)  # two of four workers are empty, and have no say
    np.testing.assert_allclose(model.mean, np.mean(x, axis=0) + np.mean(x[:2], axis=0), rtol=1e-5, atol=1e-6)


def test_accumulation_under_no_sync_adds_up():
    model = linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=3)
    parts = [batch(7, seed) for seed in range(3)]
    expected = [sum(gs) for gs in zip(*(whole_batch_gradient(model, *part) for part in parts), strict=True)]
    with replica.no_sync():
        for i in range(2):
            replica.step(mse(model), replica.split(parts[i]), i)
    replica.step(mse(model), replica.split(parts[2]), 2)
    for p, g in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=2e-5, atol=1e-6)
    replica.step(mse(model), replica.split(parts[0]), 3)  # and the next step starts anew
    for p, g in zip(model.parameters(), whole_batch_gradient(model, *parts[0]), strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=2e-5, atol=1e-6)


def test_a_step_is_the_same_bits_again():
    digests = set()
    for _ in range(2):
        model = nn.Sequential(nn.Linear(4, 8, rng=0), nn.Dropout(0.5), nn.Linear(8, 2, rng=1))
        replica = parallel.DataParallel(model, World(), virtual_workers=4, seed=7)
        replica.step(mse(model), replica.split(batch(9)), 5)
        digests.add(b"".join(p.grad.tobytes() for p in model.parameters()))
    assert len(digests) == 1


@pytest.mark.parametrize("workers", range(1, 9))
def test_gradient_arenas_are_within_the_bound(workers):
    replica = parallel.DataParallel(linear_model(), World(), virtual_workers=workers)
    assert len(replica.reducer.arenas) <= int(np.log2(workers)) + 2
    if workers == 1:
        assert len(replica.reducer.arenas) == 1


def test_gradients_are_views_of_one_flat_array():
    model = linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=2)
    replica.step(mse(model), replica.split(batch(4)), 0)
    (flat,) = replica.flat.grads.flat.values()
    assert all(np.shares_memory(p.grad, flat) for p in model.parameters())


def test_a_gradient_in_flight_is_not_written():
    """The engine makes a bucket's arrays read-only; the tape says what that means."""
    w = ag.tensor([1.0, 2.0], requires_grad=True)
    memory = np.zeros(2)
    w.bind(grad=memory)
    np.sum(w * w).backward()
    memory.flags.writeable = False
    with pytest.raises(InFlightError, match="no_sync"):
        np.sum(w * w).backward()
    with pytest.raises(InFlightError, match="reduced"):
        w.zero_grad()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"virtual_workers": 0}, ValueError, "leaf|virtual"),
        ({"comm": "carrier pigeon"}, ValueError, "polling"),
        ({"weights": "trust me"}, ValueError, "verify"),
        ({"reduction": "guess"}, ValueError, "exact"),
    ],
)
def test_bad_arguments(change, error, words):
    with pytest.raises(error, match=words):
        parallel.DataParallel(linear_model(), World(), **change)


def test_bad_steps():
    model = linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=2)
    x, y = batch(4)
    with pytest.raises(ValueError, match=r"workers \[0, 1\]"):
        replica.step(mse(model), {0: (x, y)}, 0)
    with pytest.raises(ValueError, match="no worker has a sample"):
        replica.step(mse(model), {0: None, 1: None}, 0)
    with pytest.raises(TypeError, match="counts"):
        replica.step(lambda part: {"a": model(part[0]).sum()}, replica.split((x, y)), 0)
    with pytest.raises(TypeError, match="single number"):
        replica.step(lambda part: model(part[0]), replica.split((x, y)), 0)
    with pytest.raises(ValueError, match="equally long"):
        replica.split((x, y[:2]))


def state_of(model):
    return b"".join(array.tobytes() for array in model.state_dict().values())


@pytest.mark.parametrize("where", ["forward", "backward", "counts", "untracked"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_step_that_fails_leaves_nothing_behind(where, workers):
    """No armed events, no gradient, no accumulated part, no half-moved buffer."""

    def run(fail):
        model = nn.Sequential(nn.Linear(4, 3, rng=0), nn.BatchNorm1d(3), nn.Linear(3, 2, rng=1))
        replica = parallel.DataParallel(model, World(), virtual_workers=workers, bucket_mb=1e-5)
        seen = []

        class Loss:
            def counts(self, part):
                if where == "counts" and fail:
                    raise KeyError("labels")
                return {"loss": float(len(part[0]))}

            def __call__(self, part):
                hidden = model[1](model[0](part[0]))
                seen.append(len(part[0]))
                if len(seen) == workers and fail:  # the last worker
                    if where == "forward":
                        raise KeyError("labels")
                    if where == "untracked":  # the events are armed, and backward() refuses
                        return {"loss": np.sum(hidden.detach())}
                    hidden.register_hook(lambda _: {}["labels"])
                return {"loss": np.sum((model[2](hidden) - part[1]) ** 2)}

        if fail:
            before, opening = state_of(model), model.buffers_state()
            with replica.no_sync():
                replica.step(mse(model), replica.split(batch(7)), 0)
            model.load_buffers_state(opening)
            with pytest.raises((KeyError, NotDifferentiableError), match=r"labels|no gradient flows"):
                replica.step(Loss(), replica.split(batch(9)), 0)
            assert all(p.grad is None for p in model.parameters())
            assert state_of(model) == before
            assert _armed.get() == ()  # or the next backward would post buckets
        replica.step(mse(model), replica.split(batch(9)), 0)
        return state_of(model), [p.grad.tobytes() for p in model.parameters()]

    assert run(fail=True) == run(fail=False)


def test_a_backward_inside_the_loss_adds_to_the_gradient():
    """The events are armed for the one backward that ends the worker, whatever the loss does before."""
    model, twin = linear_model(), linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=2, bucket_mb=1e-5)
    x, y = batch(8)

    def loss(part):
        out = model(part[0])
        np.sum(out * out).backward(retain_graph=True)
        return nn.MSELoss()(out, part[1])

    replica.step(loss, replica.split((x, y)), 0)
    out = twin(x)
    (np.sum(out * out) + nn.MSELoss()(out, y)).backward()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad, rtol=1e-5, atol=1e-5)


def test_under_no_sync_no_gradient_is_shown():
    model = linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=2)
    with replica.no_sync():
        replica.step(mse(model), replica.split(batch(4)), 0)
        assert all(p.grad is None for p in model.parameters())


def test_two_models_take_turns():
    models = [linear_model(), nn.Linear(4, 2, rng=5)]
    replicas = [parallel.DataParallel(model, World(), virtual_workers=3) for model in models]
    for _ in range(2):
        for model, replica in zip(models, replicas, strict=True):
            replica.step(mse(model), replica.split(batch(7)), 0)
    for model in models:
        x, y = batch(7)
        np.testing.assert_allclose(model.weight.grad, x.T @ (model(x).value - y) / 7, rtol=1e-4, atol=1e-5)


class Mixed(nn.Module):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.single = nn.Parameter(rng.standard_normal((4, 3)).astype(np.float32))
        self.double = nn.Parameter(rng.standard_normal((3, 2)))

    def forward(self, x):
        return np.tanh(x @ self.single) @ self.double


def test_float32_and_float64_side_by_side():
    model, twin = Mixed(), Mixed()
    replica = parallel.DataParallel(model, World(), virtual_workers=3)
    x, y = batch(8)
    replica.step(mse(model), replica.split((x, y)), 0)
    nn.MSELoss()(twin(x), y).backward()
    assert (model.single.grad.dtype, model.double.grad.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(model.single.grad, twin.single.grad, rtol=1e-5)
    np.testing.assert_allclose(model.double.grad, twin.double.grad, rtol=1e-6)


def test_complex_parameters_are_refused():
    model = linear_model()
    model.phase = nn.Parameter(np.ones(3, np.complex128))
    with pytest.raises(TypeError, match=r"phase \(complex128\).*two real ones"):
        parallel.DataParallel(model, World())


def replace(model):
    model.weight = nn.Parameter(np.zeros((4, 3), np.float32))


def add(model):
    model.extra = nn.Linear(2, 2, rng=0)


def remove(model):
    del model.bias


def rebind(model):
    model.weight.value = np.zeros((4, 2), np.float32)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replace, r"weight was replaced \(shape \(4, 2\), now \(4, 3\)\)"),
        (add, "extra.weight is new; extra.bias is new"),
        (remove, "bias is gone"),
        (rebind, "weight was given other memory"),
    ],
)
def test_parameters_that_change_are_named(change, words):
    model = linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=2)
    model.note = "other attributes may come and go"
    replica.step(mse(model), replica.split(batch(4)), 0)
    change(model)
    with pytest.raises(ValueError, match=words):
        replica.step(mse(model), replica.split(batch(4)), 1)


def test_terms_must_be_tensors():
    model = linear_model()
    replica = parallel.DataParallel(model, World())

    class Loss:
        counts = staticmethod(lambda part: {"a": 1.0})
        __call__ = staticmethod(lambda part: {"a": 0.0})

    with pytest.raises(TypeError, match=r"terms of a loss must be Tensors.*Got float"):
        replica.step(Loss(), replica.split(batch(4)), 0)


class OneEach(Masked):
    """Each worker has one of two terms; of the second nobody counts anything."""

    def counts(self, part):
        return {"a": float(len(part[0]))} if part[0][0, 0] > 0 else {"b": 0.0}

    def __call__(self, part):
        error = self.model(part[0]) - part[1]
        return {name: np.sum(error * error) for name in self.counts(part)}


def test_a_worker_whose_terms_count_nothing_has_no_say():
    model = linear_model()
    replica = parallel.DataParallel(model, World(), virtual_workers=2)
    x, y = batch(8)
    x[:4, 0], x[4:, 0] = 1, -1
    result = replica.step(OneEach(model), replica.split((x, y)), 0)
    assert result.counts == {"a": 4.0, "b": 0.0}
    np.testing.assert_allclose(
        model.weight.grad, x[:4].T @ (2 * (model(x[:4]).value - y[:4])) / 4, rtol=1e-5, atol=1e-6
    )


def test_times_can_be_left_out():
    model = linear_model()
    for record in (True, False):
        replica = parallel.DataParallel(model, World(), record=record)
        result = replica.step(mse(model), replica.split(batch(4)), 3)
        assert (result.times is not None) is record
        if record:
            assert result.times.step == 3
            assert result.times.start < result.times.computed <= result.times.end


class Backwards(nn.Module):
    """Uses its layers in the opposite order of their registration."""

    def __init__(self):
        self.last, self.first = nn.Linear(4, 2, rng=0), nn.Linear(4, 4, rng=1)

    def forward(self, x):
        return self.last(self.first(x))


def test_the_order_of_posting_is_found_where_there_is_a_backward_to_find_it_in():
    model = Backwards()
    replica = parallel.DataParallel(model, World(), virtual_workers=2, bucket_mb=1e-5, first_bucket_mb=1e-5)
    reducer = replica.reducer
    reducer.order_agreed = False  # as at the start of a job of several ranks
    guess = list(reducer.order)
    x, y = batch(2)
    replica.step(mse(model), {0: (x, y), 1: (x[:0], y[:0])}, 0)  # the last worker, whose backward posts, has no sample
    assert not reducer.order_agreed
    assert reducer.order == guess
    replica.step(mse(model), replica.split(batch(2)), 1)
    assert reducer.order_agreed
    labels = [reducer.buckets[i].label for i in reducer.order]
    assert "last" in labels[0]
    assert "first" in labels[-1]
    assert reducer.order != guess
