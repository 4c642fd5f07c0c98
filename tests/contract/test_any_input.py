"""Every estimator under every law: it agrees with sampling, or refuses with a reason."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

import cumprop
from cumprop import activations
from cumprop.contract import available, build, independent_samples
from cumprop.contract.any_input import statuses
from cumprop.contract.input_cumulants import missed_by
from cumprop.errors import CumpropError
from cumprop.functionals import quantiles
from cumprop.inputs import Empirical, Gaussian, Independent, Mixture, Uniform
from cumprop.networks import gaussian_parts

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
N_0 = 12
MIX = RNG.normal(size=(N_0, N_0)) / np.sqrt(N_0)
BOX = Uniform(-1.0, np.linspace(0.5, 2.0, N_0))
SKEWED = Independent(stats.gamma(2.0), MIX, 0.3)
MIXTURE = Mixture([0.2, 0.5, 0.3], [Gaussian(-0.5, 0.5), BOX, SKEWED])
ROWS = Empirical(RNG.gamma(2.0, size=(3000, N_0)) - 2)
LAWS = {"box": BOX, "skewed": SKEWED, "mixture": MIXTURE, "rows": ROWS}

ESTIMATORS = {
    "order 1": ("cumulant", {"order": 1}),
    "order 2": ("cumulant", {"order": 2}),
    "order 3": ("cumulant", {"order": 3}),
    "order 3 augmented": ("cumulant", {"order": 3, "kind": "augmented"}),
    "order 3 tree": ("cumulant", {"order": 3, "kind": "tree"}),
    "order 4": ("cumulant", {"order": 4}),
    "gaussian": ("gaussian", {}),
    "conditional": ("conditional", {}),
    "linearized": ("linearized", {}),
    "unscented": ("unscented", {}),
    "monte_carlo": ("monte_carlo", {"n_samples": 20_000}),
    "antithetic": ("monte_carlo", {"n_samples": 20_000, "design": "antithetic"}),
    "orthogonal": ("monte_carlo", {"n_samples": 20_000, "design": "orthogonal"}),
    "sobol": ("monte_carlo", {"n_samples": 20_000, "design": "sobol"}),
    "extrapolated": ("monte_carlo", {"n_samples": 20_000, "extrapolate": "cumulant"}),
    "blend": ("blend", {"n_samples": 2000}),
    "adaptive": ("adaptive", {"tolerance": 0.01}),
}
ROUGH = {"order 1", "linearized"}
TAKE_ROWS = {"monte_carlo", "extrapolated", "adaptive"}


def test_no_estimator_is_left_out():
    assert {name for name, _ in ESTIMATORS.values()} | {"importance"} == set(available())


def network_of(law, depth=2):
    widths = (N_0, *(48,) * depth, 3)
    weights = [RNG.normal(size=(n, m)) * np.sqrt(1.5 / m) for m, n in pairwise(widths)]
    biases = [0.2 * RNG.normal(size=n) for n in widths[1:]]
    return cumprop.MLP(weights, biases, "gelu", input=law)


NETWORKS = {name: network_of(law) for name, law in LAWS.items()}


@pytest.fixture(scope="module")
def samples():
    """Outputs and activations of each network at 400,000 samples of the law itself."""
    found = {}
    for name, network in NETWORKS.items():
        law = network.input
        x = (
            np.asarray(law.rows)
            if name == "rows"
            else law.sample(400_000, np.random.default_rng(1))
        )
        *hidden, (y, _) = network.layers(x)
        found[name] = y, [activations for _, activations in hidden]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("cov", [False, True])
def test_every_pair_agrees_with_sampling_or_refuses(samples, law, estimator, cov):
    """Errors of means are at most three expected ones and 5 standard errors of the samples.

    Estimates without an expected error have 0.03 output s.d. Means and standard deviations of
    hidden neurons are off by 0.1 of the s.d. of their layer at most, by 0.6 in rough estimates.
    """
    network, (backend, parameters) = NETWORKS[law], ESTIMATORS[estimator]
    if law == "rows" and estimator not in TAKE_ROWS:
        with pytest.raises(CumpropError, match=r"rows of data: .*--components 1|take design iid"):
            cumprop.estimate(network, backend, cov=cov, **parameters)
        return
    if cov and estimator == "extrapolated":
        with pytest.raises(CumpropError, match="covariance"):
            cumprop.estimate(network, backend, cov=cov, **parameters)
        return
    found = cumprop.estimate(network, backend, cov=cov, **parameters)
    y, hidden = samples[law]
    noise = 0.0 if law == "rows" else 5 * np.sqrt(y.var(axis=0).sum() / len(y))
    sd = np.sqrt(y.var(axis=0).sum())
    error = np.linalg.norm(found.mean - y.mean(axis=0))
    expected = 0.01 if found.expected_error is None else found.expected_error
    assert error <= 3 * expected * sd + noise
    assert [len(m) for m in found.layer_means] == [48, 48]
    rough = 0.6 if estimator in ROUGH else 0.1
    for means, x in zip(found.layer_means, hidden, strict=True):
        off = np.linalg.norm(means - x.mean(axis=0)) / np.linalg.norm(x.std(axis=0))
        assert off <= rough
    for variances, x in zip(found.layer_variances or (), hidden, strict=False):
        std = np.sqrt(np.maximum(variances, 0))  # orders can leave the range
        off = np.linalg.norm(std - x.std(axis=0)) / np.linalg.norm(x.std(axis=0))
        assert off <= rough
    if cov:
        assert found.cov.shape == (3, 3)
        std = np.sqrt(np.diag(found.cov))
        ratio = np.abs(std / y.std(axis=0) - 1).max()
        assert ratio <= max(0.03, 3 * (found.expected_std_error or 0))


# --- linear networks: the cumulants of the input, exactly --------------------------------------

UNIFORM = Uniform([-1.0, 0.5, 2.0], [0.5, 3.0, 2.0])
EXPONENTIAL = Independent(stats.expon(), RNG.normal(size=(3, 4)), [0.1, 0.2, -0.3])
BETA = Independent([stats.beta(0.5, 2.0), stats.gamma(3.0), stats.norm()], np.eye(3), 1.0)


def moments(law, w, b):
    """The raw moments 1 to 4 of w·x + b, from the cumulants of x."""
    k1, k2, k3, k4 = (
        np.einsum(subscripts, law.cumulant(order), *[w] * order)
        for order, subscripts in enumerate(("i,i", "ij,i,j", "ijk,i,j,k", "ijkl,i,j,k,l"), 1)
    )
    m = k1 + b
    return (
        m,
        m**2 + k2,
        m**3 + 3 * m * k2 + k3,
        m**4 + 6 * m**2 * k2 + 4 * m * k3 + 3 * k2**2 + k4,
    )


@pytest.mark.parametrize("law", [UNIFORM, EXPONENTIAL, BETA], ids=["uniform", "expon", "beta"])
@pytest.mark.parametrize(
    ("order", "kind", "power"),
    [(2, "basic", 2), (3, "basic", 3), (3, "augmented", 3), (3, "tree", 3), (4, "basic", 4)],
)
def test_third_and_fourth_cumulants_of_linear_outputs_are_exact(law, order, kind, power):
    """E[y^p] of linear y needs the cumulants of y up to p; those of order p have it exactly."""
    w, b = RNG.normal(size=(5, 3)), RNG.normal(size=5)
    network = cumprop.MLP([w, np.eye(5)], [b, None], f"power({power})", input=law)
    found = cumprop.estimate(network, "cumulant", order=order, kind=kind)
    exact = [moments(law.sized(3), row, shift)[power - 1] for row, shift in zip(w, b, strict=True)]
    np.testing.assert_allclose(found.mean, exact, rtol=1e-9)
    blind = cumprop.estimate(gaussian_parts(network, matched=True)[0][1], "cumulant", order=order)
    if power > 2 and (power == 4 or law is not UNIFORM):  # only the input's cumulants pass
        assert np.abs(blind.mean / exact - 1).max() > 1e-3


@pytest.mark.slow
def test_cumulants_of_the_input_help_order_4():
    """One hidden layer of 256 neurons, five uniform inputs, 8 networks: RMS errors of the means are
    0.005 output s.d. with the third and fourth cumulants of the input, 0.018 without."""
    with_cumulants, without = [], []
    u = stats.qmc.Sobol(5, rng=np.random.default_rng(0)).random(2**17)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        w = [rng.normal(size=(256, 5)) * np.sqrt(2 / 5), rng.normal(size=(4, 256)) / 16]
        network = cumprop.MLP(w, [rng.normal(size=256) / 2, None], input=Uniform(-1.0, 1.0))
        y = network.forward(2 * u - 1)
        sd = np.sqrt(y.var(axis=0).sum())
        for errors, given in (
            (with_cumulants, network),
            (without, gaussian_parts(network, matched=True)[0][1]),
        ):
            found = cumprop.estimate(given, "cumulant", order=4)
            errors.append(np.linalg.norm(found.mean - y.mean(axis=0)) / sd)
    rms = [np.sqrt(np.mean(np.square(errors))) for errors in (with_cumulants, without)]
    assert rms[0] < rms[1] / 2


# --- the error of what is left out -------------------------------------------------------------


@pytest.mark.parametrize("law", [UNIFORM, EXPONENTIAL, BETA], ids=["uniform", "expon", "beta"])
@pytest.mark.parametrize("power", [3, 4])
def test_the_shift_that_is_left_out_is_the_error_of_order_2(law, power):
    """Of E[z³] and E[z⁴], which cumulants beyond the fourth do not move, it is all of the error."""
    w, b = RNG.normal(size=(6, 3)), RNG.normal(size=6)
    network = cumprop.MLP([w, np.eye(6)], [b, None], f"power({power})", input=law)
    [(_, part)] = gaussian_parts(network)
    [(_, blind)] = gaussian_parts(network, matched=True)
    exact = [moments(law.sized(3), row, shift)[power - 1] for row, shift in zip(w, b, strict=True)]
    found = cumprop.estimate(blind, "gaussian", cov=True)
    error = np.linalg.norm(found.mean - exact) / np.sqrt(np.trace(found.cov))
    assert missed_by(part, 2, "") == pytest.approx(error, rel=1e-6, abs=1e-12)
    order_3 = cumprop.estimate(network, "cumulant", order=3)
    error = np.linalg.norm(order_3.mean - exact) / np.sqrt(np.trace(found.cov))
    assert missed_by(part, 3, "basic") == pytest.approx(error, rel=1e-6, abs=1e-12)
    assert missed_by(part, 4, "basic") == pytest.approx(0, abs=1e-12)  # ∂⁶ of a power of 4


def test_the_shift_beyond_order_4_is_the_next_of_the_series():
    """E[z⁶] of one uniform z: order 4 lacks 15 κ_4² w(8,1)… = 0 and 10 κ_3² = 0, and κ_6 itself;
    of a skewed z it lacks 10 κ_3², which is κ_3²/72 · 6!."""
    z = Independent(stats.gamma(2.0)).sized(1)
    network = cumprop.MLP([[[1.0]], [[1.0]]], activations="power(6)", input=z)
    [(_, part)] = gaussian_parts(network)
    k3 = z.cumulant(3).item()
    gaussian = activations.get("power(6)").wick_table(np.array([2.0]), np.array([2.0]))
    sd = np.sqrt(gaussian(0, 2) - gaussian(0, 1) ** 2)
    assert missed_by(part, 4, "basic") == pytest.approx(10 * k3**2 / sd.item(), rel=1e-6)


@pytest.mark.parametrize("estimator", ["order 2", "order 3", "order 3 tree", "order 4"])
def test_expected_errors_contain_what_is_left_out(estimator):
    """One pre-activation of two uniform numbers is far from Gaussian: intervals hold it."""
    backend, parameters = ESTIMATORS[estimator]
    network = cumprop.MLP([[[1.0, 1.0]], [[1.0]]], [[-1.8], None], input=Uniform(-1.0, 1.0))
    found = cumprop.estimate(network, backend, **parameters)
    exact = 0.2**3 / 24  # E relu of a triangular density
    assert abs(found.mean[0] - exact) <= found.half_width[0]


# --- mixtures by hand --------------------------------------------------------------------------


@pytest.mark.parametrize(("backend", "parameters"), [("cumulant", {"order": 3}), ("gaussian", {})])
def test_mixtures_are_weighted_sums(backend, parameters):
    network = NETWORKS["mixture"]
    parts = [network.replace(input=law) for _, law in network.input.parts]
    shares = [share for share, _ in network.input.parts]
    found = cumprop.estimate(network, backend, cov=True, **parameters)
    each = [cumprop.estimate(part, backend, cov=True, **parameters) for part in parts]
    mean = sum(w * e.mean for w, e in zip(shares, each, strict=True))
    second = sum(w * (e.cov + np.outer(e.mean, e.mean)) for w, e in zip(shares, each, strict=True))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found.cov, second - np.outer(mean, mean), rtol=1e-9, atol=1e-12)
    for layer in range(network.depth):
        m = sum(w * e.layer_means[layer] for w, e in zip(shares, each, strict=True))
        np.testing.assert_allclose(found.layer_means[layer], m, rtol=1e-12)
        if found.layer_variances is not None:
            square = sum(
                w * (e.layer_variances[layer] + e.layer_means[layer] ** 2)
                for w, e in zip(shares, each, strict=True)
            )
            np.testing.assert_allclose(found.layer_variances[layer], square - m**2, rtol=1e-9)
    assert found.flops.total == sum(e.flops.total for e in each)
    half = sum(w * e.half_width for w, e in zip(shares, each, strict=True))
    np.testing.assert_allclose(found.half_width, half, rtol=1e-6)
    errors = [
        w * e.expected_error * np.sqrt(np.trace(e.cov)) for w, e in zip(shares, each, strict=True)
    ]
    expected = sum(errors) / np.sqrt(np.trace(found.cov))
    assert found.expected_error == pytest.approx(expected, rel=1e-6)


def test_a_mixture_of_one_is_its_component():
    network = NETWORKS["box"]
    one = network.replace(input=Mixture([1.0], [network.input]))
    twice = network.replace(input=Mixture([0.5, 0.5], [network.input, network.input]))
    found, single, double = (
        cumprop.estimate(each, "cumulant", order=3, cov=True) for each in (network, one, twice)
    )
    np.testing.assert_array_equal(found.mean, single.mean)
    np.testing.assert_allclose(double.mean, found.mean, rtol=1e-12)
    np.testing.assert_allclose(double.cov, found.cov, rtol=1e-9, atol=1e-14)
    assert double.expected_error == pytest.approx(found.expected_error, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["iid", "antithetic", "orthogonal"])
def test_standard_errors_of_mixtures(design):
    """Over 200 seeds, squared errors over squared standard errors have mean 1 (5 s.e. for 3
    outputs that are taken as one), and 95% intervals cover about 95%."""
    law = Mixture([0.2, 0.5, 0.3], [Gaussian(-0.5, 0.5), BOX, Gaussian(1.0, 2.0)])
    network = NETWORKS["mixture"].replace(input=law)
    truth = cumprop.estimate(network, "monte_carlo", n_samples=400_000, design="sobol").mean
    ratios, covered = [], []
    for seed in range(200):
        found = cumprop.estimate(network, "monte_carlo", n_samples=768, design=design, seed=seed)
        ratios.append(np.mean(((found.mean - truth) / found.stderr) ** 2))
        covered.append(np.mean(np.abs(found.mean - truth) <= found.half_width))
    assert abs(np.mean(ratios) - 1) <= 5 * np.sqrt(2 / len(ratios))
    assert 0.91 <= np.mean(covered) <= 0.99


def test_sampling_deals_out_samples_by_share():
    found = cumprop.estimate(NETWORKS["mixture"], "monte_carlo", n_samples=1000)
    assert found.n_samples == 200 + 500 + 300
    few = cumprop.estimate(NETWORKS["mixture"], "monte_carlo", n_samples=10)
    assert few.n_samples == 3 * 64


def test_the_error_of_a_mixture_is_bounded_without_variances():
    """`adaptive` without a covariance does not tell the variances of components."""
    estimator = build("adaptive", tolerance=0.02)
    found = cumprop.estimate(NETWORKS["mixture"], estimator)
    assert 0 < found.expected_error <= 0.02
    line = cumprop.MLP([[[1.0, 2.0]]], input=Mixture([0.5, 0.5], [Uniform(), Uniform(0.0, 2.0)]))
    few, exact = (
        cumprop.estimate(network, estimator)
        for network in (line.above(1.0), line.replace(input=Mixture([1.0], [Gaussian()])))
    )
    assert independent_samples(estimator, line, few) == 9604  # 1.96² / 0.02²
    assert independent_samples(estimator, line, exact) is None


def test_statuses_of_components():
    law = Mixture([0.5, 0.5], [Gaussian(3.0, 1e-6), Gaussian(0.0, 100.0)])
    weights = [RNG.normal(size=(4, 2)), RNG.normal(size=(4, 4)), RNG.normal(size=(1, 4))]
    found = cumprop.estimate(cumprop.MLP(weights, input=law), "cumulant", order=2, cov=True)
    assert found.status.startswith("unreliable: component 1, ")
    doubts = statuses("component 0: sampled 9; estimated error 1; component 1: sampled 8")
    assert doubts == ["sampled 9; estimated error 1", "sampled 8"]


# --- rows of data ------------------------------------------------------------------------------


def test_rows_are_averaged():
    network = NETWORKS["rows"]
    y = network.forward(network.input.rows)
    for found in (
        cumprop.estimate(network, "adaptive", cov=True, tolerance=0.05),
        cumprop.estimate(network, "monte_carlo", cov=True, n_samples=3000),
        cumprop.estimate(network, "monte_carlo", cov=True, n_samples=10**6),
    ):
        np.testing.assert_allclose(found.mean, y.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.cov, np.cov(y.T, ddof=0), rtol=1e-9)
        np.testing.assert_allclose(found.stderr, y.std(axis=0, ddof=1) / np.sqrt(3000), rtol=1e-9)
        assert found.n_samples == 3000 and found.status == "ok"
    few = cumprop.estimate(network, "monte_carlo", n_samples=100)
    assert few.n_samples == 100
    assert few.mean.tolist() != y[:100].mean(axis=0).tolist()


def test_too_few_rows_for_a_tolerance_are_named():
    found = cumprop.estimate(NETWORKS["rows"], "adaptive", tolerance=1e-3)
    assert found.status == "3,000 rows leave 0.02 output s.d.; tolerance 0.001 takes 1,000,000"


def test_rows_far_from_0_keep_their_digits():
    """Rows in float32 at 1 + 1e-5 g: passes are taken as deviations from the one at the mean."""
    rows = 1 + 1e-5 * RNG.normal(size=(500, 4))
    w = RNG.normal(size=(6, 4)).astype("f")
    network = cumprop.MLP(
        [w, RNG.normal(size=(2, 6)).astype("f")], activations="tanh", input=Empirical(rows)
    )
    exact = network.replace(weights=[v.astype(float) for v in network.weights]).forward(rows)
    found = cumprop.estimate(network, "monte_carlo", cov=True)
    np.testing.assert_allclose(np.diag(found.cov), exact.var(axis=0), rtol=0.02)


# --- probabilities and quantiles ---------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cumulant", "gaussian", "linearized", "unscented", "blend"])
def test_tails_of_linear_networks_are_exact_for_gaussians_alone(backend):
    """A linear output under a box is not Gaussian, which steps of an order take it for."""
    line = cumprop.MLP([[[3.0, 4.0]]])
    mixture = Mixture([0.5, 0.5], [Gaussian(0.0), Gaussian(1.0, 4.0)])
    exact = backend in ("cumulant", "gaussian")
    for law, sure in ((Gaussian(), exact), (mixture, exact), (Uniform(-1.0, 1.0), False)):
        tail = line.replace(input=law).above(6.0)
        try:
            found = cumprop.estimate(tail, backend)
        except CumpropError as error:
            assert "step" in str(error) or "heaviside" in str(error)
            continue
        assert found.status.startswith("unreliable") != sure
        if law is mixture and sure:
            expected = (ndtr(-6 / 5) + ndtr(-(6 - 7) / 10)) / 2
            assert found.mean[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("backend", ["monte_carlo", "adaptive"])
@pytest.mark.parametrize("law", LAWS)
def test_sampled_tails(samples, backend, law):
    """Within 5 standard errors of the samples and of the estimate."""
    network, (y, _) = NETWORKS[law], samples[law]
    threshold = np.quantile(y, 0.9, axis=0)
    parameters = {"tolerance": 0.05} if backend == "adaptive" else {"n_samples": 20_000}
    found = cumprop.estimate(network.above(threshold), backend, **parameters)
    assert not found.status.startswith("unreliable")
    se = np.hypot(found.stderr, 0.3 / np.sqrt(len(y)))
    assert (np.abs(found.mean - (y > threshold).mean(axis=0)) <= 5 * se).all()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("stored", [2**25, 9000])
def test_sampled_quantiles(samples, monkeypatch, law, stored):
    """Order statistics of the law's own outputs, in one pass or two; 95% intervals widened to 5
    standard errors."""
    monkeypatch.setattr("cumprop.functionals.order_statistics.STORED", stored)
    network, (y, _) = NETWORKS[law], samples[law]
    estimator = build("monte_carlo", n_samples=20_000)
    outputs = cumprop.estimate(network, estimator)
    n = independent_samples(estimator, network, outputs)
    assert n == (3000 if law == "rows" else 20_000)
    found = quantiles(None, network, [0.1, 0.5], outputs, n, np.random.default_rng(5))
    for q, t, (low, high) in zip([0.1, 0.5], found.thresholds, found.intervals, strict=True):
        share = (y <= t).mean(axis=0)
        assert (np.abs(share - q) <= 5 * np.sqrt(q * (1 - q) / n)).all()
        assert (low < t).all() and (t < high).all()


# --- units, designs ----------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1e9])
@pytest.mark.parametrize(
    ("backend", "parameters"),
    [
        ("cumulant", {"order": 2}), ("cumulant", {"order": 3, "kind": "tree"}),
        ("cumulant", {"order": 4}), ("gaussian", {}), ("linearized", {}), ("unscented", {}),
        ("monte_carlo", {"design": "sobol", "n_samples": 256}), ("adaptive", {}), ("blend", {}),
    ],
)  # fmt: skip
def test_units_of_the_box_do_not_matter(backend, parameters, unit):
    """c·box through a homogeneous network gives c·outputs, with the same status and errors."""
    w = [RNG.normal(size=(9, 9)) for _ in range(3)]
    low, high = np.linspace(-2, 0, 9), np.linspace(0.5, 1, 9)

    def found(scale):
        network = cumprop.MLP(w, input=Uniform(scale * low, scale * high))
        return cumprop.estimate(network, backend, cov=True, **parameters)

    one, other = found(1.0), found(unit)
    np.testing.assert_allclose(other.mean / unit, one.mean, rtol=1e-7)
    np.testing.assert_allclose(other.cov / unit**2, one.cov, rtol=1e-6, atol=1e-9 * one.cov.max())
    assert other.status == one.status
    if one.expected_error is not None:
        assert other.expected_error == pytest.approx(one.expected_error, rel=1e-4)


def test_a_small_box_far_away_is_the_tangent():
    """Uniform on x_0 ± h, h → 0: mean f(x_0), covariance J (h²/3) Jᵀ, in float32 too."""
    w = [RNG.normal(size=(8, 3)), RNG.normal(size=(2, 8))]
    point = np.array([100.0, -3.0, 0.5])
    for dtype, h in ((np.float64, 1e-7), (np.float32, 1e-5)):
        network = cumprop.MLP(
            [v.astype(dtype) / 50 for v in w],
            activations="tanh",
            input=Uniform(point - h, point + h),
        )
        slope = 1 - np.tanh(network.weights[0] @ point) ** 2
        jacobian = network.weights[1] * slope @ network.weights[0]
        exact = h**2 / 3 * jacobian @ jacobian.T
        for backend, parameters in (
            ("cumulant", {"order": 3}),
            ("gaussian", {}),
            ("monte_carlo", {"design": "sobol"}),
        ):
            found = cumprop.estimate(network, backend, cov=True, **parameters)
            np.testing.assert_allclose(found.cov, exact, rtol=0.02)


@pytest.mark.slow
def test_designs_converge_faster_than_independent_samples():
    """Errors at 2^13 samples of 5 uniform inputs, RMS over 12 seeds; all designs agree."""
    w = [RNG.normal(size=(24, 5)) / 2, RNG.normal(size=(24, 24)) / 4, RNG.normal(size=(1, 24))]
    network = cumprop.MLP(w, activations="tanh", input=Uniform(-1.0, [1, 2, 1, 1, 3]))
    u = stats.qmc.Sobol(5, rng=np.random.default_rng(0)).random(2**18)
    truth = network.forward(-1 + u * (np.array([1, 2, 1, 1, 3]) + 1)).mean(axis=0)
    rms = {}
    for design in ("iid", "antithetic", "orthogonal", "sobol"):
        runs = [
            cumprop.estimate(network, "monte_carlo", n_samples=2**13, design=design, seed=seed)
            for seed in range(12)
        ]
        errors = np.array([run.mean - truth for run in runs])
        rms[design] = float(np.sqrt(np.mean(errors**2)))
        ratio = np.mean([((run.mean - truth) / run.stderr) ** 2 for run in runs])
        assert ratio < 5
    assert rms["antithetic"] < rms["iid"] and rms["orthogonal"] < rms["iid"]
    assert rms["sobol"] < rms["iid"] / 5
