"""The JSON schema takes what a file may say: the part of JSON Schema that it uses is checked by a few lines here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from allgrad.train.config import json_schema
from allgrad.train.config.yaml_text import load

ROOT = Path(__file__).parents[3]
TYPES = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(fits(value, one, root) for one in schema["anyOf"])
    if "type" in schema and (
        not isinstance(value, TYPES[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean")
    ):
        return False
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, int | float):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if isinstance(value, list):
        return all(fits(one, schema.get("items", {}), root) for one in value)
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        return all(
            fits(part, known[key], root) if key in known else other is not False and fits(part, other, root)
            for key, part in value.items()
        )
    return True


def file_fits(written: Any) -> bool:
    schema = json_schema()
    return fits(load(written, "file").value, schema, schema)


@pytest.mark.parametrize(
    "path", [*ROOT.glob("configs/*.yaml"), *ROOT.glob("examples/launchers/*.yaml")], ids=lambda path: path.stem
)
def test_it_takes_our_own_files(path) -> None:
    """Some leave out what is in the file that they extend, and some refer to other keys."""
    assert file_fits(path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "loss: mse",
        "loss: {delta: 2.0}",
        "train: {metrics: [accuracy, {name: f1}], callbacks: [mine, {name: mine}]}",
        "parallel: {reduction: exact}",
        "model: {name: '${loss.name}', hidden: '${x}'}",
    ],
)
def test_it_takes_what_a_run_does(text) -> None:
    assert file_fits(text)


@pytest.mark.parametrize(
    "text",
    [
        "train: {metrics: [acuracy]}",
        "optimizer: {learning_rate: 1}",
        "modle: {layers: 2}",
        "model: {name: gpt, layers: two}",
        "loss: mean_square",
        "model: {name: mlp, layers: 2}",
        "batch: {size: 0}",
        "train: {eval_every: sometimes}",
        "logging: {progress: loud}",
        "extends: 3",
    ],
)
def test_it_refuses_what_a_run_would(text) -> None:
    assert not file_fits(text)
