"""The dialect of YAML: what a plain scalar is, what is refused, and where each key is."""

from __future__ import annotations

import math

import pytest

from allgrad.train.config import ConfigError
from allgrad.train.config.yaml_text import Budget, dump, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("", "~", "null", "Null", "NULL")],
        *[(text, True) for text in ("true", "True", "TRUE")],
        *[(text, False) for text in ("false", "False", "FALSE")],
        *[("0", 0), ("-0", 0), ("+12", 12), ("100_000", 100_000), ("1_000_000", 1_000_000), (str(2**64 - 1), 2**64 - 1)],
        *[("1e-3", 1e-3), ("1.E3", 1e3), (".5", 0.5), ("5.", 5.0), ("-1.5e+2", -150.0), (".inf", math.inf), ("-.INF", -math.inf)],
        *[(text, text) for text in ("on", "yes", "010", "0x1F", "1:30", "1_0", "1000_000", "2001-01-01", "y", "1e", "tRue")],
        *[("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("! 1", "1"), ("|\n  1", "1")],
        ("[1, a, [b]]", [1, "a", ["b"]]),
        ("{a: 1, 2: b, on: c, ~: d}", {"a": 1, "2": "b", "on": "c", "~": "d"}),
        ("[&x {a: 1}, *x]", [{"a": 1}, {"a": 1}]),
    ],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    found = load(text, "file").value
    assert (found, type(found)) == (value, type(value))


def test_not_a_number() -> None:
    assert math.isnan(load(".nan", "file").value)


def test_lines() -> None:
    document = load("a: 1\nb:\n  c: [x,\n      y]\n", "file")
    assert document.lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 3, ("b", "c", 1): 4}


def test_a_budget_is_shared_by_several_files() -> None:
    budget = Budget(nodes=5)
    load("[1, 2]", "first.yaml", budget)
    with pytest.raises(ConfigError, match=r"second.yaml:2: the configuration has more than"):
        load("- 1\n- 2\n", "second.yaml", budget)


def test_an_alias_counts_as_what_it_stands_for() -> None:
    with pytest.raises(ConfigError, match="has more than 20,000 values"):
        load("a: &a [" + "1, " * 200 + "1]\nb: [" + "*a, " * 200 + "1]", "file")


def test_integers_have_64_bits() -> None:
    for text in (str(2**64), str(-(2**64)), "9" * 5000):
        with pytest.raises(ConfigError, match="too large for an integer of 64 bits"):
            load(text, "file")


@pytest.mark.parametrize(("depth", "accepted"), [(49, True), (50, True), (51, False)])
def test_the_deepest_file(depth: int, accepted: bool) -> None:
    text = "[" * depth + "]" * depth
    if accepted:
        load(text, "file")
    else:
        with pytest.raises(ConfigError, match="nested more than 50 deep"):
            load(text, "file")


def test_lists_of_scalars_are_written_on_one_line() -> None:
    assert dump({"a": [1, 2], "b": [{"c": ["on"]}]}) == "a: [1, 2]\nb:\n- c: ['on']\n"
