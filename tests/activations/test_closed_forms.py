"""Closed forms against Gauss–Legendre sums of exact deviations, for all means, spreads and units.

Deviations φ(μ + y) - φ(μ) are computed from y = σx itself, so that they keep their digits where σ
is far below the rounding of μ.
"""

from math import comb, factorial

import numpy as np
import pytest

from cumprop.activations import get
from cumprop.errors import CumpropError

pytestmark = pytest.mark.slow

ORDERS = (0, 1, 2, 3, 5, 8)
POWERS = (1, 2, 3, 4, 6)
SIGMAS = 10.0 ** np.arange(-12, 7, 2)
FAR = 38.0
"""Standard deviations beyond which the density is below 1e-313."""


def expectations(deviation, cuts, powers, orders=ORDERS):
    """E[deviation(x)^p He_k(x)] by panels of 40 nodes, at most 2 σ wide, between the cuts."""
    t, weights = np.polynomial.legendre.leggauss(40)
    edges = np.unique(np.concatenate([np.arange(-FAR, FAR + 1, 2), np.clip(cuts, -FAR, FAR)]))
    width = np.diff(edges)[:, None]
    x = (edges[:-1, None] + width * (t + 1) / 2).ravel()
    density = (width / 2 * weights).ravel() * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    basis = {k: density * np.polynomial.hermite_e.HermiteE.basis(k)(x) for k in orders}
    y = deviation(x)
    return {(k, p): (y**p) @ basis[k] for k in orders for p in powers}


def assert_closed(activation, mean, sigma, deviation, cuts=(), powers=POWERS, tolerance=1e-10):
    """Coefficients against sums, relative to √(k! E[deviation^2p]); `deviation(x, centred)`."""
    table = activation.coefficients(np.array([mean]), np.array([sigma]))
    centred, size = table.centre is not None, table.size
    if centred:
        assert table.centre[0] == pytest.approx(activation.forward(np.array(mean)), rel=1e-14)
    doubled = [2 * p for p in powers]
    expected = expectations(lambda x: deviation(x, centred) / size, cuts, [*powers, *doubled])
    for k in ORDERS:
        for p in powers:
            scale = np.sqrt(factorial(k) * expected[0, 2 * p])
            error = abs(table(k, p)[0] - expected[k, p])
            assert error <= tolerance * scale + 1e-160, (mean, sigma, k, p, centred)


# --- piecewise polynomials -----------------------------------------------------------------------


def means(knots, sigma):
    """Means that are up to 30 σ from 0 and from the knots."""
    steps = np.array([-30.0, -12.5, -7.5, -4.2, -2, -1, -0.3, 0, 0.3, 1, 2, 4.2, 7.5, 12.5, 30])
    return np.concatenate([base + sigma * steps for base in (0.0, *knots)])


def clipped(mean, sigma, low, high):
    """The deviation of a clip, from that of z or from the bound where the mean is, and its cuts."""
    first, last = (low - mean) / sigma, (high - mean) / sigma

    def deviation(x, centred):
        if not centred:
            return np.clip(mean + sigma * x, low, high)
        if mean < low:
            return np.clip(sigma * (x - first), 0, high - low)
        if mean > high:
            return -np.clip(sigma * (last - x), 0, high - low)
        return np.clip(sigma * x, low - mean, high - mean)

    return deviation, [first, last]


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("relu6", 0, 6),
        ("hard_tanh", -1, 1),
        ("clip(-1.5:inf)", -1.5, np.inf),
        ("clip(-inf:2.0)", -np.inf, 2),
        ("clip(5.0:5.001)", 5.0, 5.001),
        ("clip(1e-9:2e-9)", 1e-9, 2e-9),
        ("clip(-1000000000.0:3000000000.0)", -1e9, 3e9),
    ],
)
def test_clips_at_every_scale(name, low, high, sigma):
    for mean in means([b for b in (low, high) if np.isfinite(b)], sigma):
        deviation, cuts = clipped(mean, sigma, low, high)
        assert_closed(get(name), mean, sigma, deviation, cuts)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("alpha", [1.0, -3.0, 1e-12, 1e9])
def test_thresholded_relu_at_every_scale(alpha, sigma):
    activation = get(f"thresholded_relu({alpha!r})")
    for mean in means([alpha], sigma):
        above = mean >= alpha  # at the jump, the table is centred at the value above

        def deviation(x, centred, mean=mean, above=above):
            passed = sigma * x > alpha - mean
            if not centred:
                return np.where(passed, mean + sigma * x, 0.0)
            return np.where(passed, sigma * x + mean * (not above), -mean * above)

        if mean != alpha:
            assert_closed(activation, mean, sigma, deviation, [(alpha - mean) / sigma])


