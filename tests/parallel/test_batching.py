"""Virtual workers as one batch: exactly the bits of workers that run one by one, and one by one where that is not known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replicas import Objective, digest, train

import allgrad as ag
from allgrad import kernels, nn, optim, parallel
from allgrad.comm import World
from allgrad.nn.precision import apply_precision

portable = pytest.mark.skipif(
    not kernels.portable()[0], reason="only portable kernels give a row the same bits in any batch"
)


SIZES = (16, 13, 5)  # of 13 samples workers get one or two, and of 5 three workers get none
WITH_STATISTICS = {"batch norm": {"sizes": (16, 21)}, "resnet": {"sizes": (17,), "steps": 2}}
"""Batch norm needs at least two samples per worker."""


def trained(model, loss, arrays, *, batched, sizes=SIZES, **options):
    """Train; returns a digest of weights and results, and the replica."""
    objective = loss(model) if isinstance(loss, type) else Objective(model, loss)
    replica, results = train(
        model, World(), loss=objective, arrays=arrays, sizes=sizes, batched_workers=batched, **options
    )
    assert batched == (replica.why_one_by_one(objective) == "")
    return digest(model, [(r.loss, r.counts, sorted(r.unused)) for r in results]), replica


def same_bits(make, loss, arrays, **options):
    """Whether workers that run as a batch give the bits of workers that run one by one."""
    apart, _ = trained(make(), loss, arrays, batched=False, **options)
    return trained(make(), loss, arrays, batched=True, **options)[0] == apart


def vectors(features=7, classes=3, rows=40):
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, features), np.float32), rng.integers(0, classes, rows)


def images():
    rng = np.random.default_rng(2)
    return rng.standard_normal((40, 12, 12, 3), np.float32), rng.integers(0, 4, 40)


def tokens():
    rng = np.random.default_rng(3)
    text = rng.integers(0, 11, (40, 8))
    targets = text[:, 1:].copy()
    targets[rng.random(targets.shape) < 0.2] = -100
    return text[:, :-1], targets


def values():
    rng = np.random.default_rng(4)
    return rng.standard_normal((40, 7), np.float32), rng.standard_normal((40, 3), np.float32)


def recurrent(kind):
    class Reader(nn.Module):
        rows_independent = True

        def __init__(self):
            self.tokens = nn.Embedding(11, 6, padding_index=0, rng=0)
            self.layer = kind(6, 5, num_layers=2, dropout=0.3, bidirectional=True, rng=1)
            self.head = nn.Linear(10, 11, rng=2)

        def forward(self, x):
            return self.head(self.layer(self.tokens(x))[0])

    return Reader


def points():
    rng = np.random.default_rng(5)
    return rng.random((40, 2), np.float32), rng.integers(0, 3, 40)


class Physics:
    """Terms for some of the rows each, of which workers have unequal numbers; with derivatives."""

    rows_independent = True

    def __init__(self, model):
        self.model = model

    def counts(self, part):
        return {name: float(np.count_nonzero(part[1] == kind)) for kind, name in enumerate("abc")}

    def __call__(self, part):
        x, kind = part
        ones = np.ones_like(x)
        terms = {}
        with nn.chosen_rows(kind == 0):
            inside = x[kind == 0]
            u_x = lambda p: ag.jvp(self.model, (p,), (ones[kind == 0],))[1]  # noqa: E731
            u_xx = ag.jvp(u_x, (inside,), (ones[kind == 0],))[1]
            error = u_xx - self.model(inside)
            terms["a"] = nn.batch_sum(error * error)
        with nn.chosen_rows(kind == 1):
            slope = ag.jvp(self.model, (x[kind == 1],), (ones[kind == 1],))[1]
            terms["b"] = nn.batch_sum(slope * slope)
        with nn.chosen_rows(kind == 2):
            y = self.model(x[kind == 2])
            terms["c"] = nn.batch_sum(y * y)
        return terms


cross_entropy = nn.CrossEntropyLoss()

CASES = {
    "mlp with dropout": (lambda: nn.models.MLP([7, 33, 18, 3], dropout=0.3, rng=0), cross_entropy, vectors),
    "label smoothing": (lambda: nn.models.MLP([7, 9, 3], rng=0), nn.CrossEntropyLoss(label_smoothing=0.1), vectors),
    "derivatives in the loss": (
        lambda: nn.models.PINN([2, 9, 5, 1], bounds=[(0, 1), (0, 2)], activation="silu", rng=0), Physics, points,
    ),
    "batch norm": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False, rng=0),
            nn.BatchNorm2d(8, activation="gelu"),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 6, 3, rng=1),
            nn.BatchNorm2d(6, momentum=None),
            nn.AdaptiveAvgPool2d((2, 1)),
            nn.FlatLinear((2, 1, 6), 5, rng=2),
            nn.BatchNorm1d(5, affine=False, track_running_stats=False),
            nn.Linear(5, 4, rng=3),
        ),
        cross_entropy, images,
    ),
    "resnet": (lambda: nn.models.ResNet18(4, widths=(4, 4, 8, 8), rng=0), cross_entropy, images),
    "mse": (lambda: nn.models.MLP([7, 33, 3], activation="gelu", rng=0), nn.MSELoss(), values),
    "huber": (lambda: nn.models.MLP([7, 33, 3], activation="tanh", rng=0), nn.HuberLoss(), values),
    "l1": (lambda: nn.models.MLP([7, 33, 3], activation="silu", rng=0), nn.L1Loss(), values),
    "gpt, tied, rotary": (
        lambda: nn.models.GPT(11, context=7, layers=2, width=16, heads=2, positions="rotary", tied=True, dropout=0.2, rng=0),
        cross_entropy, tokens,
    ),
    "gpt, untied, learned positions, rms": (
        lambda: nn.models.GPT(11, context=9, layers=1, width=16, heads=4, key_heads=2, norm="rms", tied=False, rng=0),
        cross_entropy, tokens,
    ),
    "lstm, tied, dropout": (
        lambda: nn.models.LSTMLanguageModel(11, width=6, layers=2, dropout=0.2, tied=True, rng=0), cross_entropy, tokens,
    ),
    "gru": (recurrent(nn.GRU), cross_entropy, tokens),
    "rnn": (recurrent(nn.RNN), cross_entropy, tokens),
    "lstm, two directions": (recurrent(nn.LSTM), cross_entropy, tokens),
    "cnn": (
        lambda: nn.models.CNN((12, 12, 3), 4, channels=(16, 16), pool=(1, 2), hidden=8, dropout=0.2, rng=0),
        cross_entropy, images,
    ),
    "group norm and transposed convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=3, rng=0),
            nn.GroupNorm(4, 8),
            nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2, rng=1),
            nn.GroupNorm(3, 6, affine=False),
            nn.FlatLinear((9, 9, 6), 4, rng=2),
        ),
        cross_entropy, images,
    ),
    "convolutions of all kinds": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, activation="gelu", rng=0),
            nn.Conv2d(16, 16, 3, padding=1, rng=1),  # Winograd, or not, by the number of a worker's samples
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16, bias=False, rng=2),
            nn.Conv2d(16, 4, 1, rng=3),
            nn.MaxPool2d(3, 1),
            nn.FlatLinear((4, 4, 4), 4, rng=4),
        ),
        cross_entropy, images,
    ),
}  # fmt: skip


@portable
@pytest.mark.parametrize("case", CASES)
def test_the_bits_are_those_of_workers_one_by_one(case):
    make, loss, arrays = CASES[case]
    assert same_bits(make, loss, arrays(), **WITH_STATISTICS.get(case, {}))


@portable
def test_the_bits_in_bfloat16():
    make, loss, arrays = CASES["gpt, tied, rotary"]

    def made():
        model = make()
        apply_precision(model, "bf16", ["head"])
        return model

    assert same_bits(made, loss, arrays())


@portable
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.LAMB, optim.Muon])
@pytest.mark.parametrize("virtual_workers", [2, 3, 7])
def test_the_bits_do_not_depend_on_optimizer_and_number_of_workers(optimizer, virtual_workers):
    make, loss, arrays = CASES["gpt, tied, rotary"]
    assert same_bits(make, loss, arrays(), virtual_workers=virtual_workers, optimizer=optimizer, sizes=(16, 3))


@portable
@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=2, max_size=4),
    activation=st.sampled_from(["relu", "gelu", "gelu_tanh", "silu", "tanh", "elu", "leaky_relu", "softplus", None]),
    norm=st.sampled_from([None, nn.LayerNorm, nn.RMSNorm]),
    dropout=st.sampled_from([0, 0.4]),
    tied=st.booleans(),
    virtual_workers=st.integers(2, 9),
    batches=st.lists(st.integers(1, 24), min_size=1, max_size=2),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_random_models(sizes, activation, norm, dropout, tied, virtual_workers, batches, dtype):
    def make():
        layers, inner = [], 7
        for number, width in enumerate(sizes):
            layers.append(nn.Linear(inner, width, activation=activation, rng=number, dtype=dtype))
            layers.extend([] if norm is None else [norm(width, dtype=dtype)])
            layers.extend([nn.Dropout(dropout)] if dropout else [])
            inner = width
        if tied:
            layers += [nn.Linear(inner, 4, rng=7, dtype=dtype), nn.Linear(4, inner, tied=None, rng=8, dtype=dtype)]
            again = nn.Linear(inner, 4, rng=9, dtype=dtype, bias=False)
            again.weight = layers[-2].weight
            layers.append(again)
            inner = 4
        layers.append(nn.Linear(inner, 3, rng=10, dtype=dtype))
        return nn.Sequential(*layers)

    x, y = values()
    assert same_bits(
        make, nn.MSELoss(), (x.astype(dtype), y.astype(dtype)), virtual_workers=virtual_workers, sizes=batches
    )


def job(ranks_batched):
    from replicas import Objective, digest, train

    from allgrad import comm, nn

    world, made = comm.init(), []
    for batched in ranks_batched:
        model = nn.models.MLP([6, 33, 3], dropout=0.3, rng=0)
        loss = Objective(model, nn.CrossEntropyLoss())
        made.append(digest(model, [r.loss for r in train(model, world, loss=loss, batched_workers=batched)[1]]))
    return made


@portable
@pytest.mark.parametrize("ranks", [3])
def test_ranks_share_the_workers(mpirun, ranks):
    """One hash for any number of ranks, as a batch or one by one."""
    expected = job([False])[0]
    assert mpirun(job, ranks, [True, False]).values == [[expected, expected]] * ranks


@portable
def test_partial_sums_of_linear_layers_take_no_memory():
    """The kernels add the workers up while they compute. The pages of the other gradient arenas are never written."""
    make, loss, arrays = CASES["mlp with dropout"]
    _, replica = trained(make(), loss, arrays(), batched=True)
    assert len(replica.reducer.arenas) > 1
    assert not any(array.any() for arena in replica.reducer.arenas[1:] for array in arena.flat.values())


@portable
def test_a_mistake_in_one_worker_is_found_in_that_worker():
    """The batch fails, so the workers run one by one, and the message speaks of the worker's own rows."""
    make, loss, arrays = CASES["mlp with dropout"]
    x, y = arrays()
    y = y.copy()
    y[13] = 5  # the second sample of worker 6
    model, started = make(), []
    replica = parallel.DataParallel(
        model, World(), virtual_workers=8, before_worker=lambda step, worker: started.append(worker)
    )
    with pytest.raises(ag.errors.AllgradError, match=r"\(1,\)"):
        replica.step(Objective(model, loss), replica.split((x[:16], y[:16])), 0)
    assert started == list(range(7))


