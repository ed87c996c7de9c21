"""Convolution of images, channels last: the fastest of several methods, chosen by shapes alone.

A *algorithm* convolves some samples at a time with one kernel. All have the same face (`Algorithm`), so that convolution, its
two gradients and transposed convolution (an input gradient) are each written once, in `operation`:

* `pointwise`: a 1x1 kernel is a matrix product;
* `winograd`: 3x3 kernels with stride 1 and enough channels, in a quarter of the multiplications;
* `depthwise`: one channel a group;
* `patches`: everything else, by copying windows into the rows of a matrix.
"""

from allgrad.nn.convolution.algorithm import Algorithm as Algorithm
from allgrad.nn.convolution.epilogue import Epilogue as Epilogue
from allgrad.nn.convolution.geometry import Geometry as Geometry
from allgrad.nn.convolution.operation import convolve as convolve
from allgrad.nn.convolution.operation import convolve_transposed as convolve_transposed
from allgrad.nn.convolution.selection import choose as choose
