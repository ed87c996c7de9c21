"""What all optimizers share: groups, runs, skipped parameters, shards, saved state."""

import json

import numpy as np
import pytest

import allgrad as ag
from allgrad import nn, optim
from allgrad.memory import flatten
from allgrad.stateful import Stateful

ALL = [
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("Adam", {}),
    ("AdamW", {}),
    ("Lion", {}),
    ("LAMB", {}),
    ("LARS", {"lr": 0.1}),
    ("Adafactor", {}),
]
each = pytest.mark.parametrize(("name", "options"), ALL)
MATRICES = {"w": (4, 3), "v": (3, 3)}


def make(name, ours, **options):
    return getattr(optim, name)(list(ours.items()), **options)


def drive(optimizer, ours, give, seed, steps=3, **step):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        give(ours, {n: rng.normal(size=t.shape).astype(t.dtype) for n, t in ours.items()})
        optimizer.step(**step)


def copies(ours):
    return {n: ag.tensor(t.value, requires_grad=True) for n, t in ours.items()}


def bits(ours):
    return b"".join(t.value.tobytes() for t in ours.values())


@each
def test_resume_gives_the_same_bits(leaves, give, name, options):
    ours = leaves(np.float32)
    optimizer = make(name, ours, **options)
    drive(optimizer, ours, give, 1)
    state = optimizer.state_dict()
    rest = json.loads(json.dumps({k: v for k, v in state.items() if k != "parameters"}))
    saved = {**rest, "parameters": state["parameters"]}
    later = copies(ours)
    resumed = make(name, later, **options)
    resumed.load_state_dict(saved)
    drive(optimizer, ours, give, 2)
    drive(resumed, later, give, 2)
    assert bits(ours) == bits(later)


@each
def test_skipped_parameters_stand_still(leaves, give, name, options):
    ours = leaves()
    optimizer = make(name, ours, weight_decay=0.1, **options)
    drive(optimizer, ours, give, 1)
    before = optimizer.state_dict()["parameters"]["b"]
    value, conv = ours["b"].value.copy(), ours["conv"].value.copy()
    drive(optimizer, ours, give, 2, unused={"b"})
    assert (ours["b"].value == value).all()
    assert (ours["conv"].value != conv).any()
    after = optimizer.state_dict()["parameters"]["b"]
    assert all(np.array_equal(after[key], value) for key, value in before.items())
    assert optimizer.steps["b"] == 3
    assert optimizer.steps["conv"] == 6
    drive(optimizer, ours, give, 3)  # at different steps within one group
    assert (ours["b"].value != value).all()
    assert optimizer.steps["b"] == 6


def test_a_leaf_without_gradient_is_skipped_by_itself(leaves, give):
    ours = leaves()
    optimizer = make("AdamW", ours, weight_decay=0.5)
    give(ours, {"w": np.ones((7, 5))})
    value = ours["b"].value.copy()
    optimizer.step()
    assert (ours["b"].value == value).all()
    assert optimizer.steps == {"w": 1, "b": 0, "conv": 0, "scale": 0, "tall": 0}


def test_told_that_nothing_is_unused_it_moves_all(leaves, give):
    ours = leaves()
    optimizer = make("SGD", ours, lr=0.1, weight_decay=0.5)
    give(ours, {"w": np.ones((7, 5))})
    value = ours["b"].value.copy()
    optimizer.step(unused=())  # the reduced gradient of b is zero; b decays
    np.testing.assert_allclose(ours["b"].value, 0.95 * value)


def test_unknown_names_are_refused(leaves):
    with pytest.raises(KeyError, match=r"no parameters named \['x'\]"):
        make("AdamW", leaves()).step(unused={"x"})


@each
def test_two_shards_make_a_whole(leaves, give, name, options):
    whole = leaves(np.float32)
    left, right = copies(whole), copies(whole)
    f = np.dtype(np.float32)
    optimizers = [make(name, ours, **options) for ours in (whole, left, right)]
    layout = optimizers[0].flat.layout
    middle = layout["conv"].offset if optimizers[0].needs_whole_parameters else layout["conv"].offset + 5
    end = layout.length(f)
    rest = [(middle, end)] if optimizers[0].needs_whole_parameters else [(middle, middle + 16), (middle + 16, end)]
    drive(optimizers[0], whole, give, 1)
    drive(optimizers[1], left, give, 1, within={f: [(0, middle)]})
    drive(optimizers[2], right, give, 1, within={f: rest})
    joined = np.concatenate([optimizers[1].flat.params.flat[f][:middle], optimizers[2].flat.params.flat[f][middle:]])
    assert joined.tobytes() == optimizers[0].flat.params.flat[f].tobytes()
    assert optimizers[1].steps == optimizers[0].steps


