"""allgrad: data-parallel training on clusters of ordinary CPUs, on a tape of its own over plain NumPy."""

from allgrad import numpy as numpy
from allgrad.autodiff import *  # noqa: F403
