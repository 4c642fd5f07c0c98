"""The predicted cost of an estimate, and the network without numbers that tells it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cumprop.activations import stand_in
from cumprop.flops import Work, with_entries, without_numbers
from cumprop.inputs.covariances import Checked
from cumprop.networks import MLP, Shape


@dataclass(frozen=True)
class Cost:
    """Predicted cost of one estimate: FLOPs, and bytes of arrays alive at the worst moment.

    `work` tells FLOPs apart by kind, for forecasts of time; all other FLOPs run at the speed of
    sampling. `+` adds estimates that run one after the other.

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


def shape_only_network(shape: Shape) -> MLP:
    """A network of this shape without numbers, on which an estimator counts its FLOPs and bytes.

    The counts are the same for all networks of the shape; an input that is not N(0, I) has a full
    Σ0. docs/costs.md has the rules for estimators.

    >>> from cumprop.flops import arena, counting
    >>> with arena() as memory, counting() as flops:
    ...     w = shape_only_network(Shape((3, 5), ())).weights[0]
    ...     y = w @ np.ones(3)
    >>> flops.total, memory.peak                    # 2 · 5 · 3; w in float32 and y in float64
    (30, 100)
    """
    one, n = np.ones((), shape.dtype), shape.widths[0]
    maps = list(zip(shape.widths[1:], shape.widths[:-1], strict=True))
    return MLP(
        weights=[
            with_entries(without_numbers(size, one), count)
            for size, count in zip(maps, shape.entries or [None] * len(maps), strict=True)
        ],
        biases=[without_numbers(size[:1], one) if shape.biased else None for size in maps],
        activations=[stand_in(name) for name in shape.activations],
        input_mean=without_numbers((n,), one) if shape.gaussian_input else None,
        input_cov=Checked(without_numbers((n, n), one)) if shape.gaussian_input else None,
        init_scale=(1.0,) * len(maps),
    )
