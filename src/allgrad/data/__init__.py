"""Data sets, their order and position, and the batches of the virtual workers."""

from allgrad.data.datasets import IGNORE, ArrayDataset, Batch, DataInfo, Dataset, DataSource, MapDataset, Subset
from allgrad.data.errors import DataError
from allgrad.data.loader import Loader, LocalBatch
from allgrad.data.random import stream
from allgrad.data.sampler import GlobalBatch, Sampler, cut, evaluation_batches

__all__ = [
    "IGNORE",
    "ArrayDataset",
    "Batch",
    "DataError",
    "DataInfo",
    "DataSource",
    "Dataset",
    "GlobalBatch",
    "Loader",
    "LocalBatch",
    "MapDataset",
    "Sampler",
    "Subset",
    "cut",
    "evaluation_batches",
    "stream",
]
