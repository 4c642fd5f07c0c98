"""The arrays of an npz file that holds a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cumprop.activations import Custom
from cumprop.errors import CumpropError
from cumprop.flops import on_host
from cumprop.inputs import Uniform

if TYPE_CHECKING:
    from cumprop.networks.mlp import MLP


def arrays_of(network: MLP) -> dict[str, Any]:
    """The arrays of a network by their names in npz files, which `load` reads.

    Raises CumpropError for custom activations and for inputs neither Gaussian nor uniform.

    >>> import cumprop
    >>> sorted(arrays_of(cumprop.MLP([[[3.0, 4.0]], [[1.0]]], input_mean=1.0)))
    ['W0', 'W1', 'activations', 'input_mean']
    """
    for kind in {kind for activation in network.activations for kind in activation.kinds}:
        if isinstance(kind, Custom):
            raise CumpropError(
                f"activation {kind.name!r} is a Python function and cannot be saved; "
                "save the weights with numpy.savez and build the MLP anew"
            )
    arrays: dict[str, Any] = {f"W{layer}": w for layer, w in enumerate(network.weights)}
    arrays |= {f"b{layer}": b for layer, b in enumerate(network.biases)}
    arrays["activations"] = np.array([a.name for a in network.activations], dtype=np.str_)
    if network.has_gaussian_input:
        variance = network.input_variance
        arrays["input_mean"] = network.input_mean
        arrays["input_cov"] = network.input_cov if variance is None else variance
    elif isinstance(network.input, Uniform):
        arrays |= {"input_low": network.input.low, "input_high": network.input.high}
    else:
        raise CumpropError(f"an input of {network.input.words} cannot be saved; give it to load")
    arrays["init_scale"] = network.init_scale
    return {key: on_host(a) for key, a in arrays.items() if a is not None}
