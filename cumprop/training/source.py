"""Inputs in training: standard normal numbers as tensors, and the map from them to inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cumprop.errors import CumpropError
from cumprop.flops import counted
from cumprop.inputs import Gaussian
from cumprop.networks import MLP
from cumprop.sampling import Inputs
from cumprop.training.wiring import require_torch

Array = NDArray[Any]


class Source:
    """The input of `network` as tensors; x = μ0 + R z where it is Gaussian, z ~ N(0, I).

    FLOPs of R z are counted as they run, but neither random numbers, nor the root R of Σ0, nor
    inputs of another law.
    """

    def __init__(self, network: MLP, rng: np.random.Generator) -> None:
        self.rng, self.n, self.dtype = rng, network.widths[0], network.dtype
        self._law, self._torch = network.input, require_torch()
        gaussian = isinstance(self._law, Gaussian)
        self._inputs = Inputs(network) if gaussian else None

    def draw(self, number: int) -> Any:
        """Inputs (N, n_0)."""
        if self._inputs is None:
            return self._torch.from_numpy(self._law.sample(number, self.rng).astype(self.dtype))
        return self.placed(self.normal(number))

    def normal(self, number: int) -> Any:
        """Standard normal numbers z, (N, n_0)."""
        return self.tensor(self.rng.standard_normal((number, self.n)))

    def placed(self, z: Any) -> Any:
        """Inputs x = μ0 + R z, (N, n_0), of z, (N, n_0).

        Raises CumpropError where the input is not Gaussian.
        """
        if self._inputs is None:
            raise CumpropError(
                f"advice is about a Gaussian input, not {self._law.words}; train on samples"
            )
        return self._inputs.placed(counted(z))

    def tensor(self, array: Array) -> Any:
        """A tensor of the network's type."""
        return self._torch.from_numpy(array.astype(self.dtype))
