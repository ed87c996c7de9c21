"""Training from a configuration: reading it, running it, writing its results."""

from allgrad.train.config.registry import (
    register_dataset,
    register_loss,
    register_model,
    register_optimizer,
    register_schedule,
)

__all__ = ["register_dataset", "register_loss", "register_model", "register_optimizer", "register_schedule"]