class Custom(nn.Linear):
    """A subclass may do anything."""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(nn.Linear(7, 3, rng=0), nn.BatchNorm1d(3).eval()), "BatchNorm1d '1' does not declare"),
        (lambda: nn.Sequential(nn.Linear(7, 3, rng=0), Custom(3, 3, rng=1)), "Custom '1' does not declare"),
        (
            lambda: nn.models.GPT(11, context=7, layers=1, width=8, heads=2, recompute=True, rng=0),
            "GPT does not declare",
        ),
    ],
)
@portable
def test_models_that_run_one_by_one(make, reason):
    model = make()
    replica = parallel.DataParallel(model, World(), virtual_workers=4)
    assert reason in replica.why_one_by_one(Objective(model, cross_entropy))


@portable
def test_what_changes_later_is_noticed():
    """A new forward, a hook, a loss without the declaration."""
    model = nn.Sequential(nn.Linear(7, 3, rng=0))
    replica = parallel.DataParallel(model, World(), virtual_workers=4)
    objective = Objective(model, cross_entropy)
    assert replica.why_one_by_one(objective) == ""
    assert "the loss" in replica.why_one_by_one(lambda part: model(part[0]))
    hook = model[0].weight.register_hook(lambda g: g)
    assert "hook" in replica.why_one_by_one(objective)
    hook()
    model[0].forward = lambda x: x
    assert "Linear '0'" in replica.why_one_by_one(objective)


