"""24 random and 3 trained networks, three tolerances: are they met, covered, and cheap?"""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from joblib import Parallel, delayed
from scipy.special import chdtri, stdtrit
from threadpoolctl import threadpool_limits

import cumprop
from cumprop.estimators.adaptive import Adaptive
from cumprop.estimators.adaptive.error_laws import CANDIDATES
from cumprop.estimators.blend import Blend
from cumprop.estimators.cumulant import Cumulant
from cumprop.estimators.monte_carlo import MonteCarlo
from cumprop.results.provenance import cores
from cumprop.results.scores import mse_between
from cumprop.sampling import replicates, standardised
from cumprop.sampling.designs import rounded

pytestmark = pytest.mark.verify

TOLERANCES = (1e-1, 1e-2, 1e-3)
N_TRUTH = {32: 4e6, 48: 4e6, 64: 4e6, 96: 2e6, 128: 2e6, 256: 1e6}
TRAINED = ("digits", "control", "mnist_shape")
DESIGNS = ("iid", "antithetic", "orthogonal")


@dataclass
class Known:
    """A network with its truth: group means (2, B, n), variances (n,) of a pass."""

    name: str
    network: cumprop.MLP
    groups: np.ndarray
    variance: float

    def vn_mse(self, mean):
        """And its upper 95% limit."""
        mse, se = mse_between(mean, self.groups)
        limit = mse + stdtrit(2 * (self.groups.shape[1] - 1), 0.95) * se
        return mse / self.variance, limit / self.variance

    def covered(self, estimate):
        """Whether each 95% interval holds the truth, whose own noise adds in quadrature."""
        groups = self.groups.reshape(-1, self.groups.shape[-1])
        noise = 1.96 * groups.std(axis=0, ddof=1) / np.sqrt(len(groups))
        off = np.abs(estimate.mean - groups.mean(axis=0))
        return off <= np.hypot(estimate.half_width, noise)


def of_truth(truth):
    depth = truth.spec.depth
    name = f"{truth.spec.activation} n={truth.spec.width} L={depth}"
    groups, variance = truth.groups("output", depth), truth.variance("output", depth)
    return Known(name, truth.spec.network, groups, variance)


def of_samples(name, network, n_samples):
    """Two independent halves of 16 runs of Monte Carlo each."""
    runs = [
        MonteCarlo(n_samples // 32, "orthogonal").estimate(
            network, cov=True, rng=np.random.default_rng([7, run])
        )
        for run in range(32)
    ]
    means = np.array([run.mean for run in runs]).reshape(2, 16, -1)
    variance = np.mean([np.diag(run.cov) for run in runs], axis=0).mean()
    return Known(name, network, means, variance)


def of_grid(name, network):
    """Two inputs: sums over grids know better than samples, if those of 400² and 600² agree."""
    plain, _ = standardised(network)
    moments = []
    for n in (400, 600):
        z = np.linspace(-8, 8, n)
        x = np.stack(np.meshgrid(z, z), -1).reshape(-1, 2)
        weights = np.exp(-np.square(x).sum(axis=1) / 2)
        y, weights = plain.forward(x), weights / weights.sum()
        moments.append((weights @ y, weights @ y**2 - (weights @ y) ** 2))
    (coarse, _), (mean, variance) = moments
    assert np.abs(coarse - mean).max() < 1e-5 * np.sqrt(variance.mean())
    return Known(name, network, np.broadcast_to(mean, (2, 16, len(mean))), variance.mean())


@pytest.fixture(scope="module")
def known(random_specs, truths_of, trained):
    truths = truths_of(random_specs, [N_TRUTH[spec.width] for spec in random_specs])
    return [
        *map(of_truth, truths),
        of_samples("digits", trained.digits(), 130_000),
        of_grid("control", trained.control()),
        of_samples("mnist_shape", trained.mnist_shape(), 100_000),
    ]


@dataclass
class Pair:
    """A network and a tolerance: what `adaptive` makes of it."""

    known: Known
    tolerance: float
    estimate: cumprop.Estimate

    def __str__(self):
        return f"{self.known.name}, {self.tolerance:g}: {self.estimate.status}"

    @property
    def met(self):
        return self.known.vn_mse(self.estimate.mean)[1] <= 1.2 * self.tolerance**2


def searched(network, tolerance):
    return Pair(network, tolerance, Adaptive(tolerance).estimate(network.network))


