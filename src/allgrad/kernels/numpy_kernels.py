"""The NumPy kernels: always there. Each function is documented in `interface.Kernels`."""

from __future__ import annotations

from allgrad.kernels.numpy_activations import elu as elu
from allgrad.kernels.numpy_activations import gelu as gelu
from allgrad.kernels.numpy_activations import gelu_tanh as gelu_tanh
from allgrad.kernels.numpy_activations import relu_backward as relu_backward
from allgrad.kernels.numpy_activations import relu_forward as relu_forward
from allgrad.kernels.numpy_activations import softplus as softplus
from allgrad.kernels.numpy_activations import tanh as tanh
from allgrad.kernels.numpy_attention import attention_backward as attention_backward
from allgrad.kernels.numpy_attention import attention_forward as attention_forward
from allgrad.kernels.numpy_bf16 import bf16_add as bf16_add
from allgrad.kernels.numpy_bf16 import bf16_decode as bf16_decode
from allgrad.kernels.numpy_bf16 import bf16_encode as bf16_encode
from allgrad.kernels.numpy_losses import cross_entropy_backward as cross_entropy_backward
from allgrad.kernels.numpy_losses import cross_entropy_forward as cross_entropy_forward
from allgrad.kernels.numpy_losses import soft_cross_entropy_backward as soft_cross_entropy_backward
from allgrad.kernels.numpy_losses import soft_cross_entropy_forward as soft_cross_entropy_forward
from allgrad.kernels.numpy_matmul import matmul as matmul
from allgrad.kernels.numpy_norms import layer_norm_backward as layer_norm_backward
from allgrad.kernels.numpy_norms import layer_norm_forward as layer_norm_forward
from allgrad.kernels.numpy_norms import rms_norm_backward as rms_norm_backward
from allgrad.kernels.numpy_norms import rms_norm_forward as rms_norm_forward
from allgrad.kernels.numpy_pooling import max_pool_backward as max_pool_backward
from allgrad.kernels.numpy_pooling import max_pool_forward as max_pool_forward
from allgrad.kernels.numpy_pooling import pool_tiles as pool_tiles
from allgrad.kernels.numpy_pooling import unpool_tiles as unpool_tiles
from allgrad.kernels.numpy_random import random_words as random_words
from allgrad.kernels.numpy_recurrence import gru_backward as gru_backward
from allgrad.kernels.numpy_recurrence import gru_forward as gru_forward
from allgrad.kernels.numpy_recurrence import lstm_backward as lstm_backward
from allgrad.kernels.numpy_recurrence import lstm_forward as lstm_forward
from allgrad.kernels.numpy_softmax import causal_softmax_forward as causal_softmax_forward
from allgrad.kernels.numpy_softmax import softmax_backward as softmax_backward
from allgrad.kernels.numpy_softmax import softmax_forward as softmax_forward
from allgrad.kernels.numpy_sums import bias_gradient as bias_gradient
from allgrad.kernels.numpy_sums import dot as dot
from allgrad.kernels.numpy_sums import embedding_gradient as embedding_gradient
from allgrad.kernels.numpy_tiles import assemble_tiles as assemble_tiles
from allgrad.kernels.numpy_tiles import transform_tiles as transform_tiles
from allgrad.kernels.numpy_updates import adam as adam
from allgrad.kernels.numpy_updates import sgd as sgd
from allgrad.kernels.numpy_workers import product_by_worker as product_by_worker
from allgrad.kernels.numpy_workers import product_of_each_worker as product_of_each_worker
from allgrad.kernels.numpy_workers import sum_by_worker as sum_by_worker
from allgrad.kernels.numpy_workers import sum_of_each_worker as sum_of_each_worker

name = "numpy"
