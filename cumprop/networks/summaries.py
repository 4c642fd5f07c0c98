"""A network in one line."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING

from cumprop.flops import is_foreign

if TYPE_CHECKING:
    from cumprop.networks.mlp import MLP

_MOST = 8
"""The longest list of widths or activations that is shown in full."""


def summary(network: MLP) -> str:
    """Widths, activations, number of weights and law of the input, as `repr(MLP)` shows them.

    >>> import cumprop
    >>> summary(cumprop.random_mlp(width=256, depth=4, seed=0))
    'MLP(256 → 256 ×4 → 256, relu, 328k weights, x ~ N(0, I))'
    """
    n_0, *hidden, n_out = network.widths
    widths = [str(n_0), *_grouped(hidden), str(n_out)]
    activations = _grouped(a.name for a in network.activations)
    if len(activations) == 1:
        activations = [network.activations[0].name]
    parameters = [*network.weights, *(b for b in network.biases if b is not None)]
    number = sum(w.shape[0] * (w.shape[1] if w.ndim > 1 else 1) for w in parameters)
    kinds = "weights and biases" if network.shape.biased else "weights"
    parts = [
        _listed(widths),
        _listed(activations) or "linear",
        f"{_rounded(number)} {kinds}",
        f"x ~ {network.input.words}",
    ]
    if is_foreign(network.weights[0]):
        parts.append("tensors")
    return f"MLP({', '.join(parts)})"


def _grouped(entries: Iterable[object]) -> list[str]:
    """The entries with equal neighbours written once, with their number."""
    runs = ((str(entry), len(list(run))) for entry, run in groupby(entries))
    return [entry if n == 1 else f"{entry} ×{n}" for entry, n in runs]


def _listed(entries: list[str]) -> str:
    if len(entries) > _MOST:
        entries = [*entries[: _MOST // 2], "…", *entries[-_MOST // 2 + 1 :]]
    return " → ".join(entries)


def _rounded(n: int) -> str:
    """A number to three digits, as 329k or 1.05M.

    >>> [_rounded(n) for n in (6, 999, 1280, 328_960, 1_048_576)]
    ['6', '999', '1.28k', '329k', '1.05M']
    """
    size = float(f"{n:.3g}")
    power = min((len(str(int(size))) - 1) // 3, 4)
    return f"{size / 1000**power:.3g}{('', 'k', 'M', 'G', 'T')[power]}"
