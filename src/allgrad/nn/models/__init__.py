"""Ready models, each in a short file."""

from allgrad.nn.models.cnn import CNN as CNN
from allgrad.nn.models.gpt import GPT as GPT
from allgrad.nn.models.lstm import LSTMLanguageModel as LSTMLanguageModel
from allgrad.nn.models.mlp import MLP as MLP
from allgrad.nn.models.pinn import PINN as PINN
from allgrad.nn.models.pinn import partial as partial
from allgrad.nn.models.resnet import ResNet18 as ResNet18
