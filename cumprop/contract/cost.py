"""The predicted cost of an estimate, and the network without numbers that tells it."""

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

    `work` tells FLOPs apart by kind, for forecasts of time; all others run at the speed of
    sampling.

    >>> from cumprop.contract import build
    >>> shape = Shape((256,) * 6, ("relu",) * 4)
    >>> f"{build('cumulant', order=2).predict_cost(shape).flops:.1e}"
    '2.0e+08'
    >>> Cost(3, 100) + Cost(4, 50)                                    # one after the other
    Cost(flops=7, bytes=100)
    """

    flops: int
    bytes: int
    work: Work = field(default=Work(), compare=False, repr=False)

    def __add__(self, other: Cost) -> Cost:
        most = max(self.bytes, other.bytes)
        return Cost(self.flops + other.flops, most, self.work + other.work)


def phantom_network(shape: Shape) -> MLP:
    """A stand-in for a network of this shape."""
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
