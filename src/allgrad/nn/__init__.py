"""Layers, losses and models."""

from allgrad.nn import init as init
from allgrad.nn.module import BufferRule as BufferRule
from allgrad.nn.module import LoadResult as LoadResult
from allgrad.nn.module import Module as Module
from allgrad.nn.parameter import SAME as SAME
from allgrad.nn.parameter import TRANSPOSED as TRANSPOSED
from allgrad.nn.parameter import Parameter as Parameter
from allgrad.nn.parameter import TorchLayout as TorchLayout
from allgrad.nn.random import Stream as Stream
from allgrad.nn.random import current_stream as current_stream
from allgrad.nn.random import random_stream as random_stream