@pytest.fixture(scope="module")
def pairs(known):
    pool = Parallel(n_jobs=cores(), prefer="threads")
    found = pool(delayed(searched)(network, t) for network in known for t in TOLERANCES)
    for pair in found:
        vn_mse, limit = pair.known.vn_mse(pair.estimate.mean)
        print(f"\n  {pair}: {np.sqrt(max(vn_mse, 0)):.1e} (≤ {np.sqrt(max(limit, 0)):.1e})", end="")
    return found


def test_tolerances_are_met(pairs, record):
    missed = [str(pair) for pair in pairs if not pair.met]
    share = 1 - len(missed) / len(pairs)
    orders = sum(not pair.estimate.status.startswith("sampled") for pair in pairs)
    record(
        "`adaptive`: tolerances 0.1, 0.01, 0.001 met on 24 random and 3 trained networks "
        "(upper 95% limit of vn-MSE ≤ 1.2 ε²)",
        f"{len(pairs) - len(missed)} of {len(pairs)}, {orders} by orders, the others by samples"
        + "".join(f"; missed: {pair}" for pair in missed),
        "≥ 95%",
        share >= 0.95,
    )


def test_intervals_cover(pairs, record):
    """Outputs of a network are correlated, so that their binomial interval would be too short."""
    hits = {t: [p.known.covered(p.estimate) for p in pairs if p.tolerance == t] for t in TOLERANCES}
    each = ", ".join(f"{np.concatenate(hits[t]).mean():.1%} at {t:g}" for t in TOLERANCES)
    covered = np.concatenate([hit for found in hits.values() for hit in found])
    record(
        f"`adaptive`: 95% intervals of {covered.size:,} outputs hold the truth",
        f"{covered.mean():.1%} ({each})",
        "90% to 99%",
        0.90 <= covered.mean() <= 0.99,
    )


# --- cost --------------------------------------------------------------------------------------


def fixed_choices(known):
    """(FLOPs, vn-MSE limit) of the orders; for each design passes(ε) that meet a tolerance.

    Sampling is taken to meet it where 95% of draws have a vn-MSE ≤ 1.2 ε².
    """
    network, _ = standardised(known.network)
    designs = {}
    if network.widths[0] <= 8:
        designs["sobol"] = sobol_passes(known, network)
    for design in DESIGNS:
        draws = replicates(network, 4096, design, np.random.default_rng(5))
        gain = draws.noise.sum() * draws.n_samples / (known.variance * len(draws.mean))
        quantile = chdtri(draws.freedom, 0.05) / draws.freedom
        designs[design] = partial(passes_by_variance, gain * quantile / 1.2)
    orders = []
    for fixed in (Cumulant(1), *(candidate.estimator for candidate in CANDIDATES)):
        if max(network.widths) > 64 and fixed == CANDIDATES[-1].estimator:
            continue
        estimate = fixed.estimate(network)
        orders.append((estimate.flops.total, known.vn_mse(estimate.mean)[1]))
    return network, designs, orders


def passes_by_variance(variance, tolerance):
    return max(1, int(variance / tolerance**2))


def sobol_passes(known, network):
    """By doubling; 95% of 40 draws."""
    limits = {}
    for n_samples in (2**k for k in range(5, 16)):
        errors = [
            known.vn_mse(MonteCarlo(n_samples, "sobol").estimate(network, rng=rng).mean)[0]
            for rng in np.random.default_rng(17).spawn(40)
        ]
        limits[n_samples] = np.quantile(errors, 0.95)
    return lambda tolerance: min(n for n, limit in limits.items() if limit <= 1.2 * tolerance**2)


def bound(choices, tolerance):
    """The cheapest fixed choice that meets the tolerance, the next dearer one, and the screen."""
    network, designs, orders = choices
    sampling = []
    for design, passes in designs.items():
        n_samples = rounded(design, network.widths[0], passes(tolerance))
        sampling.append(MonteCarlo(n_samples, design).predict_cost(network.shape).flops)
    meeting = [min(sampling), *(flops for flops, limit in orders if limit <= 1.2 * tolerance**2)]
    best = min(meeting)
    dearer = [flops for flops in (min(sampling), *(f for f, _ in orders)) if flops > best]
    confirming = int(min(max(64, 3 / tolerance), 4096))  # passes before few are believed
    screen = MonteCarlo(confirming, "antithetic").predict_cost(network.shape).flops
    following = min(dearer, default=best)
    return best + following + max(screen, 0.1 * (best + following))


