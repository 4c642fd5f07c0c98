"""A network from named arrays: state dicts and safetensors files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise, permutations
from typing import TypeVar

from cumprop.errors import CumpropError
from cumprop.networks.importers.parts import Array, Parts
from cumprop.networks.importers.several import check_one_network, numbers_in

OTHER_LAYERS = re.compile(
    r"_[ih]h_l\d|weight_[guv]$|weight_orig$|parametrizations|lora_|embed"
    r"|exp_avg|momentum_buffer|optimi[sz]er"
)
"""Names of matrices that are not the weights of a Linear layer: PyTorch's, and optimisers'."""

ROLE = re.compile(r"weight|kernel|bias|(?<![a-z])[wb](?![a-z])", re.IGNORECASE)

MANY_FAMILIES = 6
"""The largest number of families of names that are put in order; 6 have 720 orders."""

T = TypeVar("T")


def from_named(arrays: Mapping[str, Array], in_order: bool, prefixes: Sequence[str] = ()) -> Parts:
    """The network of named matrices, (out, in) or, if named kernel, (in, out), and biases, (out,).

    A bias has the name of its matrix but for the word (weight, kernel, bias, W, b). With `in_order`
    the mapping has the order of the layers; otherwise numbers in the names give the order, and
    where there are none, shapes. `prefixes` name the parts of one network in the order they run;
    all other arrays are left out. Raises CumpropError, which names the array that is no part of an
    MLP, or the networks where there seem to be several.

    >>> import numpy as np
    >>> a = {"10.weight": np.ones((2, 3)), "9.bias": np.ones(3), "9.weight": np.ones((3, 4))}
    >>> parts = from_named(a, in_order=False)
    >>> [w.shape for w in parts.weights], [b is not None for b in parts.biases]
    ([(3, 4), (2, 3)], [True, False])
    """
    arrays = selected(arrays, prefixes)
    for name, array in arrays.items():
        is_bias = _role(name) in ("bias", "b")
        if array.ndim not in (1, 2 - is_bias) or OTHER_LAYERS.search(name):
            raise _refused(name, array)
    matrices = {
        name: array.T if _role(name) == "kernel" else array
        for name, array in arrays.items()
        if array.ndim == 2
    }
    owners = {ROLE.sub("", name): name for name in matrices}
    if len(owners) < len(matrices):
        names = ", ".join(sorted(set(matrices) - set(owners.values())))
        raise CumpropError(f"{names}: another matrix has the same name but for the word weight")
    parts = [{k: w for k, w in matrices.items() if begins(k, p)} for p in prefixes or [""]]
    for part in parts:
        check_one_network({ROLE.sub("", name): w.shape for name, w in part.items()})
    biases: dict[str, tuple[str, Array]] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            owner = owners.get(ROLE.sub("", name))
            if owner is None or owner in biases or _role(name) not in ("bias", "b"):
                raise _refused(name, array)
            biases[owner] = name, array
    order = [name for part in parts for name in _ordered(part, in_order)]
    _check(order, arrays, matrices, biases)
    return Parts(
        [matrices[name] for name in order],
        [biases[name][1] if name in biases else None for name in order],
    )


def selected(arrays: Mapping[str, T], prefixes: Sequence[str]) -> dict[str, T]:
    """The arrays whose names begin with a prefix, or all arrays where no prefix is given.

    A prefix ends where a word ends: q_net is no prefix of q_net_target, but fc is one of fc1.

    >>> selected({"q_net.0.weight": 1, "q_net_target.0.weight": 2}, ["q_net"])
    {'q_net.0.weight': 1}
    """
    found: dict[str, T] = {}
    for prefix in prefixes:
        part = {name: array for name, array in arrays.items() if begins(name, prefix)}
        if not part or not found.keys().isdisjoint(part):
            what = "twice for an array" if part else "for no array"
            raise CumpropError(f"prefix {prefix} stands {what}; names are {', '.join(arrays)}")
        found |= part
    return found if prefixes else dict(arrays)


def begins(name: str, prefix: str) -> bool:
    """Whether a name is the prefix, or goes on behind it with a number or a punctuation mark."""
    rest = name.removeprefix(prefix) if name.startswith(prefix) else None
    ended = prefix == "" or prefix.endswith((".", "/"))
    return rest is not None and (ended or re.match(r"_?\d|[^\w]|$", rest) is not None)


def _role(name: str) -> str:
    """The last of the words weight, kernel, bias, w, b in a name, if there is one."""
    words: list[str] = ROLE.findall(name)
    return words[-1].lower() if words else ""


def _refused(name: str, array: Array) -> CumpropError:
    return CumpropError(
        f"{name}, of shape {array.shape}, is no weight (2-D) and no bias (1-D) of a linear layer; "
        "only MLPs can be read"
    )


def _ordered(matrices: Mapping[str, Array], in_order: bool) -> list[str]:
    """The names in the order of the layers.

    Without `in_order`, numbers in otherwise equal names give the order within a family of names,
    and shapes the order of the families.
    """
    given, families = list(matrices), dict[str, list[str]]()
    for name in sorted(given, key=numbers_in):
        families.setdefault(_family(name), []).append(name)
    if in_order:
        queues = {family: iter(names) for family, names in families.items()}
        orders = [given, [next(queues[_family(name)]) for name in given]]
        if orders[0] == orders[1]:
            return given
    elif len(families) <= MANY_FAMILIES:
        orders = [list(chain(*order)) for order in permutations(families.values())]
    else:
        orders = []
    fitting = [order for order in orders if _chains(order, matrices)]
    if len(orders) == 1 or len(fitting) == 1 or (in_order and not fitting):
        return (fitting or orders)[0]
    if in_order:
        raise CumpropError(
            f"the numbers in names contradict the order of {', '.join(matrices)}; "
            "put the layers in the order they run"
        )
    raise CumpropError(
        f"neither names nor shapes tell the order of {', '.join(matrices)}; "
        "number the names: 0.weight, 1.weight, …, or give their beginnings in order as prefix"
    )


def _family(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _chains(order: Sequence[str], matrices: Mapping[str, Array]) -> bool:
    return all(len(matrices[a]) == matrices[b].shape[1] for a, b in pairwise(order))


def _check(
    order: Sequence[str],
    arrays: Mapping[str, Array],
    matrices: Mapping[str, Array],
    biases: Mapping[str, tuple[str, Array]],
) -> None:
    if not order:
        raise CumpropError("it holds no matrix; give weights of shape (out, in)")
    for before, name in pairwise(order):
        if matrices[name].shape[1] != len(matrices[before]):
            raise CumpropError(
                f"{name} has shape {arrays[name].shape} but {before} gives "
                f"{len(matrices[before])} numbers; weights are (out, in), kernels (in, out), in "
                "the order they run"
            )
    for owner, (name, bias) in biases.items():
        if bias.shape != (len(matrices[owner]),):
            raise CumpropError(
                f"{name} has shape {bias.shape}; {owner} needs ({len(matrices[owner])},)"
            )
