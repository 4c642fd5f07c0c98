"""The predicted cost of an estimate, and the network without numbers that it is taken from."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import numpy as np

from cumprop import activations
from cumprop.flops import Phantom, Work, phantom
from cumprop.networks import MLP, Shape


@dataclass(frozen=True)
class Cost:
    """Predicted cost of one estimate: FLOPs, and bytes of arrays alive at the worst moment.

    `work` tells the kinds of FLOPs apart, for forecasts of time; without it every FLOP is taken to
    be as fast as one of sampling. `+` adds estimates that run one after the other.

    >>> from cumprop.contract import build
    >>> shape = Shape((256,) * 6, ("relu",) * 4)
    >>> f"{build('cumulant', order=2).predict_cost(shape).flops:.1e}"
    '2.0e+08'
    >>> Cost(3, 100) + Cost(4, 50)                                    # one after the other
    Cost(flops=7, bytes=100)
    """

    flops: int
    bytes: int
    work: Work | None = field(default=None, compare=False, repr=False)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, max(self.bytes, other.bytes))


def phantom_network(shape: Shape) -> MLP:
    """The stand-in for a network of this shape: its arrays have shapes and no numbers.

    An estimator that runs on it counts its FLOPs and bytes; the result has no numbers. Cost: O(L).
    """
    maps = list(zip(shape.widths[1:], shape.widths[:-1], strict=True))
    n = shape.widths[0]

    def array(*size: int) -> Phantom:
        return phantom(size, np.ones((), shape.dtype))

    network = SimpleNamespace(
        weights=[array(*size) for size in maps],
        biases=[array(size[0]) if shape.biased else None for size in maps],
        activations=[activations.get(name) for name in shape.activations],
        input_mean=array(n) if shape.gaussian_input else None,
        input_variance=None,
        input_cov=array(n, n) if shape.gaussian_input else None,
        init_scale=(1.0,) * len(maps),
        depth=shape.depth,
        widths=shape.widths,
        dtype=np.dtype(shape.dtype),
        shape=shape,
    )
    return cast(MLP, network)