def test_cost_is_bounded(known, pairs, record):
    """FLOPs of random networks, beside what it takes to read a covariance of the input.

    Trained ones are sampled where an order is no safe answer, though in hindsight it may have been
    a cheap one; what that costs beside samples alone is a row of `test_trust.py`.
    """
    random = [pair for pair in pairs if pair.known.name not in TRAINED]
    pool = Parallel(n_jobs=cores(), prefer="threads")
    networks = [k for k in known if k.name not in TRAINED]
    found = pool(delayed(fixed_choices)(k) for k in networks)
    choices = dict(zip((k.name for k in networks), found, strict=True))
    ratios = []
    for pair in random:
        flops = pair.estimate.flops.total - pair.estimate.flops.get("input", 0)
        ratios.append(flops / bound(choices[pair.known.name], pair.tolerance))
        print(f"\n  {ratios[-1]:.2f} {pair}", end="")
    share = np.mean(np.array(ratios) <= 1)
    record(
        "`adaptive` on random networks: FLOPs over the best fixed choice, the next dearer one and "
        "the screen",
        f"median {np.median(ratios):.2f}, largest {max(ratios):.2f}, "
        f"at most 1 in {share:.0%} of {len(random)}",
        "at most 1 in 95%, largest 1.2",
        share >= 0.95 and max(ratios) <= 1.2,
    )


@pytest.mark.parametrize(
    ("activation", "depth", "init"),
    [("relu", 2, "he"), ("relu", 4, "he"), ("gelu", 3, "he"), ("tanh", 4, "critical")],
)
def test_faster_than_sampling(record, activation, depth, init):
    """One thread, by turns, medians; iid sampling of 1e6 passes from 32,768."""
    network = cumprop.random_mlp(256, depth, 2100, activation, init)
    works = (Adaptive(1e-3), MonteCarlo(32_768))
    times = []
    with threadpool_limits(1):
        for _ in range(6):  # the first warms up
            spent = []
            for work in works:
                start = time.perf_counter()
                estimate = work.estimate(network)
                spent.append(time.perf_counter() - start)
                if work is works[0]:
                    status = estimate.status
            times.append(spent)
    mine, passes = np.median(times[1:], axis=0)
    ratio = passes / 32_768 * 1e6 / mine
    record(
        f"`adaptive` at ε = 0.001 against iid Monte Carlo on the clock, {activation} {init}, "
        f"n=256, L={depth}, one thread",
        f"{ratio:.0f}× faster ({mine:.3f} s; {status.split(',')[0]})",
        "≥ 50×",
        ratio >= 50,
    )


# --- blend -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "order"),
    [("relu n=32 L=4", 2), ("relu n=64 L=2", 1), ("gelu n=64 L=5", 3), ("digits", 2)],
)
@pytest.mark.parametrize("n_samples", [64, 1024, 16_384])
def test_blend_is_as_good_as_the_better(known, record, name, order, n_samples):
    """16 draws; one false alarm in 700 cells where both are alike."""
    it = next(k for k in known if k.name == name)
    found = []
    for draw in range(16):
        rngs = (np.random.default_rng([11, draw]) for _ in range(2))
        blend = Blend(order, n_samples=n_samples).estimate(it.network, rng=next(rngs)).mean
        samples = replicates(standardised(it.network)[0], n_samples, "antithetic", next(rngs)).mean
        found.append([it.vn_mse(mean)[0] for mean in (blend, samples)])
    of_order = it.vn_mse(Cumulant(order).estimate(standardised(it.network)[0]).mean)[0]
    blend, samples = np.transpose(found)
    better = np.full(16, of_order) if of_order < samples.mean() else samples
    excess = blend - better
    margin = 0.1 * better.mean() + 0.05 * samples.mean()
    margin += 3 * excess.std(ddof=1) / 4
    record(
        f"vn-MSE of `blend`, order {order} and {n_samples:,} antithetic samples, {name}, 16 draws",
        f"{blend.mean():.2g}; order {of_order:.2g}, samples {samples.mean():.2g}",
        f"≤ {better.mean() + margin:.2g}: the better half, and a tenth of it, a twentieth of "
        "the samples' and 3 s.e. more",
        blend.mean() <= better.mean() + margin,
    )
