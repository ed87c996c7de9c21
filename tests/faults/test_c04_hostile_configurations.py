"""Hostile configurations are accepted or refused with one short message: no traceback, no hang, no flood of lines.

Work is bounded by counting (bytes, files, values, references), so nothing here depends on the clock.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from small_run import write_config

from allgrad.cli.main import main
from allgrad.train.config import ConfigError, resolve
from allgrad.train.config.yaml_text import dump

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CASES = int(os.environ.get("ALLGRAD_FUZZ", "300"))
"""How many mutated configurations are tried; set ALLGRAD_FUZZ=10000 for a long run."""


def nested_lists(depth: int) -> str:
    return "x: " + "[" * depth + "]" * depth


def nested_maps(depth: int) -> str:
    return "\n".join(" " * level + "a:" for level in range(depth))


def chain(length: int) -> str:
    return "seed: ${a0}\n" + "\n".join(f"a{n}: ${{a{n + 1}}}" for n in range(length)) + f"\na{length}: 1"


def doubling(length: int) -> str:
    return "a0: xx\n" + "\n".join(f"a{n + 1}: ${{a{n}}}${{a{n}}}" for n in range(length)) + f"\nseed: ${{a{length}}}"


def doubling_lists(length: int) -> str:
    lists = "\n".join(f"a{n + 1}: ['${{a{n}}}', '${{a{n}}}']" for n in range(length))
    return "a0: [1]\n" + lists + f"\nseed: ${{a{length}}}"


def alias_bomb(length: int) -> str:
    return "a0: &a0 [x, x]\n" + "\n".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}]" for n in range(length))


def alias_chain(length: int) -> str:
    return "a0: &a0 [x]\n" + "\n".join(f"a{n + 1}: &a{n + 1} [*a{n}]" for n in range(length))


DEEP = "nested more than 50 deep"
LARGE = "has more than"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(shape(depth), DEEP) for shape in (nested_lists, nested_maps) for depth in (51, 200, 900)],
        (nested_lists(20_000), DEEP),
        ("data: !!binary aGVsbG8=", "the tag tag:yaml.org,2002:binary is not allowed"),
        ("data: !!set {a, b}", "the tag tag:yaml.org,2002:set is not allowed"),
        ("data: !mine x", "the tag !mine is not allowed"),
        ('extends: "a\\0b.yaml"', "must not contain NUL"),
        ('extends: "\\ud800.yaml"', "half of a surrogate"),
        ("seed: " + "9" * 5000, "too large for an integer of 64 bits"),
        ("seed: 1e99999", "seed: expected"),
        ("model: []", "model: expected a section"),
        ("model: {name: []}", "model"),
        ("batch: {virtual_workers: 1000000000000}", "less than or equal to 65536"),
        (chain(30_000), LARGE),
        (chain(2_000), "a chain of more than 50 references"),
        (doubling(40), LARGE),
        (doubling_lists(40), LARGE),
        (alias_bomb(20), LARGE),
        (alias_chain(500), DEEP),
        ("a: &a [*a]", "refers to an anchor"),
        ("a: &a {b: 1}\nmodel:\n  <<: *a", "merge keys"),
        ("? [a]\n: 1", "a key must be a single word"),
        ("a: 1\n---\nb: 2", "only one document"),
        ("seed: ${" + "a." * 3000 + "a}", "is not set"),
        ("seed: " + "${" * 3000, "is neither"),
        ("x" * 1000 + ": 1", "unknown key"),
        ("extends: /dev/zero", "is not a regular file"),
        ("extends: /proc/self/mem", "cannot be read"),
        ("extends: " + "x" * 5000, "cannot be read"),
        ("extends: [" + "small.yaml, " * 100 + "]", "reads more than 64 files"),
    ],
    ids=lambda value: value[:24],
)  # fmt: skip
def test_a_hostile_file_is_one_clear_error(tmp_path, text: str, expected: str) -> None:
    write_config(tmp_path)
    path = tmp_path / "hostile.yaml"
    path.write_text(text if text.startswith("extends") else "extends: small.yaml\n" + text)
    with pytest.raises(ConfigError) as caught:
        resolve(path)
    said = str(caught.value)
    assert expected in said
    assert len(said) < 8000
    assert all(len(line) < 1900 for line in said.splitlines())


def test_a_file_that_never_ends_or_is_too_large(tmp_path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    with pytest.raises(ConfigError, match="is not a regular file"):
        resolve(tmp_path / "fifo.yaml")
    (tmp_path / "large.yaml").write_text("# " + "x" * (1 << 20))
    with pytest.raises(ConfigError, match="is larger than 1 MiB"):
        resolve(tmp_path / "large.yaml")


def test_files_that_extend_each_other_eightfold(tmp_path) -> None:
    for level in range(9):
        (tmp_path / f"{level}.yaml").write_text(f"extends: [{', '.join([f'{level + 1}.yaml'] * 8)}]")
    (tmp_path / "9.yaml").write_text("seed: 1")
    with pytest.raises(ConfigError, match="reads more than 64 files"):
        resolve(tmp_path / "0.yaml")


def test_a_list_of_500_mistakes_is_cut(tmp_path) -> None:
    path = tmp_path / "many.yaml"
    write_config(tmp_path)
    path.write_text("extends: small.yaml\n" + "\n".join(f"k{number}: 1" for number in range(500)))
    with pytest.raises(ConfigError) as caught:
        resolve(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 480 more"
    assert len(caught.value.mistakes) == 500


@pytest.mark.parametrize("override", ["model.hidden=[1000000000000]", "model.hidden=[1000000,1000000]"])
def test_a_model_larger_than_the_memory_is_a_message(tmp_path, capsys, override: str) -> None:
    assert main(["train", str(write_config(tmp_path)), override, f"run.dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "model" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


FRAGMENTS = [
    *(
        "null",
        "true",
        "[]",
        "{}",
        "''",
        "1e400",
        "-1",
        "0",
        "${seed}",
        "${model}",
        "${nowhere}",
        "!!int 3",
        "*a",
        "&a 1",
        "~",
    ),
    *(
        "[[[]]]",
        "{a: {b: {c: 1}}}",
        "010",
        "1:30",
        "text",
        "{name: mlp}",
        "mlp",
        "\x00",
        "\x85",
        "[1, [2",
        "}",
        "- 1",
        ": :",
    ),
    *(
        "'",
        '"',
        "#",
        "\t",
        "<<: 3",
        "9" * 60,
        "1.5",
        ".nan",
        "-.inf",
        "2001-01-01",
        "?",
        "é",
        "[" * 60,
        "${env:HOME}",
        "|\n x",
    ),
]


def mutated(text: str, rng: random.Random) -> str:
    """A configuration with one to four accidents: lines lost, doubled, moved or indented, values and characters replaced."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(lines))
        key, colon, _ = lines[place].partition(":")
        lines[place : place + 1] = rng.choice(
            [
                [],
                [lines[place]] * 2,
                [rng.choice(lines)],
                ["  " + lines[place]],
                [lines[place].lstrip()],
                [f"{key}{colon} {rng.choice(FRAGMENTS)}"],
                [f"{key}{colon} {rng.choice(FRAGMENTS)}"],
                [lines[place], f"{key} {rng.choice(FRAGMENTS)}"],
                [lines[place][: rng.randrange(len(lines[place]) + 1)] + rng.choice(FRAGMENTS)],
            ]
        )
        lines = lines or [""]
    return "\n".join(lines)