def test_a_shard_that_cuts_a_parameter_is_refused(leaves, give):
    ours = leaves(np.float32)
    optimizer = make("LAMB", ours)
    cut = optimizer.flat.layout["conv"].offset + 1
    give(ours, {n: np.ones(t.shape, np.float32) for n, t in ours.items()})
    with pytest.raises(ValueError, match=r"needs whole parameters, but the slice \[0, \d+\) cuts 'conv'"):
        optimizer.step(within={np.dtype(np.float32): [(0, cut)]})


def test_groups_have_their_own_settings(leaves, give):
    ours = leaves()
    groups = [{"params": [ours["w"], ours["tall"]], "lr": 0.5}, {"params": ours["b"]}]
    optimizer = optim.SGD(groups, lr=0.1)
    before = {n: t.value.copy() for n, t in ours.items()}
    give(ours, {n: np.ones(t.shape) for n, t in ours.items() if n in "w b tall"})
    optimizer.step()
    for n, lr in (("w", 0.5), ("tall", 0.5), ("b", 0.1), ("conv", 0.0)):
        np.testing.assert_allclose(ours[n].value, before[n] - lr)
    optimizer.groups[1].lr = 1.0
    optimizer.step()
    np.testing.assert_allclose(ours["b"].value, before["b"] - 1.1)


def test_a_group_is_one_run(leaves, give):
    ours = leaves(np.float32)
    optimizer = optim.AdamW(
        [{"params": [("w", ours["w"]), ("conv", ours["conv"])]}, {"params": [("b", ours["b"])], "weight_decay": 0.0}]
    )
    drive(optimizer, {n: ours[n] for n in ("w", "b", "conv")}, give, 1)
    runs = optimizer._runs((), None)
    assert [(r.names, r.group) for r in runs] == [(("conv", "w"), optimizer.groups[0]), (("b",), optimizer.groups[1])]


def test_two_optimizers_share_a_model(leaves, give):
    ours = leaves(shapes={"w": (4, 3), "b": (3,)})
    flat = flatten(list(ours.items()))
    matrices, rest = optim.Muon([ours["w"]], lr=0.1), optim.AdamW([ours["b"]], lr=0.1)
    assert matrices.flat is rest.flat is flat
    assert (list(matrices.steps), list(rest.steps)) == (["w"], ["b"])
    give(ours, {"w": np.ones((4, 3)), "b": np.ones(3)})
    before = ours["w"].value.copy()
    rest.step()
    assert (ours["w"].value == before).all()
    matrices.zero_grad()
    assert ours["w"].grad is None
    assert ours["b"].grad is not None


def test_tied_parameters_step_once(leaves, give):
    ours = leaves(shapes={"w": (3,)})
    optimizer = optim.SGD([("embedding", ours["w"]), ("head", ours["w"])], lr=1.0)
    before = ours["w"].value.copy()
    give(ours, {"w": np.ones(3)})
    optimizer.step()
    np.testing.assert_allclose(ours["w"].value, before - 1)


def test_a_step_after_forward_is_noticed(leaves):
    ours = leaves(shapes={"w": (3,)})
    optimizer = optim.SGD([ours["w"]], lr=1.0)
    np.sum(ours["w"] * ours["w"]).backward()
    loss = np.sum(ours["w"] * ours["w"])
    optimizer.step()
    with pytest.raises(ag.autodiff.errors.SavedArrayError):
        loss.backward()


@each
def test_padding_stays_zero(leaves, give, name, options):
    ours = leaves(np.float32)
    optimizer = make(name, ours, weight_decay=0.1, **options)
    drive(optimizer, ours, give, 1)
    for arena in (optimizer.flat.params, *optimizer.state.values()):
        total = sum(np.abs(arena[n]).sum(dtype=float) for n in ours)
        assert np.abs(arena.flat[np.dtype(np.float32)]).sum(dtype=float) == pytest.approx(total, rel=1e-12)


