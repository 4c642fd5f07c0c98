"""A network from named arrays: state dicts and safetensors files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise, permutations

from cumprop.errors import CumpropError
from cumprop.importers.parts import Array, Parts

OTHER_LAYERS = re.compile(r"_[ih]h_l\d|weight_[guv]$|weight_orig$|parametrizations|lora_|embed")
"""Names under which PyTorch keeps matrices that are not the weights of a Linear layer."""

ROLE = re.compile(r"weight|kernel|bias|(?<![a-z])[wb](?![a-z])", re.IGNORECASE)

MANY_FAMILIES = 6
"""More families of names than this are not put in order: there are 720 ways already."""


def from_named(arrays: Mapping[str, Array], in_order: bool) -> Parts:
    """Matrices (out, in) that chain, whatever their names, and vectors that are their biases.

    A bias shares its matrix's name but for the word (weight, bias, W, b). `in_order`: the mapping
    has the order of the layers; otherwise numbers in the names tell it, and shapes where they do
    not. Raises CumpropError that names the array which is no part of an MLP.

    >>> import numpy as np
    >>> a = {"10.weight": np.ones((2, 3)), "9.bias": np.ones(3), "9.weight": np.ones((3, 4))}
    >>> parts = from_named(a, in_order=False)
    >>> [w.shape for w in parts.weights], [b is not None for b in parts.biases]
    ([(3, 4), (2, 3)], [True, False])
    """
    for name, array in arrays.items():
        if array.ndim not in (1, 2) or OTHER_LAYERS.search(name):
            raise _refused(name, array)
    matrices = {name: array for name, array in arrays.items() if array.ndim == 2}
    owners = {ROLE.sub("", name): name for name in matrices}
    if len(owners) < len(matrices):
        names = ", ".join(sorted(set(matrices) - set(owners.values())))
        raise CumpropError(f"{names}: another matrix has the same name but for the word weight")
    biases: dict[str, tuple[str, Array]] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            owner = owners.get(ROLE.sub("", name))
            if owner is None or owner in biases:
                raise _refused(name, array)
            biases[owner] = name, array
    order = list(matrices) if in_order else _ordered(matrices)
    _check(order, matrices, biases)
    return Parts(
        [matrices[name] for name in order],
        [biases[name][1] if name in biases else None for name in order],
    )


def _refused(name: str, array: Array) -> CumpropError:
    return CumpropError(
        f"{name}, of shape {array.shape}, is no weight (2-D) and no bias (1-D) of a linear layer; "
        "only MLPs can be read"
    )


def _ordered(matrices: Mapping[str, Array]) -> list[str]:
    """By the numbers in names that are otherwise equal; such families in the order that chains."""
    families: dict[str, list[str]] = {}
    for name in matrices:
        families.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    for family in families.values():
        family.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    if len(families) <= MANY_FAMILIES:
        orders = [list(chain(*order)) for order in permutations(families.values())]
        fitting = [order for order in orders if _chains(order, matrices)]
        if len(orders) == 1 or len(fitting) == 1:
            return (fitting or orders)[0]
    raise CumpropError(
        f"neither names nor shapes tell the order of {', '.join(matrices)}; "
        "number the names: 0.weight, 1.weight, …"
    )


def _chains(order: Sequence[str], matrices: Mapping[str, Array]) -> bool:
    return all(len(matrices[a]) == matrices[b].shape[1] for a, b in pairwise(order))


def _check(
    order: Sequence[str],
    matrices: Mapping[str, Array],
    biases: Mapping[str, tuple[str, Array]],
) -> None:
    if not order:
        raise CumpropError("it holds no matrix; give weights of shape (out, in)")
    for before, name in pairwise(order):
        if matrices[name].shape[1] != len(matrices[before]):
            raise CumpropError(
                f"{name} has shape {matrices[name].shape} but {before} gives "
                f"{len(matrices[before])} numbers; weights are (out, in), in the order they run"
            )
    for owner, (name, bias) in biases.items():
        if bias.shape != (len(matrices[owner]),):
            raise CumpropError(
                f"{name} has shape {bias.shape}; {owner} needs ({len(matrices[owner])},)"
            )
