"""Use a run's model on new rows: values in the target's units, classes with their probabilities. Needs no training file.

ROWS is a table (CSV, Parquet, Arrow), arrays (.npy, .npz, IDX), or a text file with one prompt per line. Columns may be in any
order. The result has one row per row of ROWS; without -o it is printed as CSV.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allgrad.cli.arguments import add_best, add_plugins, add_ranks, add_run, plugin_words, rank_count
from allgrad.cli.job import report_outcome, run_job
from allgrad.cli.notes import data_notes
from allgrad.cli.single_process import refuse_ranks

if TYPE_CHECKING:
    import argparse

    from allgrad.comm import World
    from allgrad.data.rows import PreparedRows
    from allgrad.train.run.predictor import Predictor

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `allgrad predict`."""
    add_run(parser)
    parser.add_argument("rows", metavar="ROWS", help="a file with the rows to predict")
    text = "where to write: .csv, .parquet, .npz, or .npy (values, or probabilities of classes)"
    parser.add_argument("-o", dest="output", metavar="FILE", help=text)
    add_ranks(parser)
    add_best(parser)
    add_plugins(parser)


def run(arguments: argparse.Namespace) -> int:
    """`allgrad predict`."""
    from allgrad.train.run.prediction_files import check_output

    check_output(arguments.output)
    if arguments.ranks is not None:
        return _on_ranks(arguments)
    from allgrad import comm
    from allgrad.train.run.predictor import load

    world = comm.init()
    predictor = load(arguments.directory, best=arguments.best, plugins=arguments.plugin, world=world)
    prepared, style = _read(world, predictor, arguments.rows)
    outputs = predictor.outputs(prepared)
    if world.rank == 0:
        _write(predictor, prepared, outputs, style, arguments)
    report_outcome(world, Path(arguments.directory), "complete")
    return 0


def _on_ranks(arguments: argparse.Namespace) -> int:
    """Start the ranks that share the rows."""
    from allgrad.comm import cores

    refuse_ranks("-n, which starts mpirun itself,")
    ranks = rank_count(arguments.ranks) or max(1, int(min(cores.physical_cores(cores.affinity()), cores.quota())))
    words = ["predict", arguments.directory, arguments.rows]
    words += ["-o", arguments.output] if arguments.output else []
    return run_job(ranks, *words, *(["--best"] if arguments.best else []), *plugin_words(arguments.plugin))


def _read(world: World, predictor: Predictor, path: str) -> tuple[PreparedRows, Any]:
    """The rows of the file, on every rank, and how the result is written as CSV (on rank 0). Only rank 0 reads the file."""
    import numpy as np

    from allgrad.data.rows import PreparedRows, prepare_rows
    from allgrad.train.run.agreement import on_rank_0
    from allgrad.train.run.prediction_files import read_rows

    prepared: PreparedRows | None = None
    style = None

    def read() -> list[Any]:
        nonlocal prepared, style
        with data_notes() as notes:
            rows, style = read_rows(path, predictor.config.data, predictor.fitted)
            prepared = prepare_rows(rows, predictor.info, predictor.fitted, path)
        for note in notes:
            print(f"allgrad: {note}", file=sys.stderr, flush=True)
        inputs, lengths = prepared.inputs, prepared.lengths
        return [inputs.dtype.str, list(inputs.shape), prepared.count, prepared.used.tolist(), lengths is not None]

    dtype, shape, count, used, has_lengths = on_rank_0(world, read)
    if prepared is None:
        lengths = np.empty(shape[0], np.int64) if has_lengths else None
        prepared = PreparedRows(np.empty(shape, dtype), count, np.array(used, np.int64), lengths)
    world.broadcast(np.ascontiguousarray(prepared.inputs))
    if prepared.lengths is not None:
        world.broadcast(prepared.lengths)
    return prepared, style


def _write(
    predictor: Predictor, prepared: PreparedRows, outputs: Any, style: Any, arguments: argparse.Namespace
) -> None:
    """Write the predictions, and say where they are."""
    from allgrad.data.rows import answers
    from allgrad.train.run.prediction_files import write_predictions
    from allgrad.train.run.predictor import probabilities, spread

    found = spread(answers(outputs, predictor.info, predictor.fitted), prepared)
    shares = None if predictor.classes is None else spread(probabilities(outputs), prepared)
    names = predictor.classes if predictor.info.kind == "classes" else None
    write_predictions(arguments.output, found, shares, names, style)
    if arguments.output:
        print(f"{arguments.output}: {prepared.count:,} predictions of {arguments.directory} (step {predictor.step:,})")