@portable
def test_a_wrong_declaration_is_found():
    """A parameter that is used by a NumPy call gives one gradient for all workers: an error, not a wrong sum."""

    class Scaled(nn.Module):
        rows_independent = True

        def __init__(self):
            self.factor = nn.Parameter(np.ones(3, np.float32))

        def forward(self, x):
            return x * self.factor

    model = nn.Sequential(nn.Linear(7, 3, rng=0), Scaled())
    replica = parallel.DataParallel(model, World(), virtual_workers=4)
    with pytest.raises(RuntimeError, match="rows_independent"):
        replica.step(Objective(model, cross_entropy), replica.split(vectors()), 0)


@portable
def test_derivatives_in_reverse_mode_inside_the_loss():
    """A batch finds in its first forward pass that it cannot be one, and is not tried again."""
    model, tried = nn.models.PINN([2, 5, 1], rng=0), []

    class Reverse(Physics):
        rows_independent = True

        def __call__(self, part):
            tried.append(len(part[0]))
            slope = ag.grad(lambda p: np.sum(self.model(p)))(part[0])
            return {"b": nn.batch_sum(slope * slope)}

        def counts(self, part):
            return {"b": float(len(part[0]))}

    loss = Reverse(model)
    replica, _ = train(model, World(), loss=loss, arrays=points(), sizes=(8,), steps=2, virtual_workers=4)
    assert tried == [8, 2, 2, 2, 2, 2, 2, 2, 2]
    assert "reverse mode" in replica.why_one_by_one(loss)


