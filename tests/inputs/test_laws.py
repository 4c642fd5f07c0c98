"""Laws of the input: cumulants against quadrature and partitions, samples against cumulants."""

from itertools import product
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cumprop.errors import CumpropError
from cumprop.inputs import Empirical, Gaussian, Independent, Mixture, Uniform
from cumprop.inputs.law import alike, symmetrised

RNG = np.random.default_rng(0)
ROOT = RNG.normal(size=(2, 2))
COV = ROOT @ ROOT.T
MIX = np.array([[1.0, -0.5, 0.3], [0.0, 2.0, 1.0]])
NODES = 6
"""Nodes of a Gauss rule, which is exact for polynomials of degree 11."""


# --- oracles -----------------------------------------------------------------------------------


def points_of(law):
    """Points (N, 2) and weights whose moments up to order 4 are those of the law."""
    if isinstance(law, Mixture):
        parts = [(share, points_of(part)) for share, part in law.parts]
        points = np.concatenate([points for _, (points, _) in parts])
        return points, np.concatenate([share * weights for share, (_, weights) in parts])
    if isinstance(law, Empirical):
        rows = np.asarray(law.rows)
        return rows, np.full(len(rows), 1 / len(rows))
    if isinstance(law, Gaussian):
        x, w = np.polynomial.hermite_e.hermegauss(NODES)
        points, weights = grid(x, w / w.sum(), 2)
        values, vectors = np.linalg.eigh(law.cov)
        return law.mean + points @ (vectors * np.sqrt(values)).T, weights
    if isinstance(law, Uniform):
        x, w = np.polynomial.legendre.leggauss(NODES)
        points, weights = grid((x + 1) / 2, w / 2, 2)
        return law.low + (law.high - law.low) * points, weights
    x, w = np.polynomial.laguerre.laggauss(NODES)  # of exponential coordinates
    points, weights = grid(x, w, np.asarray(law.mix).shape[-1])
    mix = law.mix if np.ndim(law.mix) == 2 else np.diag(law.mix)
    return law.location + points @ mix.T, weights


def grid(x, w, dimensions):
    points = np.array(list(product(x, repeat=dimensions)))
    return points, np.array([np.prod(each) for each in product(w, repeat=dimensions)])


def partitions(items):
    if not items:
        yield []
        return
    first, *rest = items
    for blocks in partitions(rest):
        yield [[first], *blocks]
        for i, block in enumerate(blocks):
            yield [*blocks[:i], [first, *block], *blocks[i + 1 :]]


def cumulant_of(points, weights, indices):
    """The joint cumulant by its sum over partitions, of products of raw moments."""
    total = 0.0
    for blocks in partitions(list(indices)):
        moments = [weights @ np.prod(points[:, block], axis=1) for block in blocks]
        total += (-1) ** (len(blocks) - 1) * factorial(len(blocks) - 1) * np.prod(moments)
    return total


GAUSSIAN = Gaussian([0.3, -0.2], COV)
BOX = Uniform([-1.0, 0.5], [0.5, 3.0])
SKEWED = Independent(stats.expon(), MIX, [0.1, -0.4])
MIXTURE = Mixture([0.2, 0.5, 0.3], [GAUSSIAN, BOX, SKEWED])
LAWS = {
    "gaussian": GAUSSIAN,
    "box": BOX,
    "box with a constant": Uniform([-1.0, 2.0], [0.5, 2.0]),
    "skewed": SKEWED,
    "diagonal": Independent(stats.expon(), [2.0, -1.0]),
    "mixture": MIXTURE,
    "mixture of mixtures": Mixture([0.4, 0.6], [MIXTURE, BOX]),
    "rows": Empirical(RNG.gamma(2.0, size=(50, 2))),
}
ALL = pytest.mark.parametrize("law", [law.sized(2) for law in LAWS.values()], ids=LAWS)


@ALL
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_cumulants_are_those_of_points_with_the_same_moments(law, order):
    points, weights = points_of(law)
    found = law.cumulant(order)
    expected = np.empty((2,) * order)
    for indices in product(range(2), repeat=order):
        expected[indices] = cumulant_of(points, weights, indices)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)
    if order <= 2:
        np.testing.assert_array_equal((law.mean, law.cov)[order - 1], found)


def test_cumulants_of_one_coordinate():
    """κ_k of a gamma law of shape a and scale θ is a (k-1)! θ^k; of a uniform one B_k w^k / k."""
    gamma = Independent(stats.gamma(3.0, scale=0.5), location=-1.0).sized(1)
    box = Uniform(-1.0, 3.0).sized(1)
    bernoulli = (None, None, 1 / 6, 0.0, -1 / 30)
    for order in (2, 3, 4):
        assert gamma.cumulant(order).item() == pytest.approx(
            3 * factorial(order - 1) * 0.5**order, rel=1e-12
        )
        assert box.cumulant(order).item() == pytest.approx(
            bernoulli[order] * 4**order / order, rel=1e-14, abs=1e-14
        )
    assert (gamma.mean.item(), box.mean.item()) == (pytest.approx(0.5), 1.0)


