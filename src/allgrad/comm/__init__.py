"""Ranks and collectives: arrays in, arrays out, the same bits at any rank count. Knows nothing of tapes."""

from .agreement import DisagreementError as DisagreementError
from .all_reduce import Group as Group
from .all_reduce import tree_all_reduce as tree_all_reduce
from .desync import DesyncError as DesyncError
from .desync import Kind as Kind
from .engine import Engine as Engine
from .launcher import LaunchError as LaunchError
from .node_memory import NodeMemory as NodeMemory
from .node_memory import SharedMemoryError as SharedMemoryError
from .stall_monitor import STALL_SECONDS as STALL_SECONDS
from .sums import tree_sum as tree_sum
from .sums import tree_sum_later as tree_sum_later
from .transport import Collective as Collective
from .transport import Handle as Handle
from .transport import Lane as Lane
from .transport import Times as Times
from .transport import Transfer as Transfer
from .transport import Transport as Transport
from .tree import BlockPlan as BlockPlan
from .tree import Node as Node
from .tree import additions as additions
from .tree import block as block
from .tree import plan_block as plan_block
from .world import World as World
from .world import init as init
from .world import init_replacement as init_replacement
