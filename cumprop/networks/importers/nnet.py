"""nnet files: a ReLU network as text, with the normalisation of its inputs and outputs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from cumprop.errors import CumpropError
from cumprop.memory import check_memory
from cumprop.networks.importers.parts import Array, Parts


def read(path: Path) -> Parts:
    """The network from raw inputs to raw outputs, maps (n_l, n_{l-1}) and biases (n_l,).

    The normalisations x → (x - mean) / range and y → range y + mean are folded into the first and
    last map. The minima and maxima of the inputs, to which the tools for these files clip, are not
    used: the law of the input says where inputs are.

    Source: Julian (2016), github.com/sisl/NNet.
    """
    check_memory(path.stat().st_size)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CumpropError("damaged, or not a .nnet file, which is text; write it again") from None
    lines = _Lines(text)
    sizes = _sizes(lines)
    lines.skip("a flag")
    lines.numbers(sizes[0], "minima of the inputs")
    lines.numbers(sizes[0], "maxima of the inputs")
    means = lines.numbers(sizes[0] + 1, "means of the inputs and the output")
    ranges = lines.numbers(sizes[0] + 1, "ranges of the inputs and the output")
    if not (ranges != 0).all():
        raise lines.error("a range is 0, and inputs are divided by it")
    weights, biases = [], []
    for n_in, n_out in pairwise(sizes):
        weights.append(np.array([lines.numbers(n_in, "weights") for _ in range(n_out)]))
        biases.append(np.concatenate([lines.numbers(1, "bias") for _ in range(n_out)]))
    lines.end()
    with np.errstate(all="ignore"):  # MLP refuses what overflows
        weights[0] = weights[0] / ranges[:-1]
        biases[0] = biases[0] - weights[0] @ means[:-1]
        weights[-1] = ranges[-1] * weights[-1]
        biases[-1] = ranges[-1] * biases[-1] + means[-1]
    return Parts(weights, biases, ["relu"] * (len(weights) - 1))


def _sizes(lines: _Lines) -> list[int]:
    """The widths of all layers, inputs and outputs included, n_0 to n_{L+1}."""
    counts = lines.numbers(4, "counts: layers, inputs, outputs, largest layer", whole=True)
    n_layers, n_inputs, n_outputs = (int(count) for count in counts[:3])
    sizes = [int(n) for n in lines.numbers(n_layers + 1, "sizes of layers", whole=True)]
    if (sizes[0], sizes[-1]) != (n_inputs, n_outputs):
        raise lines.error(
            f"the sizes go from {sizes[0]} to {sizes[-1]} neurons, but the counts say "
            f"{n_inputs} inputs and {n_outputs} outputs"
        )
    return sizes


class _Lines:
    """The lines of a file one after the other; comments and blank lines are left out."""

    def __init__(self, text: str) -> None:
        self._complete = text.endswith(("\n", ","))
        self._lines = (
            (number, line)
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip() and not line.lstrip().startswith("//")
        )
        self._number = 0

    def skip(self, expected: str) -> str:
        """The next line, unread."""
        self._number, line = next(self._lines, (self._number, ""))
        if not line:
            raise CumpropError(f"it ends after line {self._number}, before: {expected}")
        return line

    def numbers(self, n: int, expected: str, whole: bool = False) -> Array:
        """The n numbers of the next line, (n,): finite, or whole and positive."""
        words = self.skip(expected).strip().removesuffix(",").split(",")
        if len(words) != n:
            raise self.error(f"it has {len(words)} numbers, expected {n}: {expected}")
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            raise self.error(f"not all of it is numbers; expected {n}: {expected}") from None
        if not np.isfinite(values).all():
            raise self.error(f"a number is NaN or infinite; expected {expected}")
        if whole and not ((values == np.floor(values)) & (values > 0)).all():
            raise self.error(f"not all numbers are positive and whole; expected {expected}")
        return values

    def end(self) -> None:
        """Raise CumpropError where lines are left, or where the last one may be cut."""
        left = next(self._lines, None)
        if left:
            self._number = left[0]
            raise self.error("the network ends before this line; remove it, or correct the sizes")
        if not self._complete:
            raise self.error("its last number may be cut; end it with a comma or a line break")

    def error(self, why: str) -> CumpropError:
        """An error that starts with the number of the line."""
        return CumpropError(f"line {self._number}: {why}")
