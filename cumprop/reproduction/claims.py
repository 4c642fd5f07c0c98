"""The claims of the paper, as data: statement, requirement, and how rows measure it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cumprop.errors import CumpropError
from cumprop.reproduction import tail_verdicts
from cumprop.reproduction import training_verdicts as distilled
from cumprop.reproduction import verdicts as measured
from cumprop.reproduction.verdicts import EXPONENT_TOLERANCE, FLAT, OPEN, WIDTH, Measurement

if TYPE_CHECKING:
    import pandas as pd

ACTIVATIONS = {
    "gelu": "GELU, He",
    "tanh_critical": "tanh, critical",
    "sigmoid": "sigmoid, He",
    "gelu_critical": "GELU, critical",
}


CHEAPER = "Our algorithms need fewer FLOPs than the paper's: compare the saving at Table 1's."

EXACT_AT_ONE = (
    "One hidden layer is exact at every order, so that shallow errors rise faster in L than deep "
    "ones will."
)
PRODUCTS = "Our algorithms spend their time in matrix products, at the speed of those of sampling."


@dataclass(frozen=True)
class Claim:
    """A statement of the paper: its place, our words for it, and the requirement for agreement.

    `measure` is applied to the rows of `experiment`, a file of configs/; without rows of `width`
    the claim stays open, because it is not about smaller networks. `reason` explains disagreement.
    """

    source: str
    statement: str
    required: str
    experiment: str
    measure: Callable[[pd.DataFrame], Measurement]
    width: int | None = WIDTH
    reason: str = ""

    @property
    def command(self) -> str:
        """The command that makes the rows."""
        return f"{command(self.experiment)} --scale laptop"

    def judge(self, tables: Mapping[str, pd.DataFrame]) -> Measurement:
        """The measurement from the rows of all experiments, by name: scores, or runs."""
        if self.experiment not in tables:
            return Measurement("not run", OPEN)
        rows = tables[self.experiment]
        rows = rows[rows["flops"].notna()]
        if rows.empty:
            return Measurement("not run", OPEN)
        if self.width is not None and self.width not in set(rows["width"]):
            return Measurement(f"run at widths up to {rows['width'].max()} only", OPEN)
        try:
            return self.measure(rows)
        except CumpropError as error:
            return Measurement(str(error), OPEN)


def command(experiment: str) -> str:
    """The command that runs an experiment."""
    verb = "train" if experiment == DISTILLATION else "sweep"
    return f"cumprop {verb} configs/{experiment}.yaml"


DISTILLATION = "distill"
"""The experiment that trains networks."""


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "Figure 1",
        "At width 256 and depth 4, cumulants need fewer FLOPs than sampling to the same error.",
        "interval of the saving above 1 at each order 1 to 4",
        "relu_w256",
        partial(measured.saves, depth=4, orders=(1, 2, 3, 4)),
    ),
    *(
        Claim(
            "Figure 2",
            f"At depth {depth}, cumulants need {words} times fewer FLOPs than sampling.",
            f"interval of the largest saving meets {low} to {high}",
            "depths",
            partial(measured.best_saving, depth=depth, low=low, high=high),
            reason=CHEAPER,
        )
        for depth, low, high, words in ((2, 300, 3000, "about 1000"), (4, 10, 100, "10 to 100"))
    ),
    Claim(
        "Figure 2",
        "At depth 8, order 4 needs more FLOPs than sampling.",
        "interval of the saving below 1",
        "depths",
        partial(measured.loses, depth=8, order=4),
        reason=CHEAPER,
    ),
    *(
        Claim(
            "Figure 3a",
            f"The error of order {order} falls as n^−{order} at depth 4.",
            f"interval of the exponent meets −{order} ± {EXPONENT_TOLERANCE}",
            "width_scaling",
            partial(measured.falls, order=order),
        )
        for order in (1, 2, 3, 4)
    ),
    *(
        Claim(
            source,
            f"Ablated, the error of order {order} does not fall with the width, depth {depth}.",
            f"interval of the exponent meets 0 ± {FLAT}",
            "ablation",
            partial(measured.is_flat, order=order, depth=depth),
        )
        for depth, source in ((4, "Figure 3b"), (2, "Figure 9"))
        for order in (1, 2, 3)
    ),
    Claim(
        "Figure 4",
        "At a probability 100 times below 1/N, order 3 has a relative error below 30%, N = 5,695 "
        "samples costing as much.",
        f"interval of the relative error reaches below {tail_verdicts.SMALL}",
        "low_probability",
        tail_verdicts.small_when_rare,
    ),
    Claim(
        "Figure 4",
        "Below 1/N, order 3 is better than the same FLOPs of sampling, extrapolated or not.",
        "intervals of the relative error apart in every bucket below 1/N",
        "low_probability",
        tail_verdicts.best_when_rare,
    ),
    Claim(
        "Figure 7",
        "Cumulants gain on sampling with the width and lose with the depth.",
        "at the corners of the grid, the largest saving rises with width and falls with depth",
        "grid",
        measured.gains_with_width,
    ),
    *(
        Claim(
            "Figure 8",
            f"The error of order {order} grows as L^{order} at width 256.",
            f"interval of the exponent meets {order} ± {EXPONENT_TOLERANCE}",
            "depth_scaling",
            partial(measured.grows, order=order),
            reason=EXACT_AT_ONE,
        )
        for order in (1, 2, 3, 4)
    ),
    *(
        Claim(
            "Figure 10",
            f"Cumulants need fewer FLOPs than sampling with other activations: {words}.",
            "interval of the saving above 1 at each order 1 to 3",
            experiment,
            partial(measured.saves, depth=4, orders=(1, 2, 3)),
        )
        for experiment, words in ACTIVATIONS.items()
    ),
    Claim(
        "Appendix I",
        "On the clock, cumulants are mostly slower than sampling.",
        "slower at more than half of the resolved orders and depths",
        "wall_clock",
        measured.slower,
        reason=PRODUCTS,
    ),
    Claim(
        "Table 1",
        "FLOPs grow as n²L and n³L at orders 1 and 2, factorised as n³L² and n⁴L² at 3 and 4.",
        "these leading monomials in the polynomials through counted FLOPs",
        "flops",
        measured.monomials,
        width=None,
    ),
    Claim(
        "Distillation",
        "Gradients of the order-2 loss train a student of half the width, and so does SGD.",
        f"interval of the fall of the true loss reaches {distilled.FALL:g}×, for both",
        DISTILLATION,
        distilled.trains,
        width=distilled.WIDTH,
    ),
    Claim(
        "Distillation",
        "At as many FLOPs it is slightly less efficient than SGD.",
        f"interval of the ratio of final losses meets 1 to {distilled.SLIGHTLY:g}",
        DISTILLATION,
        distilled.nears_sgd,
        width=distilled.WIDTH,
    ),
)
"""All claims, in the order of the paper."""
