"""Gradient exchanges: how the ranks sum a bucket of gradients. Each is one file behind the interface `Exchange`."""

from allgrad.parallel.exchanges.base import BucketGradients as BucketGradients
from allgrad.parallel.exchanges.base import Clipping as Clipping
from allgrad.parallel.exchanges.base import Exchange as Exchange
from allgrad.parallel.exchanges.base import ExchangeError as ExchangeError
from allgrad.parallel.exchanges.bf16 import BF16Exchange as BF16Exchange
from allgrad.parallel.exchanges.exact import ExactExchange as ExactExchange
from allgrad.parallel.exchanges.local import LocalExchange as LocalExchange
from allgrad.parallel.exchanges.mpi import MPIExchange as MPIExchange
from allgrad.parallel.exchanges.node import NodeExchange as NodeExchange
from allgrad.parallel.exchanges.node_sharded import NodeShardedExchange as NodeShardedExchange
from allgrad.parallel.exchanges.power_sgd import PowerSGDExchange as PowerSGDExchange
from allgrad.parallel.exchanges.registry import describe_exchange as describe_exchange
from allgrad.parallel.exchanges.registry import exchanges as exchanges
from allgrad.parallel.exchanges.registry import make_exchange as make_exchange
from allgrad.parallel.exchanges.registry import register_exchange as register_exchange
from allgrad.parallel.exchanges.sharded import ShardedExchange as ShardedExchange
from allgrad.parallel.exchanges.top_k import TopKExchange as TopKExchange
