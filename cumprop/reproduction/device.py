"""A device of PyTorch: its speed in products, and in forward passes that sample on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from cumprop.errors import CumpropError
from cumprop.networks import MLP
from cumprop.sweep.rates import Effort, repeated

Tensor = Any
SEED = 0
"""The seed of the inputs that sampling draws."""
SHARE = 0.8
"""The share of the free memory that may be taken."""
PRODUCT = {"cuda": 8192, "cpu": 512}
"""The width of the matrices whose product is a device's rate."""
_BATCHES = {"cuda": (2**12, 2**14, 2**16, 2**18, 2**20), "cpu": (2**8, 2**10)}
_N_BIAS = {"cuda": 2**20, "cpu": 2**12}


@dataclass(frozen=True)
class Device:
    """A device of PyTorch; raises CumpropError where PyTorch has no such device.

    >>> Device("cpu").kind
    'cpu'
    """

    name: str

    def __post_init__(self) -> None:
        try:
            torch.empty(1, device=self.name)
        except (RuntimeError, AssertionError) as error:  # of a PyTorch without CUDA
            reason = str(error).splitlines()[0]
            raise CumpropError(f"device {self.name}: {reason}; take --device cpu") from None
        if self.kind not in _BATCHES:
            raise CumpropError(f"device {self.name}: choose cuda or cpu")

    @property
    def kind(self) -> str:
        """The type of device: cuda or cpu."""
        return torch.device(self.name).type

    @property
    def model(self) -> str:
        """The name of the processor."""
        return torch.cuda.get_device_name(self.name) if self.kind == "cuda" else "CPU"

    def wait(self) -> None:
        """Wait until all work on the device is done."""
        if self.kind == "cuda":
            torch.cuda.synchronize(self.name)

    def free(self) -> float:
        """The bytes that are free on the device; infinite for the host, which is not asked."""
        if self.kind != "cuda":
            return float("inf")
        torch.cuda.empty_cache()
        return float(torch.cuda.mem_get_info(self.name)[0])

    def peak(self, work: Callable[[], object]) -> int | None:
        """The bytes that `work` takes beside what is there; None for the host."""
        if self.kind != "cuda":
            work()
            return None
        before = torch.cuda.memory_allocated(self.name)
        torch.cuda.reset_peak_memory_stats(self.name)
        work()
        return int(torch.cuda.max_memory_allocated(self.name)) - before

    def seconds(self, work: Callable[[], object], effort: Effort) -> float:
        """The median seconds of `work` until its results are there, after one call."""

        def waited() -> None:
            work()
            self.wait()

        waited()
        return float(np.median(repeated(waited, effort)))


def on_device(network: MLP, device: Device, dtype: Any, gradients: bool = False) -> MLP:
    """The network of tensors on the device, of one dtype, whose weights may ask for gradients."""
    weights = [torch.tensor(np.array(w)).to(device.name, dtype) for w in network.weights]
    return MLP([weight.requires_grad_(gradients) for weight in weights])


def forward(weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """The outputs of a ReLU network without biases for inputs (N, n_0)."""
    for weight in weights[:-1]:
        x = torch.relu_(x @ weight.T)
    return x @ weights[-1].T


def sampling(device: Device, network: MLP, effort: Effort) -> dict[str, Any]:
    """Passes per second of iid sampling in its best batch, random numbers included.

    `tf32_vn_bias` is the squared change of the mean by TF32 over the outputs' variance: an error
    that no number of samples lowers.
    """
    weights = list(on_device(network, device, torch.float32).weights)
    trained = list(on_device(network, device, torch.float32, gradients=True).weights)
    generator = torch.Generator(device.name).manual_seed(SEED)

    def normals(rows: int) -> Tensor:
        size = (rows, network.widths[0])
        return torch.randn(size, generator=generator, device=device.name)

    def passes(rows: int) -> None:
        with torch.no_grad():
            forward(weights, normals(rows)).sum(0)

    def gradients(rows: int) -> None:
        forward(trained, normals(rows)).mean(0).square().sum().backward()

    entry: dict[str, Any] = {}
    for name, work, fast in [
        ("passes_per_second", passes, False),
        ("passes_per_second_tf32", passes, True),
        ("gradients_per_second", gradients, False),
        ("gradients_per_second_tf32", gradients, True),
    ]:
        with tf32(fast):
            rates = dict(_rates(device, work, network, effort))
        best = max(rates, key=lambda rows: rates[rows])
        entry |= {name: rates[best], f"batch_of_{name}": best}
    return entry | _moments(device, weights, normals, entry["batch_of_passes_per_second"])


def _moments(
    device: Device, weights: Sequence[Tensor], normals: Callable[[int], Tensor], rows: int
) -> dict[str, float]:
    """The variance of a pass, averaged over outputs, and the change of the mean by TF32."""
    batches = -(-_N_BIAS[device.kind] // rows)
    values: Tensor = torch.zeros(3, len(weights[-1]), dtype=torch.float64, device=device.name)
    with torch.no_grad():
        for _ in range(batches):
            x = normals(rows)
            y = forward(weights, x)
            with tf32(True):
                change = forward(weights, x) - y
            for total, value in zip(values, (y, y * y, change), strict=True):
                total += value.mean(0, dtype=torch.float64) / batches
    mean, square, change = values
    variance = float((square - mean * mean).mean())
    return {"variance": variance, "tf32_vn_bias": float((change * change).mean()) / variance}


def _rates(
    device: Device, work: Callable[[int], None], network: MLP, effort: Effort
) -> Iterator[tuple[int, float]]:
    """Passes per second by the rows of a batch, of those that fit into memory."""
    brief = Effort(effort.seconds / 4, effort.least, effort.most)
    for rows in _BATCHES[device.kind]:
        held = 4 * rows * (network.depth + 3) * max(network.widths)
        if rows == _BATCHES[device.kind][0] or held < SHARE / 4 * device.free():
            yield rows, rows / device.seconds(partial(work, rows), brief)


def product_rate(device: Device, effort: Effort) -> float:
    """FLOP/s of the product of two large square matrices in float32."""
    n = PRODUCT[device.kind]
    a, b = torch.randn(2, n, n, device=device.name)
    return 2 * n**3 / device.seconds(lambda: a @ b, effort)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Products of float32 in TF32, or in full precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
