"""The errors that layers and models raise about what they are given. Each is an `AllgradError` and the built-in of its kind."""

from __future__ import annotations

from allgrad.errors import AllgradError, OptionError


class LayerOptionError(OptionError):
    """A layer cannot be built with these options."""


class InputError(AllgradError, ValueError):
    """A layer's input has the wrong shape or size."""


class InputTypeError(AllgradError, TypeError):
    """A layer's input is not an array, or has the wrong dtype."""


class IndexRangeError(InputError, IndexError):
    """A token, class, or other index is outside of its table."""