def test_coordinates_may_have_different_laws():
    law = Independent([stats.norm(1.0, 2.0), stats.expon(), stats.uniform(-1, 4)], MIX).sized(2)
    third = sum(
        k * np.multiply.outer(np.outer(a, a), a) for k, a in zip([0, 2, 0], MIX.T, strict=True)
    )
    np.testing.assert_allclose(law.mean, MIX @ [1, 1, 1], rtol=1e-14)
    np.testing.assert_allclose(law.cov, MIX @ np.diag([4, 1, 16 / 12]) @ MIX.T, rtol=1e-14)
    np.testing.assert_allclose(law.cumulant(3), third, rtol=1e-14, atol=1e-14)


@ALL
def test_samples_have_the_cumulants(law):
    """Means and second moments of 40,000 samples within 5 standard errors: 14 numbers for each of
    8 laws, so that a right program fails in one of 16,000 choices of the seed."""
    x = law.sample(40_000, np.random.default_rng(1))
    assert x.shape == (40_000, 2)
    for values, expected in (
        (x, law.mean),
        ((x - law.mean)[:, :, None] * (x - law.mean)[:, None], law.cov),
    ):
        error = values.std(axis=0) / np.sqrt(len(x))
        assert (np.abs(values.mean(axis=0) - expected) <= 5 * error + 1e-12).all()


def test_samples_have_the_distribution():
    """Kolmogorov and Smirnov, false alarms 1e-4 for each of four coordinates."""
    rng = np.random.default_rng(2)
    box = BOX.sized(2).sample(20_000, rng)
    for column, low, high in zip(box.T, (-1.0, 0.5), (0.5, 3.0), strict=True):
        assert stats.kstest(column, stats.uniform(low, high - low).cdf).pvalue > 1e-4
    for distribution in (stats.beta(0.5, 2.0), stats.lognorm(0.7)):
        x = Independent(distribution).sized(1).sample(20_000, rng)
        assert stats.kstest(x[:, 0], distribution.cdf).pvalue > 1e-4


def test_samples_of_rows_are_rows():
    rows = RNG.normal(size=(7, 3))
    x = Empirical(rows).sized(3).sample(100, np.random.default_rng(0))
    assert {tuple(row) for row in x} == {tuple(row) for row in rows}


# --- conditioning ------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_given_is_the_conditional_law(rank):
    """By the usual formula for the joint Gaussian of x and the observed Uᵀz."""
    a = RNG.normal(size=(4, 4))
    law = Gaussian(RNG.normal(size=4), a @ a.T).sized(4)
    u = np.linalg.qr(RNG.normal(size=(4, 4)))[0][:rank]
    s = RNG.normal(size=rank)
    values, vectors = np.linalg.eigh(law.cov)
    root = vectors * np.sqrt(values) @ vectors.T
    cross = root @ u.T  # Cov[x, Uᵀz]; the observed are N(0, I)
    found = law.given(u, s)
    np.testing.assert_allclose(found.mean, law.mean + cross @ s, rtol=1e-12)
    np.testing.assert_allclose(found.cov, law.cov - cross @ cross.T, atol=1e-12)


def test_given_refuses_directions_that_are_not_orthonormal():
    law = Gaussian(0.0, 2.0).sized(3)
    for directions, values in (([1.0, 1.0, 0.0], [1.0]), (np.eye(2), [0, 0]), (np.eye(3), [0.0])):
        with pytest.raises(CumpropError, match="orthonormal rows"):
            law.given(directions, values)


# --- fitted laws -------------------------------------------------------------------------------


