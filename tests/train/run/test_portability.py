"""What `summary.json` says of portability: from what the first step recorded, and from a plugin's source; never by guessing."""

import json
import textwrap
import warnings

import numpy as np
import pytest
from small_run import write_config

import allgrad as ag
from allgrad import kernels, nn
from allgrad.autodiff.recorded import recorded_operations
from allgrad.train.run.build import Options, new_run, resume_run
from allgrad.train.run.plugin_source import source_reasons
from allgrad.train.run.portability import Portability
from allgrad.train.run.portable_operations import not_portable

pytest.importorskip("numba", reason="only the numba kernels are portable")

PLUGIN = """
import numpy as np
from allgrad import nn
from allgrad.train import register_model

class Mine(nn.Module):
    def __init__(self, inputs, rng):
        self.layer = nn.Linear(inputs, 1, rng=rng)
        self.table = {table}
    def forward(self, x):
        return {result}

@register_model("mine")
def mine(info, rng):
    return Mine(info.input_shape[0], rng)
"""


@pytest.fixture(autouse=True)
def the_numba_kernels():
    before = kernels.active().name
    kernels.use("numba")
    yield
    kernels.use(before)


def summary(tmp_path, *overrides, plugin=None):
    options = Options(single=True)
    config = write_config(tmp_path)
    if plugin is not None:
        file = tmp_path / "my_plugin.py"
        file.write_text(plugin)
        options = Options(single=True, plugins=[file])
        overrides = (*overrides, "model=mine")
    short = ["train.steps=2", "train.eval_every=2", f"run.dir={tmp_path}/run", "logging.progress=none"]
    trainer, directory = new_run(config, [*short, *overrides], options)
    trainer.run(directory)
    return json.loads((directory / "summary.json").read_text())


def test_a_run_of_allgrads_own_layers_is_portable(tmp_path):
    found = summary(tmp_path)
    assert found["portable"] is True
    assert found["not_portable_because"] == []


def test_the_numpy_kernels_are_not(tmp_path):
    kernels.use("numpy")
    found = summary(tmp_path)
    assert found["portable"] is False
    assert "NumPy kernels" in found["not_portable_because"][0]


def test_an_exchange_whose_order_is_not_fixed(tmp_path):
    assert "parallel.reduction: mpi" in summary(tmp_path, "parallel.reduction=mpi")["not_portable_because"][0]


def test_a_model_of_a_plugin_from_layers_and_exact_functions(tmp_path):
    plugin = PLUGIN.format(table="np.arange(3.0)", result="np.maximum(self.layer(x), 0) ** 2")
    assert summary(tmp_path, plugin=plugin)["portable"] is True


def test_numpys_exp_on_the_tape(tmp_path):
    plugin = PLUGIN.format(table="getattr(np, 'ex' + 'p')", result="self.table(self.layer(x))")
    (reason,) = summary(tmp_path, plugin=plugin)["not_portable_because"]
    assert "computes exp outside of allgrad.nn" in reason


def test_numpys_sin_of_plain_arrays(tmp_path):
    plugin = PLUGIN.format(table="np.sin(np.arange(6, dtype=np.float32))", result="self.layer(x * self.table)")
    assert summary(tmp_path, plugin=plugin)["not_portable_because"] == ["my_plugin.py, line 9, uses np.sin"]


def test_the_verdict_of_an_earlier_part_stays(tmp_path):
    kernels.use("numpy")
    config = write_config(tmp_path)
    trainer, directory = new_run(config, ["train.steps=2", f"run.dir={tmp_path}/run"], Options(single=True))
    trainer.run(directory)
    kernels.use("numba")
    trainer, directory, _ = resume_run(directory, ["train.steps=3"], Options(single=True))
    assert trainer.run(directory)["portable"] is False


def test_recomputed_regions_and_inner_transforms_are_seen():
    w = ag.tensor(np.ones(3), requires_grad=True)
    with recorded_operations() as found:
        np.sum(ag.checkpoint(lambda v: np.log(v))(w)).backward()
    assert not_portable(found) == ["log"]
    with recorded_operations() as found:
        ag.grad(lambda v: np.sum(np.tanh(v)))(np.ones(2))
    assert not_portable(found) == ["tanh"]


def test_a_users_own_rule_is_not_known_to_be_portable():
    twice = ag.custom_vjp(x=lambda g: g * 2)(lambda x: x * 2)
    with recorded_operations() as found:
        np.sum(twice(ag.tensor(np.ones(3), requires_grad=True))).backward()
    assert len(not_portable(found)) == 1


def test_second_derivatives_of_layers_stay_in_the_kernels():
    model = nn.Sequential(
        nn.Linear(2, 5, activation="gelu", rng=0), nn.Softmax(), nn.Linear(5, 1, activation="tanh", rng=1)
    )
    x = np.ones((4, 2), np.float32)
    with recorded_operations() as found:
        slope = ag.jvp(model, (x,), (np.ones_like(x),))[1]
        np.sum(slope * slope).backward()
    assert not_portable(found) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("y = x @ w", "multiplies matrices with @"),
        ("y = x ** 3", "computes a power other than a square"),
        ("y = math.exp(2)", "uses math.exp"),
        ("y = np.linalg.norm(x)", "uses np.linalg"),
        ("y = x.dot(x)", "uses .dot"),
        ("y = rng.normal(size=3)", "uses .normal"),
        ("import helper", "imports helper"),
        ("from numpy import cos", "uses numpy.cos"),
        ("y = np.sum(x ** 2) + math.sqrt(2) + 2 ** 31 + nn.init.normal((3,), 0)", None),
    ],
)
def test_reading_a_plugin(line, reason):
    found = source_reasons("p.py", textwrap.dedent(f"import math\nimport numpy as np\n{line}\n"))
    assert found == [] if reason is None else reason in found[0]


class TwoRanks:
    """A world of two ranks whose CPUs differ, seen from rank 0."""

    size, rank = 2, 0

    def __init__(self, reasons):
        self.reasons, self.compared = reasons, []

    def all_gather_json(self, value):
        return [value, self.reasons]

    def verify(self, properties, *, tolerate=()):
        self.compared.append(set(properties))
        assert set(properties) == set(tolerate) == {"CPU", "BLAS kernel"}
        warnings.warn("Ranks differ", RuntimeWarning, stacklevel=2)


def test_cpus_are_compared_only_if_they_matter(tmp_path):
    trainer, _ = new_run(write_config(tmp_path), [f"run.dir={tmp_path}/run"], Options(single=True))
    portable, not_portable_there = TwoRanks([]), TwoRanks(["something"])
    Portability(trainer.config, trainer.replica.exchange, []).settle(portable)
    assert portable.compared == []
    other = Portability(trainer.config, trainer.replica.exchange, [])
    with pytest.warns(RuntimeWarning, match="Ranks differ"):
        other.settle(not_portable_there)
    assert other.reasons == ["something"]
