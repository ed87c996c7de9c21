"""One YAML file describes a run; whatever is wrong with it is said in one message."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from allgrad.train.config import ConfigError, changed_keys, dump_yaml, json_schema, plan, registry, resolve

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("stand_ins")

BASE = """\
seed: 1
model: {name: gpt, layers: 2}
data:
  name: text
  path: package:moby_dick.txt.gz
  context: 64
loss: {name: cross_entropy}
batch: {size: 32}
optimizer:
  name: adamw
  lr: 3e-3
  schedule: {name: cosine, warmup: 10}
train: {steps: 100}
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def write(base: Path, text: str, name: str = "run.yaml") -> Path:
    path = base.parent / name
    path.write_text("extends: base.yaml\n" + text)
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(path, overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


# Reading and merging


def test_values_options_and_defaults(base: Path) -> None:
    config = resolve(base)
    assert config.seed == 1
    assert (config.model.name, config.model.options()) == ("gpt", {"layers": 2, "width": 128, "dropout": 0.0})
    assert config.optimizer.lr == 0.003
    assert config.optimizer.options() == {"lr": 0.003, "betas": (0.9, 0.999), "weight_decay": 0.01}
    assert config.optimizer.schedule is not None
    assert config.optimizer.schedule.options() == {"final": 0.0}
    assert config.optimizer.schedule.warmup == 10
    assert (config.batch.virtual_workers, config.parallel.reduction) == (8, "exact")


@pytest.mark.parametrize("text", ["1e-3", "1.e-3", "0.001", "1E-3", ".001", "1e-03"])
def test_a_number_is_a_number(base: Path, text: str) -> None:
    assert resolve(base, [f"optimizer.lr={text}"]).optimizer.lr == 0.001
    assert resolve(write(base, f"optimizer: {{lr: {text}}}")).optimizer.lr == 0.001


def test_the_overrides_that_scripts_rely_on(base: Path) -> None:
    config = resolve(
        base,
        [
            "seed=7",
            "run.dir=/tmp/somewhere",
            "train.steps=20",
            "batch.size=64",
            "batch.virtual_workers=4",
            "optimizer.lr=1e-4",
            "checkpoint.every=5",
            "parallel.reduction=mpi",
            "parallel.shard_optimizer=false",
        ],
    )
    assert (config.seed, config.run.dir, config.train.steps) == (7, "/tmp/somewhere", 20)
    assert (config.batch.size, config.batch.virtual_workers, config.optimizer.lr) == (64, 4, 1e-4)
    assert (config.checkpoint.every, config.parallel.reduction) == (5, "mpi")


def test_extends_is_relative_and_recursive_and_later_ones_win(base: Path) -> None:
    folder = base.parent / "sub"
    folder.mkdir()
    (folder / "a.yaml").write_text("extends: ../base.yaml\nseed: 2\nbatch: {size: 40}\n")
    (folder / "b.yaml").write_text("seed: 3\n")
    (folder / "run.yaml").write_text("extends: [a.yaml, b.yaml]\ntrain: {log_every: 5}\n")
    config = resolve(folder / "run.yaml")
    assert (config.seed, config.batch.size, config.train.steps, config.train.log_every) == (3, 40, 100, 5)


def test_interpolation_sees_the_overrides(base: Path) -> None:
    path = write(base, "data: {valid: '${batch.size}'}\n")
    assert resolve(path).data.options()["valid"] == 32
    assert resolve(path, ["batch.size=48"]).data.options()["valid"] == 48


def test_another_name_drops_the_old_ones_options_only(base: Path) -> None:
    config = resolve(base, ["model.name=mlp", "model.hidden=[3,4]", "optimizer.name=sgd"])
    assert config.model.options() == {"hidden": (3, 4), "activation": "relu"}
    assert (config.optimizer.lr, config.optimizer.options()) == (0.003, {"lr": 0.003, "momentum": 0.0})
    assert config.optimizer.schedule is not None
    assert resolve(base, ["model.name=gpt"]).model.options()["layers"] == 2


def test_epochs_above_steps_and_back(base: Path) -> None:
    assert resolve(base, ["train.epochs=3"]).train.steps is None
    path = write(base, "train: {epochs: 2}\n")
    assert (resolve(path).train.steps, resolve(path).train.epochs) == (None, 2)
    assert resolve(path, ["train.steps=50"]).train.epochs is None


def test_the_dump_reads_back_equal(base: Path) -> None:
    config = resolve(base, ["model.name=mlp", "model.hidden=[3]", "optimizer.lr=1e-7", "train.epochs=2"])
    again = base.parent / "config.yaml"
    again.write_text(dump_yaml(config))
    assert resolve(again).model_dump() == config.model_dump()


def test_what_changed_between_two(base: Path) -> None:
    assert changed_keys(resolve(base), resolve(base)) == {}
    assert changed_keys(resolve(base), resolve(base, ["optimizer.schedule.name=constant", "seed=2"])) == {
        "seed": (1, 2),
        "optimizer.schedule.name": ("cosine", "constant"),
        "optimizer.schedule.final": (0.0, None),
    }


# What is wrong


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modle: {}", "run.yaml:2: modle: expected a known key. Got 'modle' instead. Did you mean 'model'?"),
        ("model: {widht: 3}", "run.yaml:2: model.widht: expected a known key. Got 'widht' instead. Did you mean 'width'?"),
        ("model: {name: gtp}", "run.yaml:2: model.name: expected a registered name. Got gtp instead. Did you mean 'gpt'?"),
        ("seed: one", "run.yaml:2: seed: expected a valid integer. Got 'one' instead."),
        ("seed: 1.0", "run.yaml:2: seed: expected a valid integer. Got 1.0 instead."),
        ("seed: true", "run.yaml:2: seed: expected a valid integer. Got True instead."),
        ("batch:\n  size: '32'", "run.yaml:3: batch.size: expected a valid integer. Got '32' instead."),
        ("batch: 32", "run.yaml:2: batch: expected a section (key: value, ...). Got 32 instead."),
        ("optimizer: {lr: -1}", "run.yaml:2: optimizer.lr: expected greater than 0. Got -1 instead."),
        ("optimizer: {lr: .nan}", "run.yaml:2: optimizer.lr: expected"),
        ("optimizer: {betas: [0.9]}", "run.yaml:2: optimizer.betas.1: expected a value. Got nothing instead."),
        (
            "optimizer: {schedule: {wramup: 3}}",
            "run.yaml:2: optimizer.schedule.wramup: expected a known key. Got 'wramup' instead. Did you mean 'warmup'?",
        ),
        ("model: {dropout: 1.5}", "run.yaml:2: model.dropout: expected less than 1. Got 1.5 instead."),
        ("model: {name: mlp, activation: rellu}", "model.activation: expected 'relu' or 'gelu'. Got 'rellu' instead. Did"),
        ("train: {eval_every: epok}", "train.eval_every: expected a valid integer or 'epoch'. Got 'epok' instead."),
        ("parallel: {reduction: exakt}", "Did you mean 'exact'?"),
        ("parallel: {shard_optimizer: true}", "not available yet"),
        ("optimizer: {name: adamw, schedule: {name: cosine, warmup: 1.0}}", "optimizer.schedule.warmup: expected"),
        ("data: {context: '${nowhere}'}", "run.yaml:2: data.context: expected a reference"),
        ("data: {context: '${data.context}'}", "run.yaml:2: data.context: expected a reference"),
        ("data:\n  context: ???", None),
        ("train: {steps: 5, epochs: 2}", "train.epochs: expected only one of train.steps and train.epochs. Got both"),
        ("train: {steps: null}", "expected one of train.steps and train.epochs. Got neither instead."),
        ("train: {steps: 10}", "base.yaml:12: optimizer.schedule.warmup: expected fewer steps than the whole"),
        ("batch: {size: 7}", "run.yaml:2: batch.size: expected at least batch.virtual_workers = 8"),
        ("checkpoint: {every: 5, every_minutes: 3.0}", "expected only one of checkpoint.every and"),
        ("optimizer: {clip_norm: 1.0, clip_value: 1.0}", "expected only one of optimizer.clip_norm and"),
        ("train: {early_stopping: {patience: 3}}", "train.early_stopping: expected train.eval_every beside it"),
    ],
)  # fmt: skip
def test_mistakes_are_named(base: Path, text: str, expected: str | None) -> None:
    path = write(base, text)
    if expected is None:  # ??? in an upper layer leaves the value below as it is
        assert resolve(path).data.options()["context"] == 64
    else:
        assert expected in message(path)


