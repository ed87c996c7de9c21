"""Ranks and collectives: arrays in, arrays out, the same bits at any rank count. Knows nothing of tapes."""

from .desync import DesyncError as DesyncError
from .engine import Engine as Engine
from .jobs import Handle as Handle
from .jobs import Times as Times
from .launcher import LaunchError as LaunchError
from .sums import tree_sum as tree_sum
from .sums import tree_sum_later as tree_sum_later
from .tree import BlockPlan as BlockPlan
from .tree import Node as Node
from .tree import block as block
from .tree import plan_block as plan_block
from .world import DisagreementError as DisagreementError
from .world import World as World
from .world import init as init
