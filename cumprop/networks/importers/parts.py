"""The parts of a network that importers return, with shared checks of errors and memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cumprop.activations import Activation
from cumprop.errors import CumpropError
from cumprop.inputs import Law
from cumprop.memory import check_memory
from cumprop.networks.checks import OfLayer

Array = NDArray[Any]
Linear = tuple[Array, Array | None]
"""Weights (out, in) and bias of a map."""

LONGEST = 400
"""The most characters of an error or a note, because names in a file may have any length."""


@dataclass(eq=False)
class Parts:
    """The arguments of `MLP` that a source holds; None for those that it does not hold.

    `weights` are matrices (n_l, n_{l-1}), `biases` vectors (n_l,) or None.
    """

    weights: Sequence[Array]
    biases: Sequence[Array | None]
    activations: str | Activation | Sequence[OfLayer] | None = None
    input_mean: ArrayLike | None = None
    input_cov: ArrayLike | None = None
    init_scale: ArrayLike | None = None
    input: Law | None = None
    notes: list[str] = field(default_factory=list)
    """Sentences that a user should know on how the source was read; no argument of `MLP`."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that the source holds, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: found[key] for key in found if key != "notes" and found[key] is not None}


@contextmanager
def naming(source: object) -> Iterator[None]:
    """Start the errors of the `with` block with the source, and keep them to one printable line.

    Raises CumpropError in place of CumpropError and OSError.
    """
    try:
        yield
    except OSError as error:
        raise CumpropError(f"{source}: cannot be read: {error.strerror or error}") from None
    except CumpropError as error:
        raise CumpropError(f"{source}: {one_line(str(error))}") from None


def one_line(text: str) -> str:
    """The text as one printable line that is not too long."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= LONGEST else line[:LONGEST] + "…"


def library(name: str) -> Any:
    """Import a library that cumprop does not depend on; raise CumpropError where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise CumpropError(f"{package} is not installed: pip install {package}") from None


def chained(steps: Iterable[Linear | str]) -> Parts:
    """The network of maps and names of activations in the order they run.

    Two maps in a row have the activation identity between them; an activation that no map
    precedes, or that ends the network, gets an identity map.

    >>> parts = chained([(np.ones((2, 3)), None), "relu"])
    >>> parts.activations, parts.weights[1].tolist()
    (['relu'], [[1.0, 0.0], [0.0, 1.0]])
    """
    steps = list(steps)
    first = next((step for step in steps if not isinstance(step, str)), None)
    if first is None:
        raise CumpropError("it holds no linear layer")
    width, dtype = first[0].shape[1], first[0].dtype
    weights: list[Array] = []
    biases: list[Array | None] = []
    activations: list[OfLayer] = []

    def add(weight: Array, bias: Array | None) -> None:
        weights.append(weight)
        biases.append(bias)

    for step in steps:
        if isinstance(step, str):
            if len(weights) == len(activations):
                add(_identity(width, dtype), None)
            activations.append(step)
        else:
            if len(weights) > len(activations):
                activations.append("identity")
            add(*step)
            width = len(step[0])
    if len(weights) == len(activations):
        add(_identity(width, dtype), None)
    return Parts(weights, biases, activations)


def _identity(width: int, dtype: np.dtype[Any]) -> Array:
    check_memory(width**2 * dtype.itemsize)
    return np.eye(width, dtype=dtype)
