"""Designs: ways to draw the inputs of a sampling estimate (mathematics §7).

Every design draws *blocks* of inputs. Each input is N(μ0, Σ0) (or replaces it exactly, see
`Inputs.second_moment`); inputs of one block depend on each other, different blocks do not, so that
the scatter between block means gives the standard error under every design.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.special import ndtri

from cumprop.errors import CumpropError
from cumprop.flops import component, count, counted
from cumprop.inputs import Empirical, Gaussian
from cumprop.sampling.roots import input_root

if TYPE_CHECKING:
    from cumprop.networks import MLP, Shape

Array = NDArray[Any]

DESIGNS = ("iid", "antithetic", "orthogonal", "sobol")
MIRRORED = ("antithetic", "orthogonal")
SCRAMBLINGS = 8
"""The number of independent scramblings of a Sobol sequence: the blocks of design `sobol`."""

BATCH_ELEMENTS = 2**18
"""Numbers of a batch in the widest layer: enough for BLAS, few enough for a second-level cache."""
_BATCH_ROWS = 2048


def normals(rng: np.random.Generator, out: Array) -> None:
    """Fill the contiguous array `out` with independent N(0, 1), by Box and Muller.

    The function is three to four times faster than the ziggurat of `Generator.standard_normal`,
    because NumPy vectorises log, sin and cos. Float32 has 32 random bits in the radius (at most
    6.8) and in the angle, float64 has 64.

    >>> x = np.empty((1000, 1000), np.float32)
    >>> normals(np.random.default_rng(0), x)
    >>> bool(abs(x.mean()) < 4e-3 and abs(x.var() - 1) < 6e-3)        # four standard errors
    True
    """
    flat = out.reshape(-1)
    real, bits = flat.dtype, 8 * flat.itemsize
    half = (flat.size + 1) // 2
    words = rng.integers(0, 2**64, size=-(-2 * half * bits // 64), dtype=np.uint64)
    first, second = words.view(f"u{bits // 8}")[:half], words.view(f"i{bits // 8}")[-half:]
    radius = np.multiply(first, real.type(2.0**-bits), dtype=real, casting="unsafe")
    radius += real.type(2.0 ** -(bits + 1))
    np.log(radius, out=radius)
    radius *= real.type(-2)
    np.sqrt(radius, out=radius)
    angle = np.multiply(
        second, real.type(math.pi * 2.0 ** (1 - bits)), dtype=real, casting="unsafe"
    )
    cosines, sines = flat[:half], flat[half:]
    np.cos(angle, out=cosines)
    cosines *= radius
    np.sin(angle[: sines.size], out=sines)
    sines *= radius[: sines.size]


def haar(rng: np.random.Generator, n: int, frames: int, dtype: Any) -> Array:
    """`frames` independent Haar-distributed orthogonal matrices, shape (frames, n, n).

    They are distributed as the sign-corrected Q of the QR factorisation of a Gaussian matrix, but
    nothing is factorised: the Householder vectors would be independent Gaussian vectors of lengths
    n, n-1, ..., 1 (Stewart 1980), so these are drawn and Q is formed from them. Cost:
    `frame_flops`, half of those of a factorisation.

    >>> q = haar(np.random.default_rng(0), n=5, frames=2, dtype=np.float64)
    >>> bool(abs(q @ q.swapaxes(1, 2) - np.eye(5)).max() < 1e-14)
    True
    """
    q = np.empty((frames, n, n), dtype)
    normals(rng, q)
    q[:, -1, -1] += q[:, -1, -1] == 0  # float32 rounds one in 3e7 to 0, which has no direction
    tails = np.triu(q)  # row k: the Householder vector k, in columns k..n-1
    heads = np.diagonal(q, axis1=1, axis2=2).copy()
    norms = np.sqrt(np.vecdot(tails, tails))
    signs = np.copysign(heads.dtype.type(1), heads)
    q /= (heads + signs * norms)[:, :, None]
    taus = 1 + np.abs(heads) / norms
    form_q = lapack.sorgqr if q.dtype == np.float32 else lapack.dorgqr
    for matrix, tau in zip(q, taus, strict=True):
        form_q(matrix.T, tau, lwork=32 * n, overwrite_a=1)  # in place: the transpose is Fortran's
    q *= -signs[:, :, None]
    return q


def expected_radius(n: int) -> float:
    """The mean E|x| of the chi law, x ~ N(0, I_n).

    >>> round(expected_radius(1), 6)                                      # sqrt(2 / pi)
    0.797885
    """
    return math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))


class Batch(NamedTuple):
    """Inputs `x` of shape (m, n_0), m = members * blocks; row j * blocks + b belongs to block b.

    `complete` is False where the same blocks continue in the next batch. The next batch overwrites
    `x`.
    """

    x: Array
    blocks: int
    complete: bool


class Inputs:
    """The inputs of `network`, drawn by `design`, as batches of independent blocks.

    A block is, for `iid`, one input; for `antithetic`, the pair μ ± R z; for `orthogonal`, the
    inputs μ ± R r_i q_i with a Haar-random orthonormal frame q_1..q_n; for `sobol`, one of 8
    independent scramblings of the Sobol sequence. R is the root of Σ0. The radii r_i are drawn from
    the chi law, except where the input is N(0, I) and the network homogeneous: there
    E f(x) = E|x| E f(q), so that r = E|x| is exact for the mean and has less variance. Raises
    CumpropError for an unknown design (mathematics §7).

    >>> from cumprop import random_mlp
    >>> inputs = Inputs(random_mlp(width=8, depth=1, seed=0), "orthogonal")
    >>> batches = list(inputs.batches(np.random.default_rng(0), n_samples=10))
    >>> [batch.x.shape for batch in batches]                                 # q, then -q
    [(8, 8), (8, 8)]
    """

    def __init__(
        self, network: MLP, design: str = "iid", batch_elements: int = BATCH_ELEMENTS
    ) -> None:
        check_design(design)
        law = network.input
        if not isinstance(law, Gaussian | Empirical):
            raise CumpropError(f"inputs of {law.words} are not drawn here: take `gaussian_parts`")
        self.data = np.asarray(law.rows, network.dtype) if isinstance(law, Empirical) else None
        if self.data is not None and design != "iid":
            raise CumpropError(
                f"rows of data are independent samples: take design iid, not {design}"
            )
        self.design = design
        self.n_0 = network.widths[0]
        self.dtype = network.dtype
        self.rows = batch_rows(network.shape, design, batch_elements)
        self.mean = None if self.data is not None else network.input_mean
        self.root = None if self.data is not None else input_root(network)
        fixed = design == "orthogonal" and network.homogeneous and not network.shape.gaussian_input
        self.radius = expected_radius(self.n_0) if fixed else None

    @property
    def second_moment(self) -> float:
        """The factor by which the mean of f(x)² over these inputs estimates E[f(x)²].

        The factor is E|x|² / r² = n_0 / r² where the radius is fixed (f is homogeneous), else 1.
        """
        return 1.0 if self.radius is None else self.n_0 / self.radius**2

    def batches(self, rng: np.random.Generator, n_samples: int) -> Iterator[Batch]:
        """Batches with `rounded(design, n_0, n_samples)` inputs in all, rows (n_0,).

        Rows of data are taken in their order, or as many as are asked for, in a random one.
        """
        if self.data is not None:
            yield from self._batches_of_data(rng, n_samples)
            return
        sides = 2 if self.design in MIRRORED else 1
        drawn = rounded(self.design, self.n_0, n_samples) // sides
        buffer = np.empty((min(self.rows, drawn), self.n_0), self.dtype)
        if self.design == "sobol":
            engines = _scramblings(self.n_0, rng)
        for start in range(0, drawn, self.rows):
            x = buffer[: drawn - start]
            blocks = len(x) * sides // block_size(self.design, self.n_0)
            complete = sides == 1
            with component("sampling"):
                if self.design == "sobol":
                    blocks, complete = SCRAMBLINGS, start + len(x) == drawn
                    points = [engine.random(len(x) // blocks) for engine in engines]
                    x[:] = ndtri(np.stack(points, axis=1) + 2.0**-31).reshape(x.shape)
                elif self.design == "orthogonal":
                    self._frames(rng, x, blocks)
                else:
                    normals(rng, x)
                if self.root is not None or self.mean is not None:
                    x[:] = self.placed(counted(x))
            yield Batch(x, blocks, complete)
            if sides == 2:
                with component("sampling"):
                    np.subtract(0 if self.mean is None else 2 * self.mean, counted(x), out=x)
                yield Batch(x, blocks, complete=True)

    def _batches_of_data(self, rng: np.random.Generator, n_samples: int) -> Iterator[Batch]:
        assert self.data is not None
        n = len(self.data)
        order = np.arange(n) if n_samples >= n else rng.permutation(n)[:n_samples]
        for start in range(0, len(order), self.rows):
            x = self.data[order[start : start + self.rows]]
            yield Batch(x, len(x), complete=True)

    def _frames(self, rng: np.random.Generator, x: Array, frames: int) -> None:
        n = self.n_0
        q = haar(rng, n, frames, self.dtype)
        q *= self.radius or np.sqrt(rng.chisquare(n, (frames, n, 1))).astype(self.dtype)
        x.reshape(n, frames, n)[:] = q.swapaxes(0, 1)
        count(frames * frame_flops(n))

    def placed(self, x: Array) -> Array:
        """Inputs N(μ0, Σ0), (m, n_0), from standard normal rows x, (m, r), r the rank of Σ0."""
        if self.root is not None:
            x = x @ self.root.T if self.root.ndim == 2 else x * self.root
        return x if self.mean is None else x + self.mean


def block_size(design: str, n_0: int) -> int:
    """The number of inputs in a block; for `sobol`, whose blocks grow, in the smallest block."""
    return {"iid": 1, "antithetic": 2, "orthogonal": 2 * n_0, "sobol": 1}[design]


def rounded(design: str, n_0: int, n_samples: int) -> int:
    """`n_samples` rounded up to whole blocks; for `sobol` to 8 times a power of two.

    >>> [rounded(design, 256, 10_000) for design in DESIGNS]
    [10000, 10000, 10240, 16384]
    """
    if design == "sobol":
        points = math.ceil(n_samples / SCRAMBLINGS)
        return SCRAMBLINGS << (points - 1).bit_length()
    block = block_size(design, n_0)
    return -(-n_samples // block) * block


def batch_rows(shape: Shape, design: str, elements: int = BATCH_ELEMENTS) -> int:
    """The number of inputs in a batch: activations fit into the cache, and at least one frame."""
    rows = min(_BATCH_ROWS, max(64, elements // max(shape.widths)))
    if design == "sobol":
        rows = 2 ** int(math.log2(rows))
    if design == "orthogonal":
        rows = max(1, rows // shape.widths[0]) * shape.widths[0]
    return rows


def frame_flops(n: int) -> int:
    """FLOPs of n orthonormal vectors and their radii, beside the random numbers, which are 0.

    They are 4/3 n^3 for Q (LAPACK's orgqr), 5 n^2 for its Householder vectors and signs, and n^2
    for the radii.
    """
    return 4 * n**3 // 3 + 6 * n**2


def check_design(design: str) -> None:
    """Raise CumpropError where `design` is not one of `DESIGNS`."""
    if design not in DESIGNS:
        raise CumpropError(f"unknown design {design!r}; the known ones are {', '.join(DESIGNS)}")


def _scramblings(n_0: int, rng: np.random.Generator) -> list[Any]:
    from scipy.stats import qmc  # half a second to import

    if n_0 > qmc.Sobol.MAXDIM:
        raise CumpropError(
            f"design sobol takes at most {qmc.Sobol.MAXDIM} inputs, not {n_0}; use orthogonal"
        )
    return [qmc.Sobol(n_0, rng=rng) for _ in range(SCRAMBLINGS)]
