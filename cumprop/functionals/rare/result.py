"""The probability of a rare event with its interval, its cost and its likeliest inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from cumprop.contract.printing import status_words
from cumprop.flops import Flops

Array = NDArray[Any]

Interval = tuple[float, float]
_INPUTS_SHOWN = 8


class Point(NamedTuple):
    """An input x in the event, (n_0,), that is likelier than all others near it.

    `distance` is |z| in standard deviations: the density of the input is exp(−|z|²/2) times its
    largest. `value` is u or |u|, the number that the event compares with its threshold.
    """

    input: Array
    distance: float
    value: float


@dataclass(frozen=True, eq=False, repr=False)
class Probability:
    """The probability of an event of the outputs and its mean excess, with 95% intervals.

    `excess` is E[(u − t)₊] for u > t, E[(t − u)₊] for u < t. `covered` is the share of
    `probability` that importance sampling found, the rest is from splitting; None where plain
    samples were enough. `passes` are forward passes, a gradient counts 3; `flops` are counted from
    the arithmetic that ran. `status` is "ok", or begins with "warning" or "unreliable" and names a
    reason and a remedy. `points` are the likeliest inputs of the event, nearest first, empty where
    none were looked for. The interval covers the modes that were found: an isolated needle of the
    network can be missed by all of them, without a sign.

    >>> import cumprop
    >>> cumprop.probability(cumprop.MLP([[[3.0, 4.0]]]), "y0 > 25")      # doctest: +ELLIPSIS
    P(y0 > 25) = 2...e-07 (2...e-07 to 2...e-07)
    mean excess 2...e-07 (2...e-07 to 2...e-07)
    likeliest input, 5 s.d. from the mean, value 25: 3, 4
    1... passes, ... FLOPs, ...% by importance sampling
    status: ok
    """

    event: str
    probability: float
    interval: Interval
    excess: float
    excess_interval: Interval
    covered: float | None
    passes: int
    flops: Flops
    status: str
    points: tuple[Point, ...]

    def __repr__(self) -> str:
        return as_text(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """All fields as lists, numbers and text that `json.dumps` takes."""
        return {
            "event": self.event,
            "probability": self.probability,
            "interval": list(self.interval),
            "excess": self.excess,
            "excess_interval": list(self.excess_interval),
            "covered": self.covered,
            "passes": self.passes,
            "flops": self.flops.total,
            "flops_components": dict(self.flops),
            "status": self.status,
            "points": [point._asdict() | {"input": point.input.tolist()} for point in self.points],
        }


def as_text(event: Mapping[str, Any]) -> str:
    """A few lines about a probability, given as `Probability.to_dict` gives it."""
    (low, high), (least, most), covered = (
        event[key] for key in ("interval", "excess_interval", "covered")
    )
    share = "plain samples" if covered is None else f"{covered:.0%} by importance sampling"
    lines = [
        f"P({event['event']}) = {event['probability']:.3g} ({low:.3g} to {high:.3g})",
        f"mean excess {event['excess']:.3g} ({least:.3g} to {most:.3g})",
        *map(_in_words, event["points"][:1]),
        f"{event['passes']:,} passes, {event['flops']:.3g} FLOPs, {share}",
        status_words(event["status"]),
    ]
    return "\n".join(lines)


def _in_words(point: Mapping[str, Any]) -> str:
    """A line about a point: its distance, its value and its first inputs.

    >>> _in_words({"input": [3.0, 4.0], "distance": 5.0, "value": 1.0})
    'likeliest input, 5 s.d. from the mean, value 1: 3, 4'
    """
    inputs = [f"{x:.4g}" for x in point["input"][:_INPUTS_SHOWN]]
    more = ["…"] if len(point["input"]) > _INPUTS_SHOWN else []
    return (
        f"likeliest input, {point['distance']:.3g} s.d. from the mean, value {point['value']:.4g}: "
        f"{', '.join(inputs + more)}"
    )