def test_one_component_has_the_mean_and_covariance_of_the_rows():
    rows = RNG.gamma(2.0, size=(30, 3))
    law = Empirical(rows).sized(3).smoothed(1)
    np.testing.assert_allclose(law.mean, rows.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(law.cov, np.cov(rows.T, ddof=0), rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_components_are_found_in_any_unit(unit):
    """Two clusters 8 s.d. apart; a column may be constant. EM keeps the mean of the rows."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(3)
    centres = np.where(rng.random(4000) < 0.25, -1.0, 1.0)
    rows = np.stack([centres + 0.25 * rng.normal(size=4000), np.full(4000, 0.1)], axis=1)
    law = Empirical(rows * [unit, 1.0]).sized(2).smoothed(2)
    shares, laws = zip(*sorted(law.parts, key=lambda part: part[0]), strict=True)
    np.testing.assert_allclose(shares, [(centres < 0).mean(), (centres > 0).mean()], rtol=1e-3)
    np.testing.assert_allclose([part.mean[0] / unit for part in laws], [-1, 1], atol=0.05)
    np.testing.assert_allclose([part.cov[0, 0] / unit**2 for part in laws], 0.25**2, rtol=0.1)
    np.testing.assert_allclose([part.mean[1] for part in laws], 0.1, rtol=1e-12)
    assert all(part.cov[1, 1] == 0 for part in laws)
    np.testing.assert_allclose(law.mean[0], rows[:, 0].mean() * unit, rtol=1e-6)


# --- checks ------------------------------------------------------------------------------------

REFUSED = [
    (Uniform([0.0, 1.0], 0.5), "coordinate 1 has low 1 above high 0.5; swap them"),
    (Uniform([0.0, 1.0, 2.0], 5.0), r"low has shape \(3,\); give \(2,\) or a number"),
    (Uniform(0.0, np.inf), "high contains NaN or infinite"),
    (Uniform("a", 1.0), "low is no list of numbers"),
    (Gaussian(0.0, [[1.0, 2.0], [0.0, 1.0]]), "not symmetric"),
    (Gaussian([1.0], 1.0), r"input_mean has shape \(1,\)"),
    (Independent(stats.poisson(3)), "no continuous distribution of scipy.stats"),
    (Independent("uniform"), "coordinates are given|no continuous distribution"),
    (Independent(stats.t(4)), "t has no finite fourth moment"),
    (Independent([stats.expon()] * 2, MIX), "2 coordinates are given for 3"),
    (Independent(stats.expon(), np.ones((3, 3))), r"mix has shape \(3, 3\)"),
    (Mixture([0.5, 0.6], [GAUSSIAN, BOX]), "no probabilities"),
    (Mixture([1.5, -0.5], [GAUSSIAN, BOX]), "no probabilities"),
    (Mixture([1.0], [GAUSSIAN, BOX]), "2 components have weights"),
    (Mixture([1.0], [Empirical(np.ones((3, 2)))]), "no component of a mixture"),
    (Mixture([1.0], ["box"]), "no component of a mixture"),
    (Empirical(np.ones((3, 4))), r"rows of data have shape \(3, 4\); give \(N, 2\)"),
    (Empirical([[np.nan, 1.0]]), "contain NaN"),
    (Gaussian(0.0, float("nan")), "input_cov contains NaN"),
]


@pytest.mark.parametrize(("law", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_laws_that_are_none_are_refused(law, words):
    with pytest.raises(CumpropError, match=words):
        law.sized(2)


def test_cumulants_that_do_not_fit_are_refused(monkeypatch):
    law = Uniform(0.0, 1.0).sized(100)
    with pytest.raises(CumpropError, match="order 5 are not known"):
        law.cumulant(5)
    monkeypatch.setattr("cumprop.inputs.law.free_memory", lambda: 1e8)
    assert law.cumulant(3).shape == (100,) * 3
    with pytest.raises(CumpropError, match=r"order 4 of 100 inputs takes 0\.8 GB"):
        law.cumulant(4)


def test_components_without_weight_are_left_out():
    law = Mixture([0.0, 1.0], [GAUSSIAN, BOX]).sized(2)
    [(weight, only)] = law.parts
    assert weight == 1.0 and alike(only, BOX.sized(2))


@ALL
def test_laws_are_alike_by_their_parameters(law):
    """A law that knows its n is not checked again; a copy is alike, other laws are not."""
    assert law.sized(2) is law
    others = [other.sized(2) for other in LAWS.values()]
    assert sum(alike(law, other) for other in others) == 1
    assert not alike(law, Gaussian(17.0).sized(2))


@ALL
def test_words(law):
    assert repr(law) == f"{type(law).__name__}({law.words})" and len(law.words) < 40


# --- symmetric products ------------------------------------------------------------------------


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_symmetrised_sums_all_ways(numbers, seed):
    """Against the moments of N(d, C): E[x⊗4] has the terms CC, C d d and d⊗4, each once."""
    a = np.random.default_rng(seed).normal(size=(3, 3))
    d, c = np.array(numbers), a @ a.T
    law = Gaussian(d, c).sized(3)
    x, w = np.polynomial.hermite_e.hermegauss(NODES)
    points, weights = grid(x, w / w.sum(), 3)
    values, vectors = np.linalg.eigh(law.cov)
    points = d + points @ (vectors * np.sqrt(np.maximum(values, 0))).T
    fourth = np.einsum("a,ai,aj,ak,al->ijkl", weights, *[points] * 4, optimize=True)
    found = symmetrised(c, c) + symmetrised(c, np.multiply.outer(d, d)) + symmetrised(d, d, d, d)
    np.testing.assert_allclose(found, fourth, atol=1e-9 * max(1.0, np.abs(fourth).max()))
    third = np.einsum("a,ai,aj,ak->ijk", weights, *[points] * 3, optimize=True)
    found = symmetrised(c, d) + symmetrised(d, d, d)
    np.testing.assert_allclose(found, third, atol=1e-9 * max(1.0, np.abs(third).max()))