def test_all_mistakes_come_at_once(base: Path) -> None:
    lines = message(write(base, "sed: 1\nmodel: {layers: x}\n"), "batch.size=no").splitlines()
    assert [line.split(": expected")[0] for line in lines] == [
        "run.yaml:3: model.layers",
        "command line: batch.size",
        "run.yaml:2: sed",
    ]


def test_a_missing_section_and_a_missing_value(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {layers: 3}\ndata: {name: text, path: '???'}\n")
    assert "run.yaml:2: data.path: expected a value. Got ??? instead. It must be given" in message(path)
    text = message(path, "data.path=x")
    assert "run.yaml:1: model.name: expected a registered name. Got nothing instead. Known here: gpt, mlp." in text
    assert "run.yaml: batch: expected a value. Got nothing instead. It has no default: give it." in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: 1\na: 2\n", "run.yaml:2: expected valid YAML. Got found duplicate key a instead."),
        (b"a: [1\n", "run.yaml:2: expected valid YAML."),
        (b"a:\n\t- 1\n", "run.yaml:2: expected valid YAML."),
        (b"- 1\n", "run.yaml: expected a mapping of sections"),
        (b"just text\n", "run.yaml: expected a mapping of sections"),
        (b"a: \xff\n", "run.yaml: expected UTF-8 text. Got byte 3 is none instead."),
        (b"a: !!python/object:os.system {}\n", "run.yaml:1: expected valid YAML."),
        (b"extends: 3\n", "run.yaml:1: extends: expected a file name or a list of them. Got 3 instead."),
        (b"extends: run.yaml\n", "extends: expected a chain of files that ends. Got run.yaml -> run.yaml instead."),
        (b"extends: bases.yaml\n", "bases.yaml: expected a configuration file. Got no such file instead. Did you mean"),
        (b"", "run.yaml: model: expected a value."),
    ],
)
def test_files_that_are_none(base: Path, content: bytes, expected: str) -> None:
    path = base.parent / "run.yaml"
    path.write_bytes(content)
    assert expected in message(path)