class Counter(nn.Module):
    """It changes its buffer, and says wrongly that it treats every sample for itself."""

    rows_independent = True

    def __init__(self):
        self.register_buffer("seen", np.zeros(()), merge="mean")

    def forward(self, x):
        self.seen += len(x)
        return x


@portable
@pytest.mark.parametrize("kind", ["a buffer that is changed", "batch norm that is frozen later"])
def test_what_a_batch_finds_out(kind):
    """It runs one by one from then on, with the same bits."""
    results = []
    for batched in (True, False):
        model = nn.Sequential(nn.Linear(7, 3, rng=0), Counter() if "buffer" in kind else nn.BatchNorm1d(3))
        objective = Objective(model, cross_entropy)
        replica = parallel.DataParallel(model, World(), virtual_workers=4, batched_workers=batched)
        x, y = vectors()
        for step in range(2):
            replica.step(objective, replica.split((x[:14], y[:14])), step)
            if step == 0:
                model[1].eval()
        results.append(digest(model, [p.grad for p in model.parameters()]))
        reason = "changes it, but not by worker" if "buffer" in kind else "BatchNorm1d '1'"
        assert not batched or reason in replica.why_one_by_one(objective)
    assert results[0] == results[1]


@portable
def test_parts_that_do_not_fit_together_run_one_by_one():
    model = nn.models.MLP([7, 3], rng=0)
    started = []
    replica = parallel.DataParallel(
        model, World(), virtual_workers=2, before_worker=lambda step, worker: started.append(worker)
    )
    x, y = vectors()
    replica.step(
        Objective(model, cross_entropy), {0: (x[:3], y[:3]), 1: (x[3:5].reshape(2, 7, 1)[..., 0:1], y[3:5])}, 0
    )
    assert started == [0, 1]


@portable
def test_a_batch_of_no_samples():
    model = nn.models.MLP([7, 3], rng=0)
    replica = parallel.DataParallel(model, World(), virtual_workers=3)
    x, y = vectors()
    with pytest.raises(ValueError, match="no worker has a sample"):
        replica.step(Objective(model, cross_entropy), replica.split((x[:0], y[:0])), 0)