KEYS = [
    *(
        "seed",
        "run.dir",
        "run.name",
        "model",
        "model.name",
        "model.hidden",
        "data.train",
        "data.name",
        "loss",
        "batch.size",
    ),
    *("optimizer", "optimizer.betas", "optimizer.schedule", "train.steps", "train.metrics", "train.callbacks"),
    *("checkpoint", "parallel.reduction", "logging.loggers"),
]


def overridden(rng: random.Random) -> list[str]:
    """One to three overrides of keys, of what is below them or above them, by values of any kind."""
    keys = [
        rng.choice([*KEYS, ".".join(rng.sample(KEYS, 2)), rng.choice(KEYS) + ".0", ""])
        for _ in range(rng.randint(1, 3))
    ]
    return [f"{key}{rng.choice(['=', '=', '=', ''])}{rng.choice(FRAGMENTS)}" for key in keys]


def refusal(path: Path, overrides: Sequence[str] = ()) -> str | None:
    """The message with which a configuration is refused; None if it is accepted."""
    try:
        dump(resolve(path, overrides).model_dump(mode="json"))
    except ConfigError as error:
        return str(error)
    except Exception as error:
        error.add_note(f"The overrides were {overrides}, and the configuration:\n{path.read_text()}")
        raise
    return None


def test_random_overrides_are_accepted_or_refused(tmp_path) -> None:
    rng, path = random.Random(21), write_config(tmp_path)
    said = [refusal(path, overridden(rng)) for _ in range(CASES)]
    assert CASES // 4 < len([text for text in said if text]) < CASES
    assert all(len(text.splitlines()) <= 21 for text in said if text is not None)


def test_mutated_configurations_are_accepted_or_refused(tmp_path) -> None:
    rng, path = random.Random(20), tmp_path / "mutated.yaml"
    original = write_config(tmp_path).read_text()
    refused = 0
    for _ in range(CASES):
        path.write_text(mutated(original, rng), encoding="utf-8", newline="")
        said = refusal(path)
        if said is not None:
            refused += 1
            assert said, path.read_text()
            assert len(said.splitlines()) <= 21, path.read_text()
    assert CASES // 4 < refused < CASES, "the mutations are too harmless or too harsh to test anything"
