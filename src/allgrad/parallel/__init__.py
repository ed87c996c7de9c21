"""Data parallelism: from the tape's final gradients to sums over all ranks."""

from allgrad.parallel.buckets import Bucket as Bucket
from allgrad.parallel.buckets import default_bucket_mb as default_bucket_mb
from allgrad.parallel.buckets import plan_buckets as plan_buckets
from allgrad.parallel.data_parallel import DataParallel as DataParallel
from allgrad.parallel.exchanges import BucketGradients as BucketGradients
from allgrad.parallel.exchanges import Exchange as Exchange
from allgrad.parallel.exchanges import make_exchange as make_exchange
from allgrad.parallel.exchanges import register_exchange as register_exchange
from allgrad.parallel.parts import Parts as Parts
from allgrad.parallel.reducer import Reducer as Reducer
from allgrad.parallel.step import StepResult as StepResult
from allgrad.parallel.timing import Overlap as Overlap
from allgrad.parallel.timing import StepTimes as StepTimes
from allgrad.parallel.timing import WorkerTimes as WorkerTimes
