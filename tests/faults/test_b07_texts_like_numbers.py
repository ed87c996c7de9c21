"""A text that looks like a number, a boolean, null or a date is still that text after a run stored it and read it back."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from small_run import write_config

from allgrad.cli.main import main
from allgrad.train.config import dump_yaml, resolve
from allgrad.train.config.yaml_text import dump, load

LOOKALIKES = [
    *("1e5", "1E5", "12", "-3", "+7", "010", "0o17", "0x1F", "0b11", "1_000", "1_0", "100_000", "1:30", "190:20:30.15"),
    *(".5", "5.", "1.e3", ".inf", "-.Inf", ".nan", "nan", "inf", "1e", "e5", "-", "+", "."),
    *("on", "off", "yes", "no", "y", "n", "Yes", "true", "True", "TRUE", "false", "null", "Null", "~", "", "NULL"),
    *("2001-12-14", "2001-12-14t21:59:43.10-05:00", "<<", "=", "?", "???", ":", "*a", "&a", "!x", "%x", "@x", "`x`"),
    *(
        "a: b",
        "a #b",
        "# x",
        "- x",
        "[x]",
        "{x}",
        "'x'",
        '"x"',
        " x",
        "x ",
        "x\n",
        "\n",
        "\t",
        "a\nb",
        "a\r\nb",
        "---",
        "...",
    ),
    *("${seed}", "$${seed}", "$$${", "${", "$", "\\${seed}", "\x85", "\u2028", "\ufeff", "\x7f", "\x1b", "é", "😀"),
]

texts = st.sampled_from(LOOKALIKES) | st.text(max_size=20).filter(lambda text: "\0" not in text)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda part: st.lists(part, max_size=4) | st.dictionaries(texts, part, max_size=4),
    max_leaves=15,
)


def typed(value: object) -> object:
    """A form in which 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {key: typed(part) for key, part in value.items()}
    return [typed(part) for part in value] if isinstance(value, list) else (type(value), value)


@given(st.dictionaries(texts, values, max_size=5).filter(lambda value: "<<" not in json.dumps(value)))
def test_what_is_dumped_is_loaded_as_it_was(value) -> None:
    assert typed(load(dump(value), "file").value) == typed(value)


@pytest.mark.parametrize("text", LOOKALIKES)
def test_other_tools_read_the_same_texts(text: str) -> None:
    assert yaml.safe_load(dump({"name": text})) == {"name": text}


@pytest.mark.parametrize("text", [text for text in LOOKALIKES if text not in ("", ".") and "\\" not in text][::3])
def test_a_run_stores_its_name(tmp_path, text: str) -> None:
    written = json.dumps(text, ensure_ascii=text.isascii() or (len(text) == 1 and text < "\uffff"))
    config = resolve(write_config(tmp_path), [f"run.name={written.replace('${', '$${')}"])
    assert config.run.name == text
    stored = tmp_path / "config.yaml"
    stored.write_text(dump_yaml(config), encoding="utf-8")
    assert resolve(stored).model_dump() == config.model_dump()


def test_such_a_run_trains_and_resumes(tmp_path) -> None:
    path, run = write_config(tmp_path, train={"steps": 4, "eval_every": None, "early_stopping": None}), tmp_path / "run"
    assert main(["train", str(path), "run.name='1e5'", f"run.dir={run}"]) == 0
    assert main(["resume", str(run), "train.steps=6"]) == 0
