"""Checkpoints: their format, writing them, and what they hold."""
