"""Optimizers over flat state, learning-rate schedules, gradient clipping, and averages of weights."""

from allgrad.optim.adafactor import Adafactor as Adafactor
from allgrad.optim.adam import Adam as Adam
from allgrad.optim.adam import AdamW as AdamW
from allgrad.optim.averaging import EMA as EMA
from allgrad.optim.clip import GradientNormError as GradientNormError
from allgrad.optim.clip import clip_norm as clip_norm
from allgrad.optim.clip import clip_value as clip_value
from allgrad.optim.lamb import LAMB as LAMB
from allgrad.optim.lars import LARS as LARS
from allgrad.optim.lbfgs import LBFGS as LBFGS
from allgrad.optim.lion import Lion as Lion
from allgrad.optim.muon import Muon as Muon
from allgrad.optim.optimizer import Optimizer as Optimizer
from allgrad.optim.optimizer import OptimizerState as OptimizerState
from allgrad.optim.schedules import Constant as Constant
from allgrad.optim.schedules import Cosine as Cosine
from allgrad.optim.schedules import Linear as Linear
from allgrad.optim.schedules import OneCycle as OneCycle
from allgrad.optim.schedules import Polynomial as Polynomial
from allgrad.optim.schedules import Scheduler as Scheduler
from allgrad.optim.schedules import StepDecay as StepDecay
from allgrad.optim.schedules import WarmUp as WarmUp
from allgrad.optim.schedules import scaled_lr as scaled_lr
from allgrad.optim.settings import SettingError as SettingError
from allgrad.optim.sgd import SGD as SGD
from allgrad.stateful import StateError as StateError
