"""One YAML file describes a run; everything that is wrong with it is in one message."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from allgrad.train.config import ConfigError, changed_keys, dump_yaml, json_schema, plan, registry, resolve
from allgrad.train.config.plugins import PluginError

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
    assert (config.batch.virtual_workers, config.parallel.reduction.name) == (8, "exact")


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (7, 1), (8, 2), (16, 4), (31, 4), (32, 8), (100_000, 8)])
def test_the_number_of_virtual_workers_fits_the_batch(base: Path, size: int, expected: int) -> None:
    """It is stored with a run, so that it stays when a run is resumed by a version with another rule."""
    config = resolve(base, [f"batch.size={size}"])
    assert (config.batch.virtual_workers, config.batch.virtual_workers_from) == (expected, "batch.size")
    assert f"virtual_workers: {expected}\n" in dump_yaml(config)
    stated = resolve(base, [f"batch.size={size}", "batch.virtual_workers=1"])
    assert (stated.batch.virtual_workers, stated.batch.virtual_workers_from) == (1, "configuration")


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
        ],
    )
    assert (config.seed, config.run.dir, config.train.steps) == (7, "/tmp/somewhere", 20)
    assert (config.batch.size, config.batch.virtual_workers, config.optimizer.lr) == (64, 4, 1e-4)
    assert (config.checkpoint.every, config.parallel.reduction.name) == (5, "mpi")


def test_extends_is_relative_and_recursive_and_later_ones_win(base: Path) -> None:
    directory = base.parent / "sub"
    directory.mkdir()
    (directory / "a.yaml").write_text("extends: ../base.yaml\nseed: 2\nbatch: {size: 40}\n")
    (directory / "b.yaml").write_text("seed: 3\n")
    (directory / "run.yaml").write_text("extends: [a.yaml, b.yaml]\ntrain: {log_every: 5}\n")
    config = resolve(directory / "run.yaml")
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


def test_the_smallest_batch_has_a_sample_for_each_worker(base: Path) -> None:
    assert resolve(base, ["batch.size=8"]).batch.size == 8


def test_checkpoints_are_written_by_default(base: Path) -> None:
    def saved(*overrides: str) -> tuple[int | None, float | None]:
        checkpoint = resolve(base, overrides).checkpoint
        return checkpoint.every, checkpoint.every_minutes

    assert saved() == (None, 10.0)
    assert saved("checkpoint.every=5") == (5, None)
    assert saved("checkpoint.every_minutes=2") == (None, 2.0)
    assert saved("checkpoint.every_minutes=null") == (None, None)


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
        ("modle: {}", "run.yaml:2: modle: unknown key. Did you mean 'model'? Known: batch,"),
        ("model: {widht: 3}", "run.yaml:2: model.widht: unknown key. Did you mean 'width'?"),
        ("model: {name: gtp}", "run.yaml:2: model.name: nothing is registered as 'gtp'. Did you mean 'gpt'?"),
        ("model: gtp", "run.yaml:2: model.name: nothing is registered as 'gtp'. Did you mean 'gpt'?"),
        ("model: []", "run.yaml:2: model: expected a section (key: value, ...), got []."),
        ("seed: one", "run.yaml:2: seed: expected an integer, got 'one'."),
        ("seed: 1.0", "run.yaml:2: seed: expected an integer, got 1.0."),
        ("seed: true", "run.yaml:2: seed: expected an integer, got True."),
        ("seed: 010", "run.yaml:2: seed: expected an integer, got '010'."),
        ("seed: 0x1F", "run.yaml:2: seed: expected an integer, got '0x1F'."),
        ("train: {steps: 1:30}", "run.yaml:2: train.steps: expected an integer, got '1:30'."),
        ("run: {name: 1e5}", "run.yaml:2: run.name: expected a text, got 100000.0. Put quotes around a text that looks"),
        ("run: {name: ../..}", "run.yaml:2: run.name: expected a name without slashes, got '../..'."),
        ("batch:\n  size: '32'", "run.yaml:3: batch.size: expected an integer, got '32'."),
        ("batch: 32", "run.yaml:2: batch: expected a section (key: value, ...), got 32."),
        ("batch: {virtual_workers: 1_000_000}", "batch.virtual_workers: expected less than or equal to 65536"),
        ("optimizer: {lr: -1}", "run.yaml:2: optimizer.lr: expected greater than 0, got -1."),
        ("optimizer: {lr: .nan}", "run.yaml:2: optimizer.lr: expected"),
        ("parallel: {stall_seconds: .inf}", "run.yaml:2: parallel.stall_seconds: expected"),
        ("optimizer: {betas: [0.9]}", "run.yaml:2: optimizer.betas.1: is missing, and has no default."),
        ("optimizer: {schedule: {wramup: 3}}", "optimizer.schedule.wramup: unknown key. Did you mean 'warmup'?"),
        ("model: {dropout: 1.5}", "run.yaml:2: model.dropout: expected less than 1, got 1.5."),
        ("model: {name: mlp, activation: rellu}", "model.activation: expected 'relu' or 'gelu', got 'rellu'. Did"),
        ("train: {eval_every: epok}", "train.eval_every: expected an integer or 'epoch', got 'epok'."),
        ("parallel: {reduction: exakt}", "Did you mean 'exact'?"),
        ("parallel: {shard_optimizer: true}", "unknown key"),
        ("optimizer: {name: adamw, schedule: {name: cosine, warmup: 1.0}}", "optimizer.schedule.warmup: expected"),
        ("data: {context: '${nowhere}'}", "run.yaml:2: data.context: ${nowhere} refers to a key that is not set."),
        ("data: {context: '${data.contxt}'}", "is not set. Did you mean 'context'?"),
        ("data: {context: '${data.context}'}", "references go in a circle: data.context -> data.context."),
        ("data: {path: '${oc.env:HOME}'}", "data.path: '${oc.env:HOME}' is neither ${section.key} nor"),
        ("data: {path: '${env:NOT_SET}'}", "data.path: the environment variable 'NOT_SET' is not set."),
        ("data: {unit: '${env:TEXT_UNIT}'}", "data.unit: ${env:TEXT_UNIT} is accepted only in a path"),
        ("data: {path: 'x${batch}'}", "data.path: ${batch} is a section or a list"),
        ("train: {steps: 5, epochs: 2}", "train.epochs: train.steps and train.epochs exclude each other; remove one."),
        ("train: {steps: null}", "train.steps or train.epochs must be given."),
        ("train: {steps: 10}", "base.yaml:12: optimizer.schedule.warmup: must be shorter than the whole run (10 steps)"),
        ("batch: {size: 7, virtual_workers: 8}", "run.yaml:2: batch.size: must be at least batch.virtual_workers (8)"),
        ("checkpoint: {every: 5, every_minutes: 3.0}", "checkpoint.every and checkpoint.every_minutes exclude"),
        ("optimizer: {clip_norm: 1.0, clip_value: 1.0}", "optimizer.clip_norm and optimizer.clip_value exclude"),
        ("train: {early_stopping: {patience: 3}}", "train.early_stopping: needs train.eval_every"),
    ],
)  # fmt: skip
def test_mistakes_are_named(base: Path, text: str, expected: str, monkeypatch) -> None:
    monkeypatch.setenv("TEXT_UNIT", "bytes")
    assert expected in message(write(base, text))


def test_all_mistakes_come_at_once(base: Path) -> None:
    lines = message(write(base, "sed: 1\nmodel: {layers: x}\n"), "batch.size=no").splitlines()
    assert [line.partition(": expected")[0].partition(": unknown")[0] for line in lines] == [
        "run.yaml:3: model.layers",
        "command line: batch.size",
        "run.yaml:2: sed",
    ]


def test_a_missing_section_and_a_missing_value(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: {layers: 3}\ndata: {name: text}\n")
    text = message(path)
    assert "run.yaml:2: data.path: is missing, and has no default." in text
    assert "run.yaml:1: model.name: is missing. Known: gpt, mlp." in text
    assert "run.yaml: batch: is missing, and has no default." in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: 1\na: 2\n", "run.yaml:2: duplicate key 'a'."),
        (b"a: [1\n", "run.yaml:2: is not valid YAML:"),
        (b"a:\n\t- 1\n", "run.yaml:2: is not valid YAML:"),
        (b"- 1\n", "run.yaml: must be a mapping of sections"),
        (b"just text\n", "run.yaml: must be a mapping of sections"),
        (b"a: \xff\n", "run.yaml: is not valid UTF-8 (invalid byte at offset 3)."),
        (b"a: !!python/object:os.system {}\n", "run.yaml:1: the tag tag:yaml.org,2002:python/object:os.system is not"),
        (b"extends: 3\n", "run.yaml:1: extends: expected a file name or a list of them, got 3."),
        (b"extends: run.yaml\n", "extends: the files extend each other in a circle: run.yaml -> run.yaml."),
        (b"extends: bases.yaml\n", "bases.yaml: there is no such file. Did you mean"),
        (
            b"extends: package:diamond.yaml\n",
            "is not a configuration that comes with allgrad. Known: package:diamonds.yaml",
        ),
        (b"", "run.yaml: model: is missing"),
    ],
)
def test_files_that_cannot_be_used(base: Path, content: bytes, expected: str) -> None:
    path = base.parent / "run.yaml"
    path.write_bytes(content)
    assert expected in message(path)


def test_a_missing_file_has_a_neighbour(base: Path) -> None:
    assert "bse.yaml: there is no such file. Did you mean base.yaml?" in message(base.parent / "bse.yaml")
    assert "is not a regular file." in message(base.parent)


@pytest.mark.parametrize("text", ["batch.size", "=3", "batch..size=3", "batch size=3", "batch.size=[1"])
def test_overrides_that_cannot_be_used(base: Path, text: str) -> None:
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
    with pytest.raises(ConfigError, match=r"optimizer.schedule.warmup: must be shorter .*\(8 steps\), not 10"):
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
    assert "nothing is registered as 'mine'" in message(base, "model.name=mine")
    config = resolve(base, ["model.name=mine", "model.power=3"], plugins=[plugin])
    assert registry.models["mine"].factory(2, **config.model.options()) == 8
    with pytest.raises(
        registry.ComponentError, match=r"model 'mine' .* must return an allgrad.nn.Module, but returned int"
    ):
        registry.models.build(config.model, 2)
    assert "Names of your own need --plugin FILE." in message(base, "model.name=hers")
    resolve(base, plugins=[plugin])  # the same file again is no clash
    assert "Did you mean 'power'?" in message(base, "model.name=mine", "model.powr=3")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x = 1\ny = 1 / 0\n", r"plugin.py failed at line 2: ZeroDivisionError"),
        ("def f(:\n", r"plugin.py failed at line 1: SyntaxError"),
        (None, r"there is no Python file"),
        (PLUGIN.replace('"mine"', '"gpt"'), r"ValueError: model 'gpt' is already registered by .*gpt;"),
    ],
)
def test_plugins_that_fail_are_named(base: Path, content: str | None, expected: str) -> None:
    plugin = base.parent / "plugin.py"
    if content is not None:
        plugin.write_text(content)
    with pytest.raises(PluginError, match=expected):
        resolve(base, plugins=[plugin])


@pytest.mark.parametrize(
    ("option", "expected"),
    [("power=2", "option 'power' needs a type annotation"), ("power: Info = 2", "Import it at run")],
)
def test_options_need_types(base: Path, option: str, expected: str) -> None:
    plugin = base.parent / "plugin.py"
    plugin.write_text(PLUGIN.replace("power: int = 2", option))
    with pytest.raises(PluginError, match=expected):
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
        if "description" not in value
    ]
    assert undescribed == []


def test_importing_it_is_cheap() -> None:
    script = "import sys, allgrad.train.config; print([m for m in ('pydantic', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_yaml_of_ours_is_read_otherwise_by_yaml(base: Path) -> None:
    """The dump is plain YAML for other tools as well."""
    assert yaml.safe_load(dump_yaml(resolve(base)))["optimizer"]["lr"] == 0.003


def test_a_short_name_and_an_option_on_the_command_line_mean_both(tmp_path) -> None:
    """`optimizer=muon optimizer.lr=1e-2` trained with the file's optimizer, without a word."""
    for words in (["optimizer=sgd", "optimizer.lr=0.5"], ["optimizer.lr=0.5", "optimizer=sgd"]):
        config = resolve("package:diamonds.yaml", words)
        assert (config.optimizer.name, config.optimizer.lr) == ("sgd", 0.5)
