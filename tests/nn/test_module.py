"""Module: what is found under which name, on disk and in memory."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from allgrad import nn
from allgrad.stateful import StateError


class Leafy(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        self.weight = nn.Parameter(np.arange(6, dtype=np.float32).reshape(2, 3) + seed, layout=nn.TRANSPOSED)
        self.register_buffer("seen", np.zeros(3, np.float32), merge="mean")

    def forward(self, x):
        return x @ self.weight


class Tree(nn.Module):
    def __init__(self, tied: bool = False) -> None:
        self.first = Leafy(1)
        self.own = nn.Parameter(np.ones(2))
        self.second = Leafy(2)
        if tied:
            self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x)[:, :2]) + self.own[0]


def test_names_come_in_order_own_parameters_first() -> None:
    assert [name for name, _ in Tree().named_parameters()] == ["own", "first.weight", "second.weight"]


def test_tied_parameters_come_once_in_memory_and_twice_on_disk() -> None:
    tree = Tree(tied=True)
    assert [name for name, _ in tree.named_parameters()] == ["own", "first.weight"]
    assert tree.parameter_count() == 8
    assert list(tree.state_dict()) == ["own", "first.weight", "first.seen", "second.weight", "second.seen"]


def test_state_dict_speaks_pytorchs_layout_and_is_a_copy() -> None:
    tree = Tree()
    state = tree.state_dict()
    assert state["first.weight"].shape == (3, 2)
    assert state["first.weight"].flags.c_contiguous
    state["own"][...] = 7
    assert tree.own.value[0] == 1


def test_load_state_dict_is_the_inverse_of_state_dict() -> None:
    source, target = Tree(), Tree()
    for parameter in source.parameters():
        parameter.assign(np.random.default_rng(0).standard_normal(parameter.shape))
    source.first.seen[...] = 5
    memory = target.first.seen
    assert target.load_state_dict(source.state_dict()) == ([], [])
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array)
    assert target.first.seen is memory


def test_load_state_dict_names_missing_and_unexpected_and_writes_nothing() -> None:
    tree = Tree()
    state = tree.state_dict()
    state["own"] = state["own"] + 1
    state["alien"] = state.pop("first.weight")
    with pytest.raises(StateError, match=r"Missing: first\.weight\. Unexpected: alien"):
        tree.load_state_dict(state)
    assert tree.own.value[0] == 1
    assert tree.load_state_dict(state, strict=False) == (["first.weight"], ["alien"])
    assert tree.own.value[0] == 2


@pytest.mark.parametrize(("drop", "add"), [("own", None), (None, "alien")])
def test_one_wrong_name_is_enough(drop: str | None, add: str | None) -> None:
    state = {name: array for name, array in Tree().state_dict().items() if name != drop}
    with pytest.raises(StateError, match=drop or add):
        Tree().load_state_dict(state | ({add: np.zeros(1)} if add else {}))


def test_load_state_dict_wants_one_of_tied_names_and_refuses_two_values() -> None:
    tree = Tree(tied=True)
    state = tree.state_dict()
    del state["second.weight"]
    assert tree.load_state_dict(state) == ([], [])
    state["second.weight"] = state["first.weight"] + 1
    with pytest.raises(ValueError, match="tied"):
        tree.load_state_dict(state)


def test_load_state_dict_names_both_shapes() -> None:
    tree = Tree()
    with pytest.raises(ValueError, match=r"'first\.weight' has shape \(3, 2\).*Got shape \(2, 3\)"):
        tree.load_state_dict(tree.state_dict() | {"first.weight": np.zeros((2, 3))})


def test_load_state_dict_refuses_complex_numbers_for_real_ones() -> None:
    tree = Tree()
    with pytest.raises(ValueError, match=r"'own' is float64.*complex128"):
        tree.load_state_dict(tree.state_dict() | {"own": np.zeros(2, complex)})


def test_paths_are_places_in_the_running_model() -> None:
    tree = Tree()
    assert tree.second.path is None
    with nn.running(tree):
        assert (tree.path, tree.second.path) == ("", "second")
        tree.third = Tree()
        assert tree.third.first.path == "third.first"
        del tree.third.first
        assert Tree().first.path is None
    assert [parameter.name for parameter in tree.second.parameters()] == ["weight"]
    assert [name for name, _ in tree.named_parameters()][1] == tree.first.weight.name == "first.weight"


def test_train_and_eval_reach_every_module_and_apply_goes_bottom_up() -> None:
    tree = Tree()
    assert tree.eval() is tree
    assert not any(module.training for module in tree.modules())
    assert all(module.training for module in tree.train().modules())
    visited: list[nn.Module] = []
    tree.apply(visited.append)
    assert visited == [tree.first, tree.second, tree]


def test_modules_in_a_plain_list_are_refused() -> None:
    tree = Tree()
    tree.blocks = [Leafy()]
    with pytest.raises(TypeError, match=r"'blocks' is a list.*ModuleList"):
        list(tree.named_parameters())


def test_a_parameter_cannot_become_an_array() -> None:
    tree = Tree()
    with pytest.raises(TypeError, match=r"'own' is a Parameter of shape \(2,\).*assign"):
        tree.own = np.zeros(2)
    tree.own = None
    assert [name for name, _ in tree.named_parameters()] == ["first.weight", "second.weight"]


def test_buffers_are_snapshot_and_restored_in_place() -> None:
    tree = Tree()
    state = tree.buffers_state()
    assert list(state) == ["first.seen", "second.seen"]
    assert tree.buffer_rules()["first.seen"].merge == "mean"
    tree.first.seen += 3
    assert state["first.seen"].sum() == 0
    tree.load_buffers_state(state)
    assert tree.first.seen.sum() == 0
    with pytest.raises(ValueError, match="merge must be"):
        tree.register_buffer("x", np.zeros(1), merge="sum")


def test_repr_counts_parameters() -> None:
    assert repr(Tree()).splitlines() == [
        "Tree(  # 14 parameters",
        "  (first): Leafy()  # 6 parameters",
        "  (second): Leafy()  # 6 parameters",
        ")",
    ]


def test_deepcopy_keeps_ties_and_shares_nothing() -> None:
    tree = Tree(tied=True)
    twin = copy.deepcopy(tree)
    assert twin.first.weight is twin.second.weight
    assert not np.shares_memory(twin.first.weight.value, tree.first.weight.value)


def test_module_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"Module has no forward\(\)"):
        nn.Module()(1)


def test_parameter_refuses_integers() -> None:
    with pytest.raises(TypeError, match="int64"):
        nn.Parameter(np.arange(3))
