"""Classes and expected values of `cumprop estimate`: the requests, and the parts of the report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    from cumprop.contract import Estimator
    from cumprop.functionals import Decision, Expectation
    from cumprop.networks import MLP

_GRAMMAR = "write max, min, cross-entropy:CLASS or squared:TARGET, numbers or a file"


@dataclass(frozen=True)
class Questions:
    """A request for class probabilities, a certificate and expected values, within a tolerance."""

    classes: bool
    certify: bool
    expected: tuple[tuple[str, dict[str, Any]], ...]
    tolerance: float | None

    @classmethod
    def parsed(
        cls, classes: bool, certify: bool, expect: tuple[str, ...], tolerance: float | None
    ) -> Self:
        """The request of the options; raises ConfigError for words that are none."""
        if certify and not classes:
            raise ConfigError("--certify certifies a class; give --classes, too")
        return cls(classes, certify, tuple((words, _asked(words)) for words in expect), tolerance)

    def __bool__(self) -> bool:
        return self.classes or bool(self.expected)

    def found(
        self, network: MLP, backend: Estimator, seed: int
    ) -> tuple[dict[str, Any], list[Decision | Expectation]]:
        """The part of the report, and the results that it is from."""
        from cumprop.functionals import class_probabilities, expected

        given: dict[str, Any] = {"estimator": backend, "tolerance": self.tolerance, "seed": seed}
        described: dict[str, Any] = {}
        results: list[Decision | Expectation] = []
        if self.classes:
            decision = class_probabilities(network, certify=self.certify, **given)
            described["classes"] = decision.to_dict()
            results.append(decision)
        values = {words: expected(network, **asked, **given) for words, asked in self.expected}
        if values:
            described["expected"] = {words: value.to_dict() for words, value in values.items()}
        return described, [*results, *values.values()]


def _asked(words: str) -> dict[str, Any]:
    """The arguments `what` and `target` of `expected` in words such as max or squared:1,0."""
    what, _, target = words.partition(":")
    readers: dict[str, Callable[[str], Any]] = {
        "max": partial(_nothing, words),
        "min": partial(_nothing, words),
        "cross-entropy": partial(_label, words),
        "squared": partial(_numbers, words),
    }
    if what not in readers:
        raise ConfigError(f"--expect {words}: {_GRAMMAR}")
    return {"what": what, "target": readers[what](target)}


def _nothing(words: str, target: str) -> None:
    if ":" in words:
        raise ConfigError(f"--expect {words}: {_GRAMMAR}")


def _label(words: str, target: str) -> int:
    with suppress(ValueError):
        return int(target)
    raise ConfigError(f"--expect {words}: {_GRAMMAR}")


def _numbers(words: str, target: str) -> Any:
    from cumprop.cli.inputs import vector

    with suppress(ValueError):
        numbers = [float(number) for number in target.split(",")]
        return numbers[0] if len(numbers) == 1 else numbers
    if not Path(target).is_file():
        raise ConfigError(f"--expect {words}: {_GRAMMAR}")
    try:
        return vector(target)
    except CumpropError as error:
        raise ConfigError(f"--expect {words}: {error}") from None
