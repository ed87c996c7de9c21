"""Flat memory: parameters, gradients and optimizer state as slices of a few aligned arrays."""

from allgrad.memory.allocator import ALIGNMENT as ALIGNMENT
from allgrad.memory.allocator import Allocator as Allocator
from allgrad.memory.allocator import aligned_zeros as aligned_zeros
from allgrad.memory.allocator import give_back_pages as give_back_pages
from allgrad.memory.arena import Arena as Arena
from allgrad.memory.arena import Layout as Layout
from allgrad.memory.arena import ParameterSpec as ParameterSpec
from allgrad.memory.arena import Segment as Segment
from allgrad.memory.arena import Slot as Slot
from allgrad.memory.flat import FlatParameters as FlatParameters
from allgrad.memory.flat import flatten as flatten
from allgrad.memory.flat import home_of as home_of
from allgrad.memory.shadow import Shadow as Shadow
from allgrad.memory.sharing import PRIVATE as PRIVATE
from allgrad.memory.sharing import Private as Private
from allgrad.memory.sharing import Sharing as Sharing
from allgrad.memory.sharing import share_of as share_of
