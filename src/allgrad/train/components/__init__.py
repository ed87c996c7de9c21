"""The models, data sets, losses, optimizers and metrics that a configuration can name."""
