"""Layers whose neurons have different activations, as where a skip connection passes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.activations.activation import Activation
from cumprop.activations.gaussian_moments import HermiteTable, unit_power
from cumprop.activations.quadrature import TOLERANCE
from cumprop.errors import CumpropError
from cumprop.flops import not_counting

Array = NDArray[Any]
Runs = tuple[tuple[Activation, int], ...]
"""Activations and the numbers of neighbouring neurons that have them, in the order of neurons."""


class PerNeuron(Activation):
    """An activation for each of n neurons: `runs` of neighbours that have the same one.

    The last axis of arguments is that of the neurons and has the length `neurons`. The name, as in
    relu[64]+identity[10], lists the runs. Cost: some 10 µs per run and call, so that neurons with
    the same activation belong side by side. Raises CumpropError where there is no neuron.

    >>> from cumprop.activations import get
    >>> mixed = PerNeuron([get("relu"), get("relu"), get("identity")])
    >>> mixed, mixed.forward(np.array([[-1.0, 2.0, -3.0]])).tolist()
    (relu[2]+identity[1], [[0.0, 2.0, -3.0]])
    """

    def __init__(self, activations: Sequence[Activation]) -> None:
        if not len(activations):
            raise CumpropError("a layer has no activation; give one for each of its neurons")
        self.runs: Runs = tuple(
            (activation, len(list(run))) for activation, run in groupby(activations)
        )
        self.neurons = len(activations)
        self.name = "+".join(f"{activation.name}[{n}]" for activation, n in self.runs)
        self.homogeneous = all(activation.homogeneous for activation, _ in self.runs)
        self.differentiable = all(activation.differentiable for activation, _ in self.runs)
        self.breakpoints = tuple(sorted({b for a, _ in self.runs for b in a.breakpoints}))

    @property
    def kinds(self) -> tuple[Activation, ...]:
        return tuple(dict.fromkeys(activation for activation, _ in self.runs))

    def of(self, neuron: int) -> Activation:
        return next(a for a, part in self._parts() if part.start <= neuron < part.stop)

    def forward(self, z: Array) -> Array:
        return self._joined(lambda activation, z: activation.forward(z), z)

    def derivative(self, z: Array) -> Array:
        return self._joined(lambda activation, z: activation.derivative(z), z)

    def difference(self, z: Array, h: Array) -> Array:
        return self._joined(lambda activation, z, h: activation.difference(z, h), z, h)

    def at_breakpoints(self, z: Array) -> Array:
        return self._joined(lambda activation, z: activation.at_breakpoints(z), z)

    def of_neurons(self, z: Array, neurons: Array) -> Array:
        values = np.empty_like(z)
        for activation, part in self._parts():
            rows = (part.start <= neurons) & (neurons < part.stop)
            if rows.any():
                values[rows] = activation.forward(z[rows])
        return values

    def coefficients(self, mean: Array, sigma: Array, trust: float = TOLERANCE) -> HermiteTable:
        tables = [
            activation.coefficients(mean[..., part], sigma[..., part], trust)
            for activation, part in self._parts()
        ]
        return _JoinedTable(tables, [mean[..., part] for _, part in self._parts()])

    def _parts(self) -> Iterator[tuple[Activation, slice]]:
        """The runs with the neurons that they are for."""
        start = 0
        for activation, n in self.runs:
            yield activation, slice(start, start + n)
            start += n

    def _joined(self, function: Callable[..., Array], *arrays: Array) -> Array:
        parts = [
            function(activation, *(a[..., part] for a in arrays))
            for activation, part in self._parts()
        ]
        return np.concatenate(parts, axis=-1)


class _JoinedTable(HermiteTable):
    """The coefficients of runs side by side, in the largest of their units."""

    def __init__(self, tables: Sequence[HermiteTable], means: Sequence[Array]) -> None:
        super().__init__()
        self._tables = tables
        self.size = max(table.size for table in tables)
        self.tolerance = max(table.tolerance for table in tables)
        if any(table.centre is not None for table in tables):
            centres = [
                np.zeros_like(mean) if table.centre is None else table.centre
                for table, mean in zip(tables, means, strict=True)
            ]
            self.centre = np.concatenate(centres, axis=-1)

    @property
    def precision(self) -> float:  # type: ignore[override]
        return max(table.precision for table in self._tables)

    def _coefficient(self, k: int, p: int) -> Array:
        return np.concatenate([self._in_unit(table, k, p) for table in self._tables], axis=-1)

    def _in_unit(self, table: HermiteTable, k: int, p: int) -> Array:
        a = table(k, p)
        if table.size == self.size:
            return a
        with not_counting():  # counts of FLOPs depend on shapes alone
            return a * unit_power(table.size / self.size, p)


def per_neuron(name: str, get: Callable[[str], Activation]) -> PerNeuron | None:
    """The activation per neuron of a name such as relu[64]+identity[10]; None for other names.

    `get` finds the activation of a run by its name and raises CumpropError for an unknown one.

    >>> from cumprop.activations import get
    >>> per_neuron("relu[64]+identity[10]", get).neurons, per_neuron("relu", get)
    (74, None)
    """
    runs = [re.fullmatch(r"([^\[\]+]+)\[([1-9]\d{0,8})\]", run) for run in name.split("+")]
    found = [run for run in runs if run is not None]
    if len(found) < len(runs):
        return None
    return PerNeuron([a for run in found for a in [get(run[1])] * int(run[2])])


def side_by_side(*layers: tuple[Activation, int]) -> Activation:
    """The activation of layers side by side, each with its number of neurons.

    >>> from cumprop.activations import get
    >>> relu, tanh = get("relu"), get("tanh")
    >>> side_by_side((relu, 2), (relu, 3)), side_by_side((relu, 2), (tanh, 3))
    (relu, relu[2]+tanh[3])
    """
    if len({activation for activation, _ in layers}) == 1 and layers[0][0].neurons is None:
        return layers[0][0]
    return PerNeuron([activation.of(i) for activation, n in layers for i in range(n)])


def listed(activations: object) -> bool:
    """Whether an argument lists activations, in place of naming one."""
    return isinstance(activations, Sequence | np.ndarray) and not isinstance(activations, str)
