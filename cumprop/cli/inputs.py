"""The law of the input of `cumprop estimate`: its options, and what they say."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumprop.errors import ConfigError, CumpropError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cumprop.inputs import Law
    from cumprop.networks import MLP

_OPTIONS = (
    click.option("--input-mean", help="Number, or file (npy, csv) with one per input. Default 0."),
    click.option(
        "--input-cov",
        help="Number, or file (npy, csv) with a diagonal or a matrix. Default identity.",
    ),
    click.option(
        "--input",
        "input_law",
        metavar="LAW",
        help="uniform:LOW,HIGH or normal:MEAN,COV, numbers or files: uniform:low.npy,high.npy",
    ),
    click.option(
        "--input-box",
        metavar="LOW:HIGH,…",
        help="Uniform input; one interval for all inputs, or one for each: 0:1,-0.5:0.5",
    ),
    click.option(
        "--input-data", metavar="FILE", help="Rows of data (npy, csv), over which samples average."
    ),
    click.option(
        "--components",
        type=click.IntRange(min=1),
        help="Of a Gaussian mixture fitted to --input-data; 1 for its mean and covariance.",
    ),
)


@dataclass(frozen=True)
class InputOptions:
    """The options that say what the input of a network is."""

    input_mean: str | None
    input_cov: str | None
    input_law: str | None
    input_box: str | None
    input_data: str | None
    components: int | None

    def __post_init__(self) -> None:
        given = {
            "--input-mean or --input-cov": self.input_mean or self.input_cov,
            "--input": self.input_law,
            "--input-box": self.input_box,
            "--input-data": self.input_data,
        }
        named = [option for option, value in given.items() if value is not None]
        if len(named) > 1:
            raise ConfigError(f"{' and '.join(named)} exclude each other; give one of them")
        if self.components is not None and self.input_data is None:
            raise ConfigError("--components is of a mixture fitted to --input-data; give both")

    @property
    def mean(self) -> ArrayLike | None:
        """The argument `input_mean` of `load`."""
        return _optional("--input-mean", self.input_mean)

    @property
    def cov(self) -> ArrayLike | None:
        """The argument `input_cov` of `load`."""
        return _optional("--input-cov", self.input_cov)

    def given_to(self, network: MLP) -> MLP:
        """The network with the input of the options, unless that is a mean and a covariance."""
        from cumprop.inputs import Empirical
        from cumprop.networks.importers.parts import naming

        law: Law
        for option, value, law_of in (
            ("--input", self.input_law, _named),
            ("--input-box", self.input_box, _box),
            ("--input-data", self.input_data, _rows),
        ):
            if value is not None:
                with naming(f"{option} {value}"):
                    law = law_of(value).sized(network.widths[0])
                    if isinstance(law, Empirical) and self.components is not None:
                        law = law.smoothed(self.components)
                    return network.replace(input=law)
        return network


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all `InputOptions`, as its argument `inputs`."""

    @wraps(command)
    def collected(*args: Any, **given: Any) -> Any:
        own = {f.name: given.pop(f.name) for f in fields(InputOptions)}
        return command(*args, inputs=InputOptions(**own), **given)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected


def _optional(option: str, value: str | None) -> ArrayLike | None:
    from cumprop.networks.importers.parts import naming

    if value is None:
        return None
    with naming(f"{option} {value}"):
        return vector(value)


def _named(words: str) -> Law:
    """The law in words such as uniform:0,1 or normal:mean.npy,0.5."""
    from cumprop.inputs import Gaussian, Uniform

    name, _, listed = words.partition(":")
    values = listed.split(",")
    laws: dict[str, Callable[..., Law]] = {"uniform": Uniform, "normal": Gaussian}
    if name not in laws or len(values) != 2 or not all(values):
        raise CumpropError("write uniform:LOW,HIGH or normal:MEAN,COV, each a number or a file")
    return laws[name](*map(vector, values))


def _box(words: str) -> Law:
    """The uniform law in words such as 0:1 or 0:1,-0.5:0.5."""
    from cumprop.inputs import Uniform

    try:
        ends = [tuple(map(float, interval.split(":"))) for interval in words.split(",")]
        low, high = zip(*ends, strict=True)
    except ValueError:
        raise CumpropError(
            "write LOW:HIGH for all inputs, as in 0:1, or one for each, with commas between them"
        ) from None
    return Uniform(low[0], high[0]) if len(ends) == 1 else Uniform(low, high)


def _rows(path: str) -> Law:
    """The law of the rows of a file."""
    from cumprop.inputs import Empirical

    return Empirical(_table(Path(path)))


def vector(value: str) -> ArrayLike:
    """The number, or the array in the file, that an option names; one row or column is a vector."""
    with suppress(ValueError):
        return float(value)
    table = _table(Path(value))
    return table.ravel() if 1 in table.shape else table


def _table(path: Path) -> NDArray[Any]:
    """The array in a file; rows and columns of a .csv file, of any shape in a .npy file."""
    import numpy as np

    from cumprop.memory import check_memory

    check_memory(path.stat().st_size)
    try:
        if path.suffix.lower() == ".npy":  # a memory map shows what the file really has
            return np.array(np.lib.format.open_memmap(path, mode="r"))
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin with a mark
        if ";" in text:  # where commas are decimal points
            text = text.replace(",", ".").replace(";", ",")
        with warnings.catch_warnings(action="error"):
            return np.loadtxt(text.splitlines(), delimiter=",", ndmin=2)
    except (ValueError, OverflowError, UserWarning):  # a warning where there are none
        raise CumpropError(
            "give a number, a .npy file of plain numbers, or a .csv file of numbers with "
            "commas (or semicolons) between them and no header"
        ) from None
