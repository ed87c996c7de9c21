"""References in a configuration: values with their types, texts, circles, and literal `${`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.train.config import ConfigError
from allgrad.train.config.interpolation import escape, interpolate


def locate(path: tuple[str | int, ...]) -> str:
    return "file:" + ".".join(map(str, path))


def resolved(**data: object) -> dict[str, object]:
    return interpolate(data, locate)[0]


def test_a_reference_alone_keeps_the_type() -> None:
    found = resolved(a={"b": 3, "c": [1.5, None]}, x="${a.b}", y="${a.c}", z="${a}")
    assert (found["x"], found["y"], found["z"]) == (3, [1.5, None], {"b": 3, "c": [1.5, None]})


def test_in_a_text_it_is_written_out() -> None:
    found = resolved(a=3, b=True, c=None, d=0.5, e="x", text="${a}-${b}-${c}-${d}-${e}", one=1, same="1${one}")
    assert (found["text"], found["same"]) == ("3-true-null-0.5-x", "11")


def test_references_to_references() -> None:
    assert resolved(a="${b}", b="${c}!", c="x")["a"] == "x!"
    assert resolved(a=["${b}"], b={"c": "${d}"}, d=1)["a"] == [{"c": 1}]


def test_a_copy_is_not_shared() -> None:
    found = resolved(a=[1], b="${a}")
    assert found["a"] is not found["b"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": "${a}"}, "file:a: a: references go in a circle: a -> a."),
        ({"a": "${b}", "b": "x${a}"}, "references go in a circle: b -> a -> b."),
        ({"a": {"b": "${a}"}}, "references go in a circle: a -> a."),
        ({"a": "${b.c}", "b": {"d": 1}}, "file:a: a: ${b.c} refers to a key that is not set. Known: d."),
        ({"a": "${b.c}", "b": 1}, "${b.c} refers to a key that is not set. There is no section above it."),
        ({"a": "${}"}, "'${}' is neither"),
        ({"a": "${b"}, "'${b' is neither"),
        ({"a": "${f:x}"}, "'${f:x}' is neither"),
        ({"a": "x${b}", "b": [1]}, "${b} is a section or a list"),
        ({"a": [1] * 1000, "b": ["${a}"] * 1000}, "has more than 20,000 values"),
        ({"a": "x" * 1000, "b": ["${a}"] * 2000}, "has more than 1,048,576 characters"),
    ],
)
def test_what_cannot_be_resolved(data, expected) -> None:
    with pytest.raises(ConfigError) as caught:
        interpolate(data, locate)
    assert expected in str(caught.value)


def test_environment_variables_are_reported(monkeypatch) -> None:
    monkeypatch.setenv("PLACE", "/data")
    found, used = interpolate({"a": "${env:PLACE}/x", "b": ["${a}"], "c": "y"}, locate)
    assert found == {"a": "/data/x", "b": ["/data/x"], "c": "y"}
    assert used == {("a",): "PLACE", ("b", 0): "PLACE"}


@given(st.text(alphabet="${}ab.\\", max_size=12))
def test_an_escaped_text_stays_as_it_is(text: str) -> None:
    assert resolved(a=escape(text), b={"c": escape([text])}) == {"a": text, "b": {"c": [text]}}
