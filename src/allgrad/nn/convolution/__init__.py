"""Convolution of images, channels last, by the fastest of several algorithms. Only shapes decide which one.

An `Algorithm` convolves some samples at a time with one kernel. All have the same interface, so convolution, its two gradients,
and transposed convolution (an input gradient) are each written once, in `operation`:

* `pointwise`: a 1x1 kernel is a matrix product;
* `winograd`: 3x3 kernels with stride 1 and enough channels, with a quarter of the multiplications;
* `depthwise`: one channel per group;
* `patches`: all other kernels, by copying windows into the rows of a matrix.
"""

from allgrad.nn.convolution.algorithm import Algorithm as Algorithm
from allgrad.nn.convolution.epilogue import Epilogue as Epilogue
from allgrad.nn.convolution.geometry import Geometry as Geometry
from allgrad.nn.convolution.operation import convolve as convolve
from allgrad.nn.convolution.operation import convolve_transposed as convolve_transposed
from allgrad.nn.convolution.selection import choose as choose
