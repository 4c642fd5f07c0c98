"""Checks of the arguments that a network is made of; errors count maps from W0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from numpy.typing import ArrayLike, NDArray

from cumprop.activations import Activation, PerNeuron, get, listed
from cumprop.errors import CumpropError
from cumprop.inputs.arrays import numbers

Array = NDArray[Any]
OfLayer = str | Activation | Sequence[str | Activation]
"""The activation of all neurons of a layer, or one for each of them."""


def check_chain(matrices: Sequence[Array]) -> None:
    """Raise CumpropError where matrices (n_l, n_{l-1}) do not fit behind each other."""
    if not matrices:
        raise CumpropError("the network has no weights; give at least one matrix (out, in)")
    for layer, w in enumerate(matrices):
        if w.ndim != 2 or not w.size:
            raise CumpropError(f"W{layer} has shape {w.shape}; give a matrix (out, in)")
        if layer and w.shape[1] != len(matrices[layer - 1]):
            raise CumpropError(
                f"W{layer} has shape {w.shape} but W{layer - 1} gives {len(matrices[layer - 1])} "
                "numbers; matrices are (out, in), so transpose those stored as (in, out)"
            )


def entries(values: Iterable[Any], name: str, wanted: str) -> tuple[Any, ...]:
    """The entries of a sequence. Raises CumpropError, with `name`, for what is none.

    >>> entries([1.0, None], "biases", "a list of vectors")
    (1.0, None)
    """
    try:
        return tuple(values)
    except TypeError:
        raise CumpropError(f"{name} is {type(values).__name__}; give {wanted}") from None


def checked_activations(
    activations: str | Activation | Sequence[OfLayer], widths: Sequence[int]
) -> tuple[Activation, ...]:
    """The activations of the hidden layers, which have these widths, from the argument of `MLP`.

    Raises CumpropError for unknown names and for numbers that do not fit.
    """
    if isinstance(activations, str | Activation):
        activations = [activations] * len(widths)
    activations = entries(activations, "activations", "a name, or a list of names")
    if len(activations) != len(widths):
        raise CumpropError(
            f"{len(activations)} activations for {len(widths)} hidden layers; "
            "give one name for all, or one for each (none follows the last map)"
        )
    return tuple(map(_of_layer, activations, range(1, len(widths) + 1), widths))


def checked_scales(scale: ArrayLike | None, n_maps: int) -> tuple[float, ...] | None:
    """The `init_scale` of a network of so many maps; raises CumpropError where it does not fit.

    >>> checked_scales([2, 0.5], 2), checked_scales(None, 2)
    ((2.0, 0.5), None)
    """
    if scale is None:
        return None
    values = numbers(scale, "init_scale")
    if values.shape != (n_maps,) or (values < 0).any():
        raise CumpropError(
            f"init_scale must be {n_maps} numbers ≥ 0: weight variance · fan-in of every map"
        )
    return tuple(float(c) for c in values)


def _of_layer(entry: OfLayer, layer: int, width: int) -> Activation:
    if listed(entry):
        kinds = [get(a) for a in cast(Sequence[str | Activation], entry)]
        if len(kinds) == width and len({*kinds}) == 1:
            return kinds[0]
        activation: Activation = PerNeuron(kinds)
    else:
        activation = get(cast(str | Activation, entry))
    if activation.neurons not in (None, width):
        raise CumpropError(
            f"hidden layer {layer} has {width} neurons and {activation.neurons} activations; "
            "give one name for all, or one for each neuron"
        )
    return activation