def test_a_state_dict_shares_no_memory(leaves, give):
    ours = leaves()
    optimizer = make("Adam", ours)
    drive(optimizer, ours, give, 1)
    state = optimizer.state_dict()
    kept = state["parameters"]["w"]["exp_avg"].copy()
    drive(optimizer, ours, give, 2)
    assert (state["parameters"]["w"]["exp_avg"] == kept).all()
    assert isinstance(optimizer, Stateful)


def test_state_refusals(leaves):
    ours = leaves()
    adam = make("Adam", ours)
    state = adam.state_dict()
    with pytest.raises(optim.StateError, match="this is the state of Adam"):
        make("Lion", ours).load_state_dict(state)
    groups = [{**state["groups"][0], "names": ["w", "b", "conv", "scale", "other"]}]
    with pytest.raises(optim.StateError, match=r"do not hold the same parameters. They differ in other, tall"):
        adam.load_state_dict({**state, "groups": groups})
    parameters = {name: dict(entries) for name, entries in state["parameters"].items()}
    del parameters["b"]["exp_avg"]
    parameters["w"] |= {"x": np.zeros(1), "exp_avg": np.zeros((5, 7))}
    with pytest.raises(
        optim.StateError, match=r"missing b/exp_avg; unexpected w/x; w/exp_avg has shape \(5, 7\), expected \(7, 5\)"
    ):
        adam.load_state_dict({**state, "parameters": parameters})
    with pytest.raises(optim.StateError, match=r"expected 1 groups. Got 2"):
        adam.load_state_dict({**state, "groups": state["groups"] * 2})


def test_constructor_refusals(leaves):
    ours = leaves()
    w = ours["w"]
    with pytest.raises(optim.SettingError, match="SGD: there are no parameters"):
        optim.SGD([], lr=0.1)
    with pytest.raises(optim.SettingError, match=r"SGD: lr must be a number at least 0. Got -1"):
        optim.SGD([w], lr=-1)
    with pytest.raises(optim.SettingError, match=r"Adam: betas must be 2 values, each .* below 1. Got \(0.9, 1.0\)"):
        optim.Adam([w], betas=(0.9, 1.0))
    with pytest.raises(
        optim.SettingError, match=r"group 0: unknown setting 'weight_deacy'. Did you mean 'weight_decay'"
    ):
        optim.AdamW([{"params": [w], "weight_deacy": 0.1}])
    with pytest.raises(optim.SettingError, match="a parameter is in group 0 and in group 1"):
        optim.AdamW([{"params": [w]}, {"params": [w]}])
    with pytest.raises(optim.SettingError, match="must be a dict with the key 'params'"):
        optim.AdamW([{"lr": 1}])
    with pytest.raises(optim.SettingError, match="nesterov needs"):
        optim.SGD([w], lr=0.1, nesterov=True)
    with pytest.raises(optim.SettingError, match=r"'b' of shape \(5,\) is not the matrix of a hidden layer"):
        optim.Muon([("b", ours["b"])], others="refuse")
    with pytest.raises(optim.SettingError, match="adjust_lr must be 'original' or 'match_rms_adamw'"):
        optim.Muon([w], adjust_lr="other")
    with pytest.raises(TypeError, match=r"must be float32 or float64. Got complex128"):
        optim.Adam([ag.tensor([1j], requires_grad=True)])
    group = optim.SGD([ag.tensor([1.0], requires_grad=True)], lr=0.1).groups[0]
    with pytest.raises(AttributeError, match="no setting 'rate'"):
        group.rate = 1
    with pytest.raises(AttributeError, match="no setting 'rate'"):
        _ = group.rate
    with pytest.raises(optim.SettingError, match=r"lr must be a number at least 0. Got nan"):
        group.lr = float("nan")
    assert repr(group).startswith("Group(1 parameters, lr=0.1")


def test_one_optimizer_for_two_models_before_and_after_their_first_call():
    for called in (False, True):
        models = [nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1)]
        for model in models if called else ():
            model(np.ones((1, 2), np.float32))
        optimizer = optim.SGD([*models[0].parameters(), *models[1].parameters()], lr=0.1)
        assert list(optimizer.steps) == ["weight", "bias", "weight#2", "bias#3"]