def test_a_missing_file_has_a_neighbour(base: Path) -> None:
    assert "bse.yaml: expected a configuration file. Got no such file instead. Did you mean base.yaml?" in message(
        base.parent / "bse.yaml"
    )
    assert "expected a readable file. Got Is a directory instead." in message(base.parent)


@pytest.mark.parametrize("text", ["batch.size", "=3", "batch..size=3", "batch size=3", "batch.size=[1"])
def test_overrides_that_are_none(base: Path, text: str) -> None:
    line = message(base, text)
    assert line.startswith("command line: ")
    assert "Write overrides as key.sub=value" in line


# Length


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["train.steps=50"], (50, 4, 10, 0)),
        (["train.epochs=5", "train.eval_every=epoch"], (20, 4, 10, 4)),
        (["train.steps=50", "optimizer.schedule.warmup=0.1", "train.eval_every=7"], (50, 4, 5, 7)),
    ],
)
def test_the_length_of_a_run(base: Path, overrides: list[str], expected: tuple[int, ...]) -> None:
    planned = plan(resolve(base, overrides), samples=100)
    assert (planned.steps, planned.steps_per_epoch, planned.warmup, planned.eval_every) == expected


def test_a_warmup_that_only_the_data_shows_to_be_too_long(base: Path) -> None:
    config = resolve(base, ["train.epochs=2"])
    with pytest.raises(ConfigError, match=r"optimizer.schedule.warmup: expected fewer steps .*\(8\)\. Got 10"):
        plan(config, samples=100)


