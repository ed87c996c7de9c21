"""Ready models, each in a short file."""

from allgrad.nn.models.gpt import GPT as GPT
from allgrad.nn.models.mlp import MLP as MLP
