"""`functional_call`: a model as a function of its parameters."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.autodiff import Tensor
from allgrad.nn.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allgrad.nn.module import Module


def functional_call(module: Module, parameters: Mapping[str, Any], *args: Any, **keywords: Any) -> Any:
    """Call a model with other values in place of its parameters, which stay as they are.

    So transforms can differentiate by the parameters: per-sample gradients, Hessians, meta-learning, a network inside a physical
    model.

    Args:
        module: the model.
        parameters: name (as in `named_parameters`) to an array or Tensor of the parameter's shape and dtype. Parameters that are
            not named keep their own values. A tied parameter is replaced everywhere.
        args, keywords: for the model's `forward`.

    Raises:
        InputError: a name that is no parameter, or a value of another shape or dtype.

    >>> import numpy as np, allgrad as ag
    >>> model = ag.nn.Linear(2, 1, rng=0)
    >>> values = {name: p.numpy() for name, p in model.named_parameters()}
    >>> x = np.array([[1.0, 2.0]], np.float32)
    >>> loss = lambda values: np.sum(ag.nn.functional_call(model, values, x))
    >>> ag.grad(loss)(values)["weight"].tolist()
    [[1.0], [2.0]]
    """
    own = dict(module.named_parameters())
    replaced: dict[int, Any] = {}
    for name, value in parameters.items():
        parameter = own.get(name)
        if parameter is None:
            close = get_close_matches(name, own, 1)
            hint = f" Did you mean {close[0]!r}?" if close else f" It has {list(own)[:8]}."
            raise InputError(f"functional_call: the model has no parameter {name!r}.{hint}")
        given = value if isinstance(value, Tensor) else Tensor(np.array(value))
        if given.shape != parameter.shape or given.dtype != parameter.dtype:
            raise InputError(
                f"functional_call: {name!r} must have shape {parameter.shape} and dtype {parameter.dtype}; "
                f"got {given.shape} and {given.dtype}."
            )
        replaced[id(parameter)] = given
    held = [
        (vars(owner), attribute, value)
        for owner in module.modules()
        for attribute, value in vars(owner).items()
        if id(value) in replaced
    ]
    try:
        for attributes, attribute, parameter in held:
            attributes[attribute] = replaced[id(parameter)]
        return module(*args, **keywords)
    finally:
        for attributes, attribute, parameter in held:
            attributes[attribute] = parameter