@pytest.mark.parametrize("sigma", SIGMAS)
def test_hard_sigmoid_at_every_scale(sigma):
    """With alpha = 1/8 and beta = 1/4 the knots -2 and 6, and the values there, are exact."""
    for mean in means([-2.0, 6.0], sigma):
        change, cuts = clipped(mean, sigma, -2.0, 6.0)

        def deviation(x, centred, change=change):
            return change(x, centred) / 8 + (0 if centred else 1 / 4)

        assert_closed(get("hard_sigmoid(0.125:0.25)"), mean, sigma, deviation, cuts)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_hard_swish_at_every_scale(sigma):
    """Pieces z (z + 3)/6; powers above 4 of it lose digits, 1e-7 at the sixth."""
    for mean in means([-3.0, 3.0], sigma):

        def deviation(x, centred, mean=mean):
            y, below, above = sigma * x, sigma * x < -3 - mean, sigma * x > 3 - mean
            if not centred:
                middle = (mean + y) * (mean + 3 + y) / 6
                return np.where(above, mean + y, np.where(below, 0.0, middle))
            if mean < -3:  # from 0
                beyond = mean + 3 + y
                middle = (mean + y) * beyond / 6
                return np.where(above, mean + y, np.where(below, 0.0, middle))
            if mean >= 3:  # from z: the middle is z + (z - 3) z/6 less z/2
                middle = y + (mean + y) * (mean - 3 + y) / 6
                return np.where(above, y, np.where(below, -mean, middle))
            middle = y * (2 * mean + 3 + y) / 6
            rest = mean * (3 - mean) / 6  # z less φ(z), at the mean
            return np.where(above, y + rest, np.where(below, -mean * (mean + 3) / 6, middle))

        cuts = [(-3 - mean) / sigma, (3 - mean) / sigma]
        assert_closed(get("hard_swish"), mean, sigma, deviation, cuts, (1, 2, 3, 4))


def test_a_clip_without_bounds_is_the_identity():
    mean, var = np.array([0.3, -1e9]), np.array([1.0, 1e-6])
    clip, identity = (get(name).wick_table(mean, var) for name in ("clip(-inf:inf)", "identity"))
    for k, p in ((0, 1), (1, 1), (0, 2), (3, 3)):
        np.testing.assert_allclose(clip(k, p), identity(k, p), rtol=1e-12)


def test_relu_is_a_clip_and_a_threshold():
    mean, var = np.array([0.4, -1.3, 20.0, -20.0]), np.array([1.0, 0.3, 1.0, 2.0])
    relu = get("relu").wick_table(mean, var)
    for name in ("clip(0.0:inf)", "thresholded_relu(0.0)"):
        table = get(name).wick_table(mean, var)
        for k in ORDERS:
            for p in POWERS:
                np.testing.assert_allclose(table(k, p), relu(k, p), rtol=1e-9, atol=1e-60)


# --- waves ---------------------------------------------------------------------------------------

WAVES = {
    "sin": lambda mean, y: 2 * np.cos(mean + y / 2) * np.sin(y / 2),
    "cos": lambda mean, y: -2 * np.sin(mean + y / 2) * np.sin(y / 2),
    "exp": lambda mean, y: np.exp(mean) * np.expm1(y),
}
"""The differences φ(mean + y) - φ(mean)."""


@pytest.mark.parametrize("sigma", [1e-12, 1e-6, 1e-3, 0.1, 0.2499, 0.25, 0.7, 1.5, 3.0])
@pytest.mark.parametrize("name", WAVES)
def test_waves_at_every_scale(name, sigma):
    powers = POWERS if sigma < 3 else (1, 2, 3)  # exp(6 z) reaches beyond 38 σ
    for mean in (0.0, 0.3, -1.3, 5.0, -30 * sigma):
        value = get(name).forward(np.array(mean))

        def deviation(x, centred, mean=mean, value=value):
            return WAVES[name](mean, sigma * x) + (0.0 if centred else value)

        assert_closed(get(name), mean, sigma, deviation, (), powers, 1e-12)


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_waves_at_their_extremes_vary_in_second_order(name):
    """Near a maximum φ(μ + y) - φ(μ) = -y²/2, of which no digits are lost."""
    mean = np.array([np.pi / 2 if name == "sin" else 0.0])
    table = get(name).coefficients(mean, np.array([1e-6]))
    variance = (table(0, 2) - table(0, 1) ** 2) * table.size**2
    assert variance[0] == pytest.approx(0.5e-24, rel=1e-9)


@pytest.mark.parametrize("sigma", [1e2, 1e6])
def test_wide_waves_are_uniform_on_the_circle(sigma):
    table = get("sin").coefficients(np.array([0.3]), np.array([sigma]))
    for p, expected in ((1, 0), (2, 1 / 2), (3, 0), (4, 3 / 8), (6, 5 / 16)):
        assert table(0, p)[0] == pytest.approx(expected, abs=1e-15)
        assert table(40, p)[0] == 0.0


def test_moments_of_the_exponential_are_those_of_the_lognormal_law():
    mean, var = np.array([0.5, -40.0, 0.0]), np.array([4.0, 9.0, 1e-4])
    for k in (0, 1, 4):
        for p in (1, 2, 3):
            expected = float(p) ** k * np.exp(p * mean + p * p * var / 2)
            np.testing.assert_allclose(get("exp").wick(mean, var, k, p), expected, rtol=1e-13)


def test_an_exponential_that_overflows_is_refused():
    with pytest.raises(CumpropError, match=r"E\[d\^0 exp\^2\] overflows float64"):
        get("exp").wick(10.0, 1600.0, 0, 2)


def test_layers_mix_narrow_and_wide_neurons():
    mean, sigma = np.array([0.3, 0.3, 2.0, -1.0]), np.array([1e-9, 1.0, 0.24, 0.26])
    for name in ("sin", "exp", "relu6", "hard_swish"):
        together = get(name).coefficients(mean, sigma)
        for n in range(4):
            alone = get(name).coefficients(mean[[n]], sigma[[n]])
            for p in (1, 2, 3):
                w = [
                    sum(
                        comb(p, j) * (0 if t.centre is None else t.centre[i]) ** (p - j)
                        * t(1, j)[i] * t.size**j
                        for j in range(1, p + 1)
                    )
                    for t, i in ((together, n), (alone, 0))
                ]  # fmt: skip
                assert w[0] == pytest.approx(w[1], rel=1e-12)
