"""Write a run's model as an ONNX file, with its preprocessing, for any number of rows. Needs no training file.

The file asks for opset 17 of ONNX's operators. Where onnxruntime is installed, the file is compared with the model on random rows
before it is written. Averaged weights are used if the run's evaluations used them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allgrad.cli.arguments import add_best, add_plugins, add_run
from allgrad.errors import UsageError

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad export`."""
    add_run(parser)
    parser.add_argument("--onnx", metavar="FILE", required=True, help="where to write the model")
    add_best(parser)
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad export`: write the file, and print what is in it."""
    from allgrad.interop.onnx.export import export_model
    from allgrad.train.atomic import write_atomic
    from allgrad.train.run.predictor import load

    path = Path(arguments.onnx)
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--onnx {path}: there is no directory {path.parent}.")
    exported = export_model(load(arguments.directory, best=arguments.best, plugins=arguments.plugin))
    write_atomic(path, exported.content)
    checked = (
        "not checked, because onnxruntime is not installed"
        if exported.error is None
        else f"onnxruntime agrees with the model to {exported.error:.0e}"
    )
    names = f"inputs {', '.join(exported.inputs)}; outputs {', '.join(exported.outputs)}"
    print(f"{path}: opset {exported.opset}, {names}; {checked}")
    return 0
