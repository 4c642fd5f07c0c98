"""FLOPs of whatever PyTorch executes, backward passes included (mathematics §6)."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cumprop.errors import CumpropError
from cumprop.flops.meter import is_paused

_PRODUCTS = {"mm", "bmm", "mv", "dot", "vdot"}
_REDUCTIONS = {"sum", "mean", "amax", "amin", "max", "min", "all", "any"}
_COPIES = {
    "clone", "_to_copy", "copy", "copy_", "lift_fresh", "cat", "stack", "where", "masked_fill",
    "masked_fill_", "index", "select_backward", "slice_backward", "diagonal_backward", "squeeze_",
    "_local_scalar_dense", "_unsafe_view", "scalar_tensor", "fill", "fill_", "zero_", "zeros",
    "zeros_like", "ones",
    "ones_like", "full", "full_like", "empty", "empty_like", "empty_strided", "new_empty",
    "new_empty_strided", "new_zeros", "new_ones", "new_full", "arange", "detach", "diag_embed",
}  # fmt: skip
"""Creation, copies, selection and indexing."""
_FUSED = {"addcmul": 3, "addcdiv": 3, "lerp": 3}
"""Operations per element of a product or quotient that is scaled and added, as optimisers do."""


class TorchFlops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts in `total` the FLOPs that PyTorch executes inside the block, by our convention.

    A multiply-add is 2, an entrywise operation 1 per element of its result, a reduction of r
    numbers to one r - 1; creation, copies, views and indexing are 0. Every operation is seen as it
    runs, those of autograd's backward pass too; one that is not known raises CumpropError. A
    product counts in full where it is symmetric, because PyTorch computes all of it.

    >>> w = torch.ones(3, 4, requires_grad=True)
    >>> with TorchFlops() as forward:
    ...     loss = (w @ torch.ones(4, 5)).sum()
    >>> with TorchFlops() as backward:
    ...     loss.backward()
    >>> forward.total, backward.total              # 2·3·4·5 + 14, then dL/dW = dL/dY Xᵀ
    (134, 120)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not is_paused():
            self.total += _cost(func, args, kwargs or {}, result)
        return result


def _cost(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    name = func._schema.name.removeprefix("aten::")
    if func.is_view or name in _COPIES or func.namespace == "profiler":
        return 0
    if name in _PRODUCTS:
        return int(2 * result.numel() * args[0].shape[-1])
    if name in _REDUCTIONS:
        return int(args[0].numel() - result.numel())
    if name in ("index_put", "index_put_"):
        accumulates = len(args) > 3 and args[3]
        return int(args[2].numel()) if accumulates else 0
    if torch.Tag.pointwise in func.tags:
        scaled = 2 if kwargs.get("alpha", 1) != 1 else 1
        return int(result.numel()) * _FUSED.get(name.rstrip("_"), scaled)
    raise CumpropError(f"{func} has no FLOP count: add it to cumprop/flops/torch_executed.py")