# Registries and plugins

PLUGIN = """\
from __future__ import annotations
from typing import TYPE_CHECKING
from allgrad.train.config.registry import register_model
if TYPE_CHECKING:
    from nowhere import Info

@register_model("mine")
def mine(info: Info, *, power: int = 2) -> Info:
    return info ** power
"""


def test_a_plugin_brings_a_model_with_options(base: Path) -> None:
    plugin = base.parent / "plugin.py"
    plugin.write_text(PLUGIN)
    assert "Got mine instead" in message(base, "model.name=mine")
    config = resolve(base, ["model.name=mine", "model.power=3"], plugins=[plugin])
    assert registry.models["mine"].factory(2, **config.model.options()) == 8
    with pytest.raises(
        registry.ComponentError, match=r"model 'mine' .* must return an allgrad.nn.Module. Got int instead"
    ):
        registry.models.build(config.model, 2)
    assert "What a file of yours registers needs --plugin FILE." in message(base, "model.name=hers")
    resolve(base, plugins=[plugin])  # the same file again is no clash
    assert "Did you mean 'power'?" in message(base, "model.name=mine", "model.powr=3")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x = 1\ny = 1 / 0\n", r"plugin.py:2: ZeroDivisionError"),
        ("def f(:\n", r"plugin.py:1: SyntaxError"),
        (None, r"expected a Python file"),
        (PLUGIN.replace('"mine"', '"gpt"'), r"ValueError: model 'gpt' is registered by .*gpt already"),
    ],
)
def test_plugins_that_fail_are_named(base: Path, content: str | None, expected: str) -> None:
    plugin = base.parent / "plugin.py"
    if content is not None:
        plugin.write_text(content)
    with pytest.raises(registry.PluginError, match=expected):
        resolve(base, plugins=[plugin])


@pytest.mark.parametrize(
    ("option", "expected"),
    [("power=2", "option 'power' needs a type annotation"), ("power: Info = 2", "Import it at run")],
)
def test_options_need_types(base: Path, option: str, expected: str) -> None:
    plugin = base.parent / "plugin.py"
    plugin.write_text(PLUGIN.replace("power: int = 2", option))
    with pytest.raises(registry.PluginError, match=expected):
        resolve(base, plugins=[plugin])


def test_build_hands_over_options(base: Path) -> None:
    config = resolve(base, ["optimizer.betas=[0.8,0.9]"])
    built = registry.optimizers.build(config.optimizer, "groups")
    assert built.options == ("groups", 0.003, (0.8, 0.9), 0.01)
    assert registry.schedules.build(config.optimizer.schedule, 100) == ("cosine", 100, 0.0)


def test_the_schema_describes_every_key() -> None:
    schema = json_schema()
    assert schema["properties"]["extends"]
    layers = schema["$defs"]["GptModel"]["properties"]["layers"]
    assert (layers["default"], layers["title"], layers["anyOf"][0]) == (4, "Layers", {"type": "integer"})
    undescribed = [
        f"{section}.{key}"
        for section, content in schema["$defs"].items()
        if section.endswith("Section")
        for key, value in content["properties"].items()
        if "description" not in value and key not in ("steps", "epochs", "metric", "mode", "name")
    ]
    assert undescribed == []


def test_importing_it_is_cheap() -> None:
    script = (
        "import sys, allgrad.train.config; print([m for m in ('pydantic', 'omegaconf', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_yaml_of_ours_is_read_otherwise_by_yaml(base: Path) -> None:
    """The dump is plain YAML for other tools as well."""
    assert yaml.safe_load(dump_yaml(resolve(base)))["optimizer"]["lr"] == 0.003
